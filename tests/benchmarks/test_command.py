"""The harness on a `micro` run: what it finds, times and draws."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.command import command
from benchmarks.detectors import find_runs
from stages.errors import InputError


def test_a_finished_run_is_timed_by_part_and_drawn(runs: Path) -> None:
    command(["--runs", str(runs), "--device", "cpu", "--images", "2", "--rates"])
    table = pd.read_csv(runs / "report" / "benchmark.csv")
    assert len(table) == 1
    row = table.iloc[0]
    metrics = json.loads((runs / "shapes-micro-tiny" / "rcnn" / "metrics.json").read_text())
    assert row["run"] == "rcnn"
    assert row["map"] == pytest.approx(metrics["result"]["voc07_map"], abs=1e-3)
    parts = {name.removeprefix("part: ") for name in table.columns if name.startswith("part: ")}
    assert parts == {"decode", "proposals", "warp", "convolutions", "head", "SVMs and boxes", "NMS"}
    # The parts are of the whole, and leave little of it out.
    total = sum(row[f"part: {part}"] for part in parts)
    assert 0.5 * row["seconds"] < total <= 1.001 * row["seconds"]
    assert row["seconds_without_proposals"] < row["seconds"]
    assert row["images_timed"] == 2
    for suffix in ("png", "svg"):
        assert (runs / "report" / f"speed_map.{suffix}").stat().st_size > 1000
    assert row["images_per_second"] == pytest.approx(1 / row["seconds"], rel=0.01)
    assert row["best_batch"] == 1
    page = (runs / "report" / "index.html").read_text()
    assert "make rcnn PRESET=micro" in page


def test_train_time_is_the_sum_of_the_manifests(runs: Path) -> None:
    metrics = find_runs(runs)[0].metrics
    seconds = {row["stage"]: row["seconds"] for row in metrics["stages"]}
    trained = ("fine_tune", "cache_features", "train_svms", "train_box_regressors")
    assert metrics["train_seconds"] == pytest.approx(
        sum(seconds[name] for name in trained), abs=0.01
    )


def test_no_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run"):
        command(["--runs", str(tmp_path), "--device", "cpu"])


def test_unreadable_metrics_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a" / "rcnn" / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: not readable"):
        find_runs(tmp_path)


def test_changed_data_is_refused(runs: Path, tmp_path: Path) -> None:
    from stages.store import Store

    run = find_runs(runs)[0]
    run.metrics["data_fingerprint"] = "another"
    with pytest.raises(InputError, match="has changed since"):
        run.data(Store(runs / "store"))
