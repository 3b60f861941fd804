"""`make detect`: a finished model on a photograph, and what is said when there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.command import command
from benchmarks.detect import find_model
from mask_rcnn.detector import save
from stages.errors import InputError
from stages.pictures import tint
from tests.mask_rcnn.conftest import SMALL, lively


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((120, 90)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_what_is_found_is_printed_and_drawn(
    runs: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", "rcnn", "--runs", str(runs), "--device", "cpu"]
    command(["detect", str(photo), *options, "--threshold=-1e9"])
    first, *lines = capsys.readouterr().out.splitlines()
    picture = runs / "detections" / "photo-rcnn.png"
    assert first == f"{photo}: {len(lines)} detections; {picture}"
    assert picture.stat().st_size > 1000
    metrics = json.loads((runs / "shapes-micro-tiny/rcnn/metrics.json").read_text())
    assert len(lines) > 5
    for line in lines:
        name, score, _, *box = line.split()
        assert name in metrics["classes"]
        assert float(score) > -1e9
        x1, y1, x2, y2 = map(float, box)
        assert 0 <= x1 < x2 <= 120 and 0 <= y1 < y2 <= 90
    # A threshold of one's own, and each class's usual one.
    command(["detect", str(photo), *options, "--threshold", "1e9"])
    assert capsys.readouterr().out == f"{photo}: 0 detections; {picture}\n"
    command(["detect", str(photo), *options])
    fewer = capsys.readouterr().out.splitlines()[1:]
    usual = metrics["usual_scores"]
    assert fewer == [
        line for line in lines if float(line.split()[1]) >= usual[line.split()[0]] - 5e-4
    ]


def test_a_model_by_its_folder_too(runs: Path) -> None:
    assert find_model(runs, "rcnn") == find_model(runs, "shapes-micro-tiny/rcnn")


def test_a_model_that_is_not_there_is_said(runs: Path, photo: Path) -> None:
    with pytest.raises(InputError, match=r"MODEL=faster: is none of .*shapes-micro-tiny/rcnn"):
        command(["detect", str(photo), "--model", "faster", "--runs", str(runs)])


def test_a_photograph_that_is_none_is_said(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"no photograph")
    for name in ("photo.jpg", "absent.jpg"):
        with pytest.raises(InputError, match=name):
            command(["detect", str(tmp_path / name), "--model", "rcnn", "--runs", str(runs)])


def test_masks_are_drawn(
    tmp_path: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "runs" / "data-micro-tiny" / "mask-mine"
    model = lively(SMALL)
    save(folder / "model", SMALL, model.state_dict())
    usual = {"cat": 2.0, "dog": 0.0}  # of "never" none
    told = {"paper": "mask", "classes": SMALL.classes, "usual_scores": usual}
    (folder / "metrics.json").write_text(json.dumps(told))
    tinted: list[tuple[np.ndarray, list[int]]] = []

    def note(pixels: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
        tinted.append((masks, labels.tolist()))
        return tint(pixels, masks, labels)

    monkeypatch.setattr("benchmarks.detect.tint", note)
    options = ["--model", "mask-mine", "--runs", str(tmp_path / "runs"), "--device", "cpu"]
    command(["detect", str(photo), *options])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{photo}: {len(lines)} detections; ")
    assert (tmp_path / "runs" / "detections" / "photo-mask-mine.png").stat().st_size > 1000
    ((masks, labels),) = tinted
    assert masks.shape == (len(lines), 90, 120)
    assert masks.any()
    # Of what is shown, no others.
    assert labels == [2] * len(lines)
    assert all(line.strip().startswith("dog ") for line in lines)
