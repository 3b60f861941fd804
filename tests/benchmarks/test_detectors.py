"""Which finished runs are meant: the newest of a paper, exactly one, and those that go on one sheet."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.detectors import find_model, find_runs, find_side_by_side
from stages.errors import InputError

Finish = Callable[..., Path]


def names(runs: Path, folder: str = "") -> list[str]:
    found = find_side_by_side(runs, folder)
    return [f"{run.folder.parent.name}/{run.name}" for run in found]


def test_a_paper_is_its_newest_run(finish: Finish, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    finish("pets-small-tiny", "faster-z")
    finish("pets-small-tiny", "faster")
    newest = finish("cells-small-tiny", "faster-a")
    last = finish("cells-small-tiny", "rcnn")
    assert find_model(runs, "faster").folder == newest
    assert find_model(runs, "rcnn").folder == find_model(runs, "").folder == last
    # When a run is finished again, it is the newest.
    os.utime(runs / "pets-small-tiny" / "faster" / "metrics.json")
    assert find_model(runs, "faster").folder == runs / "pets-small-tiny" / "faster"
    assert find_model(runs, "").folder == runs / "pets-small-tiny" / "faster"


def test_a_run_by_its_name_and_exactly(
    finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    old = finish("pets-small-tiny", "fast")
    new = finish("cells-small-tiny", "fast")
    tagged = finish("cells-small-tiny", "fast-short")
    finish("pets-small-tiny", "fast-long")
    assert find_model(runs, "fast-short").folder == tagged
    assert find_model(runs, "pets-small-tiny/fast").folder == old
    assert find_model(runs, "cells-small-tiny/fast/").folder == new
    # As a shell completes it.
    monkeypatch.chdir(tmp_path)
    assert find_model(Path("runs"), "runs/pets-small-tiny/fast").name == "fast"


def test_what_is_not_there_is_said(finish: Finish, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(InputError, match="no finished run"):
        find_model(runs, "fast")
    with pytest.raises(InputError, match="no finished run"):
        find_side_by_side(runs)
    finish("pets-small-tiny", "rcnn")
    with pytest.raises(InputError, match=r"MODEL=fast: no finished run .* pets-small-tiny/rcnn$"):
        find_model(runs, "fast")
    with pytest.raises(InputError, match=r"MODEL=fasr: neither .* pets-small-tiny/rcnn$"):
        find_model(runs, "fasr")
    with pytest.raises(InputError, match=r"MODEL=cells-small-tiny/rcnn: neither"):
        find_model(runs, "cells-small-tiny/rcnn")
    with pytest.raises(InputError, match=r"runs/cells: no finished run; there .* pets-small-tiny$"):
        find_side_by_side(runs, "cells")


def test_metrics_that_are_no_object_are_named(finish: Finish, tmp_path: Path) -> None:
    (finish("pets-small-tiny", "rcnn") / "metrics.json").write_text("[]")
    with pytest.raises(InputError, match=r"rcnn/metrics\.json: not readable: no JSON object"):
        find_runs(tmp_path / "runs")


def test_side_by_side_is_the_newest_of_each_paper(finish: Finish, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    finish("pets-small-tiny", "ssd")
    finish("pets-small-tiny", "mask")
    finish("pets-small-tiny", "fast-z")
    finish("pets-small-tiny", "fast-a")
    finish("pets-small-vgg16", "rcnn")  # another network will do, another preset will not
    finish("pets-micro-tiny", "faster")
    # In the papers' order, rivals last.
    wanted = ["small-vgg16/rcnn", "small-tiny/fast-a", "small-tiny/mask", "small-tiny/ssd"]
    assert names(runs) == [f"pets-{name}" for name in wanted]
    assert names(runs, "pets-small-tiny") == [f"pets-{name}" for name in wanted[1:]]
    assert names(runs, f"{runs}/pets-micro-tiny/") == ["pets-micro-tiny/faster"]


def test_of_several_data_sets_that_with_most_papers_then_the_newest(
    finish: Finish, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    for name in ("rcnn", "fast"):
        finish("pets-small-tiny", name)
    for name in ("fast", "fast-a", "fast-b"):
        finish("cells-small-tiny", name)
    assert names(runs) == ["pets-small-tiny/rcnn", "pets-small-tiny/fast"]
    finish("cells-small-tiny", "spp")
    assert names(runs) == ["cells-small-tiny/spp", "cells-small-tiny/fast-b"]
    finish("pets-small-tiny", "rcnn-again")
    assert names(runs) == ["pets-small-tiny/rcnn-again", "pets-small-tiny/fast"]
