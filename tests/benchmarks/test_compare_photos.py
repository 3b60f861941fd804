"""`make compare`: a sheet a photograph, a panel a paper."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks import compare_photos
from benchmarks.command import command
from stages.errors import InputError
from stages.sheet import Row
from tests.benchmarks.conftest import Told, noise

Finish = Callable[..., Path]


def compare(runs: Path, *arguments: object) -> None:
    command(["compare", *map(str, arguments), "--runs", str(runs), "--device", "cpu"])


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """By sheet, what is written above its panels; the sheets are made too."""
    written: list[list[str]] = []
    make = compare_photos.sheet

    def note(path: Path, title: str, rows: Sequence[Row]) -> None:
        written.append([panel.caption for row in rows for panel in row.panels])
        make(path, title, rows)

    monkeypatch.setattr(compare_photos, "sheet", note)
    return written


def test_a_sheet_for_each_photograph(
    finish: Finish,
    told: dict[str, Told],
    captions: list[list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finish("pets-small-tiny", "faster")
    finish("pets-small-tiny", "fast-old")
    # Each is shown from its own scores on.
    finish("pets-small-tiny", "fast-new", usual_scores={"cat": 0.0, "dog": -2.0})
    photos = [noise(tmp_path / "photos" / name) for name in ("a.jpg", "sub/a.jpg")]
    compare(tmp_path / "runs", *photos)
    assert len(captions) == 2
    for fast, faster in captions:
        # The papers' order, not that of their names or times.
        assert re.fullmatch(r"Fast R-CNN, new\n3 detections in [\d.]+ m?s", fast)
        assert re.fullmatch(r"Faster R-CNN\n2 detections in [\d.]+ m?s", faster)
    out = tmp_path / "runs" / "compared" / "pets-small"
    said = capsys.readouterr()
    for line, name in zip(said.out.splitlines(), ("a.jpg", "sub/a.jpg"), strict=True):
        assert (out / f"{name}.png").stat().st_size > 1000
        assert line.startswith(f"{tmp_path / 'photos' / name}: Fast R-CNN, new: 3 detections in ")
        assert line.endswith(f"; {out / name}.png")
    assert "pets-small: 100%" in said.err
    assert f"-- Faster R-CNN: {tmp_path / 'runs/pets-small-tiny/faster'}\n" in said.err
    # Each has looked at the first once before, uncounted: the first detection is slower.
    assert {name: len(model.sizes) for name, model in told.items()} == {"fast-new": 3, "faster": 3}


def test_one_folder_of_runs(
    finish: Finish, told: dict[str, Told], captions: list[list[str]], tmp_path: Path
) -> None:
    for name in ("fast", "faster"):
        finish("pets-small-tiny", name)
    finish("cells-small-tiny", "fast", usual_scores={})
    photo = noise(tmp_path / "a.jpg")
    options = ["--runs-folder", "cells-small-tiny", "--out", tmp_path / "out"]
    compare(tmp_path / "runs", photo, *options)
    ((caption,),) = captions
    assert caption.startswith("Fast R-CNN\n0 detections in ")
    assert (tmp_path / "out" / "a.jpg.png").exists()


def test_rows_are_equally_long(
    finish: Finish,
    told: dict[str, Told],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("fast", "faster"):
        finish("pets-small-tiny", name)
    lengths: list[list[int]] = []
    monkeypatch.setattr(
        compare_photos,
        "sheet",
        lambda path, title, rows: lengths.append([len(row.panels) for row in rows]),
    )
    photo = noise(tmp_path / "a.jpg")
    for columns in (1, 2, 5):
        monkeypatch.setattr(compare_photos, "COLUMNS", columns)
        compare(tmp_path / "runs", photo)
    assert lengths == [[1, 1], [2], [2]]


def test_a_detector_that_cannot_be_loaded_is_left_out(
    finish: Finish,
    told: dict[str, Told],
    captions: list[list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged, sound = finish("pets-small-tiny", "fast"), finish("pets-small-tiny", "faster")
    shutil.rmtree(damaged / "model")
    photo = noise(tmp_path / "a.jpg")
    compare(tmp_path / "runs", photo)
    assert [len(panels) for panels in captions] == [1]
    line = f"-- left out: Fast R-CNN: {damaged / 'model'}: damaged"
    assert line in capsys.readouterr().err.splitlines()
    shutil.rmtree(sound / "model")
    with pytest.raises(InputError, match=r"pets-small-tiny: none of its detectors can be loaded"):
        compare(tmp_path / "runs", photo)


def test_the_others_are_done_where_a_photograph_is_broken(
    finish: Finish, told: dict[str, Told], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish("pets-small-tiny", "fast")
    (tmp_path / "a.jpg").write_text("no photograph")
    noise(tmp_path / "b.jpg")
    with pytest.raises(InputError, match=r"^1 of 2 photographs are unreadable"):
        compare(tmp_path / "runs", f"{tmp_path}/*.jpg", "--out", tmp_path / "out")
    assert f"-- left out: {tmp_path / 'a.jpg'}: not readable" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.jpg.png"]


def test_a_micro_run_and_a_photograph(runs: Path, tmp_path: Path) -> None:
    compare(runs, noise(tmp_path / "a.jpg"), "--out", tmp_path / "out")
    assert (tmp_path / "out" / "a.jpg.png").stat().st_size > 1000
