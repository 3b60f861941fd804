"""`make detect`: a finished model on photographs, and what is said when one or the other is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from benchmarks import shown
from benchmarks.command import command
from mask_rcnn.detector import save
from stages.errors import InputError
from stages.pictures import tint
from tests.benchmarks.conftest import Told, noise
from tests.mask_rcnn.conftest import SMALL, lively

Finish = Callable[..., Path]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return noise(tmp_path / "photo.png")


def detect(runs: Path, *arguments: object) -> None:
    command(["detect", *map(str, arguments), "--runs", str(runs), "--device", "cpu"])


def results(path: Path) -> dict[str, Any]:
    return json.loads((path / "detections.json").read_text())


def test_what_is_found_is_printed_and_drawn(
    runs: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [photo, "--model", "rcnn"]
    detect(runs, *options, "--threshold=-1e9")
    first, *lines, last = capsys.readouterr().out.splitlines()
    out = runs / "detections" / "shapes-micro-tiny" / "rcnn"
    assert first == f"{photo}: {len(lines)} detections; {out / 'photo.png.png'}"
    assert last == f"{runs / 'shapes-micro-tiny' / 'rcnn'}: {out / 'detections.json'}"
    assert (out / "photo.png.png").stat().st_size > 1000
    metrics = json.loads((runs / "shapes-micro-tiny/rcnn/metrics.json").read_text())
    assert len(lines) > 5
    boxes = []
    for line in lines:
        name, score, _, *box = line.split()
        assert name in metrics["classes"]
        assert float(score) > -1e9
        x1, y1, x2, y2 = map(float, box)
        assert 0 <= x1 < x2 <= 120 and 0 <= y1 < y2 <= 90
        boxes.append([x1, y1, x2 - x1, y2 - y1])
    rows = results(out)["annotations"]
    assert np.allclose([row["bbox"] for row in rows], boxes, atol=0.11)
    # A threshold of one's own, and each class's usual one.
    detect(runs, *options, "--threshold", "1e9")
    assert capsys.readouterr().out == f"{photo}: 0 detections; {out / 'photo.png.png'}\n{last}\n"
    assert results(out)["annotations"] == []
    detect(runs, *options, "--out", tmp_path / "mine")
    fewer = capsys.readouterr().out.splitlines()[1:-1]
    usual = metrics["usual_scores"]
    assert fewer == [
        line for line in lines if float(line.split()[1]) >= usual[line.split()[0]] - 5e-4
    ]
    assert len(results(tmp_path / "mine")["annotations"]) == len(fewer)


def test_many_in_one_call(
    finish: Finish, told: dict[str, Told], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish("pets-small-tiny", "faster")
    names = ["a.jpg", "sub/a.jpg", "sub/a.png"]
    photos = [noise(tmp_path / "my photos" / name, 60 + n, 40) for n, name in enumerate(names)]
    detect(tmp_path / "runs", f"{tmp_path}/my photos/**", "--out", tmp_path / "out")
    said = capsys.readouterr()
    pictures = [tmp_path / "out" / f"{name}.png" for name in names]
    assert said.out.splitlines() == [
        *(f"{a}: 2 detections; {b}" for a, b in zip(photos, pictures, strict=True)),
        f"{run}: {tmp_path / 'out' / 'detections.json'}",
    ]
    assert "faster: 100%" in said.err and "3/3" in said.err
    # A dog of -1 in each; and no score of class "never" is known.
    assert said.err.splitlines()[-1] == (
        "-- not shown: 3 detections below the class's score; anything of 1 class without a score "
        "(none was found in the test split): never (ARGS='--threshold S': all from S on)"
    )
    assert all(picture.stat().st_size > 1000 for picture in pictures)
    assert told["faster"].sizes == [(3, 40, 60), (3, 40, 61), (3, 40, 62)]
    coco = COCO(tmp_path / "out" / "detections.json")
    assert [image["file_name"] for image in coco.dataset["images"]] == list(map(str, photos))
    assert [row["score"] for row in coco.dataset["annotations"]] == [0.75, 0.5] * 3


def test_nothing_is_said_where_all_is_shown(
    finish: Finish,
    told: dict[str, Told],
    tmp_path: Path,
    photo: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finish("pets-small-tiny", "faster")
    detect(tmp_path / "runs", photo, "--threshold=-1")
    assert "not shown" not in capsys.readouterr().err
    detect(tmp_path / "runs", photo, "--threshold=0.6")
    assert "-- not shown: 2 detections below the class's score (ARGS=" in capsys.readouterr().err


def test_the_newest_run_of_a_paper_or_of_any(
    finish: Finish, told: dict[str, Told], tmp_path: Path, photo: Path
) -> None:
    for name in ("faster-old", "faster-new", "fast"):
        finish("pets-small-tiny", name)
    detect(tmp_path / "runs", photo)
    assert list(told) == ["fast"]
    detect(tmp_path / "runs", photo, "--model", "faster")
    assert list(told) == ["fast", "faster-new"]
    detect(tmp_path / "runs", photo, "--model", "pets-small-tiny/faster-old")
    assert list(told) == ["fast", "faster-new", "faster-old"]
    # None has written where another had.
    assert len(list(tmp_path.glob("runs/detections/pets-small-tiny/*/photo.png.png"))) == 3


def test_the_others_are_done_where_one_is_broken(
    finish: Finish, told: dict[str, Told], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish("pets-small-tiny", "fast")
    for name in ("a.jpg", "c.jpg"):
        noise(tmp_path / "photos" / name)
    (tmp_path / "photos" / "b.jpg").write_text("no photograph")
    with pytest.raises(InputError, match=r"^1 of 3 photographs are unreadable"):
        detect(tmp_path / "runs", tmp_path / "photos", "--out", tmp_path / "out")
    said = capsys.readouterr()
    assert f"-- left out: {tmp_path / 'photos' / 'b.jpg'}: not readable" in said.err
    assert len(said.out.splitlines()) == 3
    assert [Path(image["file_name"]).name for image in results(tmp_path / "out")["images"]] == [
        "a.jpg",
        "c.jpg",
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "a.jpg.png",
        "c.jpg.png",
        "detections.json",
    }


def test_an_interrupted_call_leaves_what_was_found(
    finish: Finish,
    told: dict[str, Told],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish("pets-small-tiny", "fast")
    for n in range(5):
        noise(tmp_path / "photos" / f"{n}.jpg")
    find = Told.__call__

    def stopped(model: Told, images: Any) -> Any:
        if len(model.sizes) == 3:
            raise KeyboardInterrupt
        return find(model, images)

    monkeypatch.setattr(Told, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        detect(tmp_path / "runs", tmp_path / "photos", "--out", tmp_path / "out")
    assert len(results(tmp_path / "out")["images"]) == 3


def test_what_was_found_is_kept_while_others_are_looked_at(
    finish: Finish,
    told: dict[str, Told],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish("pets-small-tiny", "fast")
    for n in range(3):
        noise(tmp_path / "photos" / f"{n}.jpg")
    find = Told.__call__
    kept = []

    def look(model: Told, images: Any) -> Any:
        if model.sizes:
            kept.append(len(results(tmp_path / "out")["images"]))
        return find(model, images)

    monkeypatch.setattr(Told, "__call__", look)
    monkeypatch.setattr("benchmarks.detect.KEPT", 0.0)
    detect(tmp_path / "runs", tmp_path / "photos", "--out", tmp_path / "out")
    assert kept == [1, 2]


def test_a_model_that_is_not_there_is_said(runs: Path, photo: Path) -> None:
    with pytest.raises(InputError, match=r"MODEL=faster: no finished run .*shapes-micro-tiny/rcnn"):
        detect(runs, photo, "--model", "faster")


def test_no_run_is_one_clear_line(tmp_path: Path, photo: Path) -> None:
    with pytest.raises(InputError, match="no finished run; `make rcnn` makes one"):
        detect(tmp_path / "runs", photo)


def test_a_photograph_that_is_none_is_said(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"no photograph")
    for name in ("photo.jpg", "absent.jpg"):
        with pytest.raises(InputError, match=name):
            detect(runs, tmp_path / name, "--out", tmp_path / "out")
    # What an earlier call has found is left alone.
    assert not (tmp_path / "out" / "detections.json").exists()


def test_what_stands_in_the_way_is_said(
    finish: Finish, told: dict[str, Told], tmp_path: Path, photo: Path
) -> None:
    finish("pets-small-tiny", "fast")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: cannot be made a folder"):
        detect(tmp_path / "runs", photo, "--out", tmp_path / "file")
    other = noise(tmp_path / "photo.png.png")
    before = other.read_bytes()
    with pytest.raises(InputError, match=r"photo\.png\.png is one of the photographs"):
        detect(tmp_path / "runs", photo, other, "--out", tmp_path)
    assert other.read_bytes() == before
    assert not told  # no model was loaded for nothing


def test_masks_are_drawn(
    finish: Finish,
    tmp_path: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usual = {"cat": 2.0, "dog": 0.0}  # of "never" none
    run = finish("data-micro-tiny", "mask-mine", classes=SMALL.classes, usual_scores=usual)
    save(run / "model", SMALL, lively(SMALL).state_dict())
    tinted: list[tuple[np.ndarray, list[int]]] = []

    def note(pixels: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> np.ndarray:
        tinted.append((masks, labels.tolist()))
        return tint(pixels, masks, labels)

    monkeypatch.setattr(shown, "tint", note)
    detect(tmp_path / "runs", photo, "--model", "mask-mine")
    first, *lines, _ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{photo}: {len(lines)} detections; ")
    out = tmp_path / "runs" / "detections" / "data-micro-tiny" / "mask-mine"
    assert (out / "photo.png.png").stat().st_size > 1000
    ((masks, labels),) = tinted
    assert masks.shape == (len(lines), 90, 120)
    assert masks.any()
    # Of what is shown, no others.
    assert labels == [2] * len(lines)
    assert all(line.strip().startswith("dog ") for line in lines)
    # And the same in the COCO file.
    coco = COCO(out / "detections.json")
    written = [coco.annToMask(row) for row in coco.dataset["annotations"]]
    assert np.array_equal(written, masks)
