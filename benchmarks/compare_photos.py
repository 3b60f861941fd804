"""`make compare IMAGE=photo.jpg`: what each paper's newest detector finds in a photograph, on one sheet."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.detectors import Run, find_side_by_side
from benchmarks.photographs import (
    add_limit,
    decoded,
    make_folder,
    photographs,
    pictures_of,
    printable,
)
from benchmarks.report.figures.canvas import spelled
from benchmarks.report.look import labels
from benchmarks.shown import detect_in, least_scores
from stages.device import choose_device
from stages.errors import InputError, expand
from stages.sheet import in_rows, sheet

COLUMNS = 5  # at most: the papers in one row


@dataclass(frozen=True, eq=False)
class Compared:
    """A detector on the sheet; `least` as `least_scores` has it."""

    run: Run
    label: str
    model: Any
    least: np.ndarray


def compare_photos(arguments: Sequence[str]) -> None:
    """A sheet for each photograph, a panel a detector: what it finds and the seconds that took.

    All were trained on the same data with the same preset: see `find_side_by_side`. The sheets go
    to `--out`, or to `<runs>/compared/<data>-<preset>/`, over what an earlier call has left there.

    Raises:
        InputError: there is no such image or no detector; at the end, if some images were unreadable.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare")
    parser.add_argument("images", nargs="+", help="files, folders, or globs in quotes")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument(
        "--runs-folder",
        default="",
        help="only the runs of this folder of --runs; without it the data set and preset with "
        "the most papers, then the newest",
    )
    parser.add_argument("--out", type=str, help="folder for the sheets")
    parser.add_argument("--device", default="auto")
    add_limit(parser)
    options = parser.parse_args(arguments)
    paths = photographs(options.images)
    runs = find_side_by_side(options.runs, options.runs_folder)
    named = f"{runs[0].metrics['data']}-{runs[0].metrics['preset']}"
    out = expand(options.out) if options.out else options.runs / "compared" / named
    sheets = dict(zip(paths, pictures_of(paths, out), strict=True))
    make_folder(out)
    detectors = _loaded(runs, choose_device(options.device))
    rows = math.ceil(len(detectors) / COLUMNS)
    columns = math.ceil(len(detectors) / rows)
    warm = False
    for path, pixels in decoded(paths, named, options.most_pixels):
        panels, line = [], []
        for one in detectors:
            if not warm:  # the first detection also pays for what is made once
                detect_in(pixels, one.model, one.least)
            started = time.perf_counter()
            shown = detect_in(pixels, one.model, one.least)
            seconds = spelled(time.perf_counter() - started)
            caption = f"{one.label}\n{shown.counted} in {seconds}"
            panels.append(shown.panel(pixels, caption, one.run.metrics["classes"]))
            line.append(f"{one.label}: {shown.counted} in {seconds}")
        warm = True
        make_folder(sheets[path].parent)
        sheet(sheets[path], f"trained on {named}", in_rows(panels, columns))
        # Not print: a progress bar may be in its way.
        tqdm.write(f"{printable(path)}: {'; '.join(line)}; {printable(sheets[path])}")


def _loaded(runs: Sequence[Run], device: str) -> list[Compared]:
    """Those that can be loaded; of the others a line on stderr says why not."""
    rows = [
        {"tag": "", **run.metrics, "folder": f"{run.folder.parent.name}/{run.name}"} for run in runs
    ]
    detectors = []
    for run, label in zip(runs, labels(rows), strict=True):
        try:
            detectors.append(Compared(run, label, run.detector(device), least_scores(run, None)))
        except InputError as error:  # of an older version, say
            print(f"-- left out: {label}: {error.line}", file=sys.stderr, flush=True)
        else:
            print(f"-- {label}: {printable(run.folder)}", file=sys.stderr, flush=True)
    if not detectors:
        raise InputError(f"{runs[0].folder.parent}: none of its detectors can be loaded")
    return detectors
