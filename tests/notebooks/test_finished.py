"""The run that a notebook looks into: where it is, and what is said when there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notebooks.finished import ROOT, bench_table, open_run, runs_folder
from stages.errors import InputError


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNS", str(tmp_path))
    monkeypatch.setenv("PRESET", "micro")
    folder = tmp_path / "shapes-micro-tiny" / "fast"
    folder.mkdir(parents=True)
    names = ("train_rpn-1", "detect-1", "train_rpn-2")
    stages = [{"stage": name.partition("-")[0], "artifact": name} for name in names]
    (folder / "metrics.json").write_text(json.dumps({"paper": "fast", "stages": stages}))
    (tmp_path / "store" / "train_rpn-2").mkdir(parents=True)
    return tmp_path


def test_it_is_the_one_that_the_environment_names(runs: Path) -> None:
    run = open_run("fast")
    assert run.folder == runs / "shapes-micro-tiny" / "fast"
    assert run.metrics["paper"] == "fast"


def test_without_an_environment_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNS", raising=False)
    monkeypatch.delenv("PRESET", raising=False)
    assert runs_folder() == ROOT / "runs"
    with pytest.raises(InputError, match=r"my_data-small-vgg16/rcnn-tuned: .* make rcnn makes it"):
        open_run("rcnn-tuned", "my_data", "vgg16")


def test_a_missing_run_names_its_command(runs: Path) -> None:
    with pytest.raises(InputError, match=r"shapes-micro-tiny/mask: no finished run; make mask "):
        open_run("mask")


def test_a_stage_is_its_folder_and_the_last_of_several(runs: Path) -> None:
    assert open_run("fast").stage("train_rpn") == runs / "store" / "train_rpn-2"


def test_a_stage_that_is_gone_names_the_command(runs: Path) -> None:
    with pytest.raises(InputError, match=r"detect-1: is gone; make fast "):
        open_run("fast").stage("detect")


def test_the_harness_has_to_have_run(runs: Path) -> None:
    with pytest.raises(InputError, match=r"benchmark\.csv: missing; make bench "):
        bench_table()
    (runs / "report").mkdir()
    (runs / "report" / "benchmark.csv").write_text("paper,seconds\nfast,2.5\n")
    (row,) = bench_table().to_dict("records")
    assert row == {"paper": "fast", "seconds": 2.5}
