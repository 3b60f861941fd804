"""`make bench`: time every finished detector again, by part; a tidy CSV, figures and a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.detectors import Run, find_runs
from benchmarks.memory import features_memory, mining_memory
from benchmarks.rates import feature_rate, search_speedup
from benchmarks.report.commands import bench_command
from benchmarks.report.comparison import compare
from benchmarks.report.table import PART, row_of
from benchmarks.report.write import write_report
from benchmarks.timing import time_run
from stages.backbones.config import Name
from stages.data.records import Dataset
from stages.device import choose_device
from stages.errors import InputError
from stages.machine import cores, machine
from stages.store import Store


def bench(arguments: Sequence[str]) -> None:
    """Find, time, tabulate, plot. Writes `<runs>/report/benchmark.csv`, `write_report`'s figures and page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=8, help="test images to time")
    parser.add_argument(
        "--rates",
        nargs="*",
        default=("squeezenet1_1", "vgg16"),
        help="networks whose feature rate to hold against the bare network's; none: no rates",
    )
    parser.add_argument(
        "--memory", action="store_true", help="also R-CNN's memory (minutes, 4 GiB of disk)"
    )
    options = parser.parse_args(arguments)
    device = choose_device(options.device)
    store = Store(options.runs / "store", device, cores())
    report = options.runs / "report"
    report.mkdir(parents=True, exist_ok=True)
    runs, rows, here = [], [], machine(device)
    for run in find_runs(options.runs):
        if "result" not in run.metrics:
            continue  # a detector taken as it is, measured on nothing, has no place in the table
        print(f"-- timing {run.folder}", file=sys.stderr, flush=True)
        try:
            rows.append(row_of(run, _time(run, store, device, options.images, report), here))
        except (InputError, BrokenProcessPool) as error:
            # Its data set is gone, say, or memory ended: the others are timed all the same.
            said = error.line if isinstance(error, InputError) else f"{run.folder}: {error}"
            print(f"-- left out: {said}", file=sys.stderr, flush=True)
            continue
        runs.append(run)
    if not runs:
        raise InputError(f"{options.runs}: no finished run that can be timed")
    table = pd.DataFrame(rows)
    comparisons = compare(runs, table, store)
    tidy = pd.concat([comparison.table for comparison in comparisons]).sort_values("folder")
    tidy.to_csv(report / "benchmark.csv", index=False, float_format="%.7g")
    print("-- figures and page", file=sys.stderr, flush=True)
    page = write_report(comparisons, report, bench_command(arguments))
    print(_text(table))
    if options.rates or options.memory:
        data = runs[0].data(store)
    if options.rates:
        rates = _rates(data, options.rates, device, report)
        rates.to_csv(report / "rates.csv", index=False, float_format="%.3f")
        for _, row in rates.iterrows():
            print(
                f"{row['what']}: {row['ours']:.1f} of {row['bare']:.1f} {row['unit']}: {row['ratio']:.2f}"
            )
    if options.memory:
        print(_memory(data, device, report))
    print(f"{report / 'benchmark.csv'}\n{page}")


def _time(run: Run, store: Store, device: str, images: int, report: Path) -> dict[str, Any]:
    test = run.data(store).test
    paths = [record.path for record in test[:: max(1, len(test) // images)][:images]]
    return time_run(run, paths, device, report / ".meter")


def _rates(data: Dataset, networks: Sequence[Name], device: str, report: Path) -> pd.DataFrame:
    rows = []
    for name in networks:
        print(f"-- feature rate of {name}", file=sys.stderr, flush=True)
        rate = feature_rate(data, name, device, cores(), report / "scratch")
        what = f"features with {name}, stage and bare network"
        rows.append(
            (what, rate["stage_rate"], rate["bare_rate"], "windows a second", rate["ratio"])
        )
    print("-- selective search by one process and by two", file=sys.stderr, flush=True)
    rate = search_speedup(data)
    what = "selective search, two processes and one"
    rows.append((what, rate["two"], rate["one"], "images a second", rate["ratio"]))
    return pd.DataFrame(rows, columns=["what", "ours", "bare", "unit", "ratio"])


def _memory(data: Dataset, device: str, report: Path) -> str:
    print("-- memory of the features stage and of mining", file=sys.stderr, flush=True)
    few, many = (features_memory(data, n, device, report / "scratch") for n in (50, 500))
    mined = mining_memory(data, 3.0, report / "scratch")
    return (
        f"features stage, peak: {few:.0f} MiB for 50 images, {many:.0f} MiB for 500: {many / few:.2f}\n"
        f"mining a cache of 3 GiB, peak: {mined:.0f} MiB"
    )


def _text(table: pd.DataFrame) -> str:
    lines = []
    for row in table.to_dict("records"):
        parts = [
            f"{name.removeprefix(PART)} {1000 * value:.0f}"
            for name, value in row.items()
            if str(name).startswith(PART) and value == value
        ]
        lines.append(
            f"{row['data']} {row['run']} ({row['backbone']}): "
            f"mAP {row['map']:.1f} [{row['map_low']:.1f}, {row['map_high']:.1f}]; "
            f"{row['seconds']:.3f} s an image "
            f"[quartiles {row['seconds_q1']:.3f}, {row['seconds_q3']:.3f}], "
            f"{row['seconds_without_proposals']:.3f} s without proposals; "
            f"in ms: {', '.join(parts)}; "
            f"{row['images_per_second']:.2f} images a second, {row['best_batch']} at once; "
            f"trained in {row['train_seconds']:.0f} s, {row['train_disk_mib']:.0f} MiB on disk; "
            f"peak {row['peak_memory_mib']} MiB"
        )
    return "\n".join(lines)
