"""Detection over a split: every image with its own record, killed or not, to the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stages.data.records import Record
from stages.detect import SHARD, Detection, detect_split
from stages.shards import shards
from stages.store import Job

IMAGES = SHARD + 4  # two shards, the second of them short


@dataclass(frozen=True)
class Pictures:
    """A test split whose n-th image is grey of the value n."""

    test: list[Record]
    train: tuple[Record, ...] = ()
    classes: tuple[str, ...] = ("one", "two")
    category_ids: tuple[int, ...] = (7, 3)
    name: str = "greys"
    fingerprint: str = "greys"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    folder = tmp_path_factory.mktemp("greys")
    records = []
    for n in range(IMAGES):
        # Ids whose order as text is not the order of the images.
        path = folder / f"{IMAGES - n}.png"
        Image.fromarray(np.full((6, 8, 3), n, np.uint8)).save(path)
        nothing = np.zeros(0, bool)
        records.append(
            Record(
                path.stem,
                path,
                8,
                6,
                np.zeros((0, 4), np.float32),
                np.zeros(0, np.int64),
                nothing,
                nothing,
            )
        )
    return Pictures(records)


def found(count: int, score: float) -> Detection:
    return {
        "boxes": torch.tensor([[0.0, 0, 8, 6]] * count).reshape(-1, 4),
        "labels": torch.full((count,), 2),
        "scores": torch.full((count,), score),
    }


def grey_value(image: Tensor, record: Record) -> dict[str, Detection]:
    """The image's value as the score of one detection; of every third image, none."""
    assert image.dtype == torch.uint8
    assert image.shape == (3, 6, 8)
    n = int(image[0, 0, 0])
    return {"detections": found(0 if n % 3 == 0 else 1, n), "other": found(2, -n)}


def rows(path: Path) -> list[dict[str, object]]:
    loaded = json.loads(path.read_text())
    assert isinstance(loaded, list)
    return loaded


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_with_its_record(data: Pictures, tmp_path: Path, workers: int) -> None:
    detect_split(Job(tmp_path, workers=workers), data, grey_value)
    scores = {row["image_id"]: row["score"] for row in rows(tmp_path / "detections.json")}
    assert scores == {r.image_id: n for n, r in enumerate(data.test) if n % 3}
    others = rows(tmp_path / "other.json")
    assert len(others) == 2 * IMAGES
    assert {(row["image_id"], row["score"]) for row in others} == {
        (r.image_id, -n) for n, r in enumerate(data.test)
    }
    assert all(row["category_id"] == 3 and row["bbox"] == [0, 0, 8, 6] for row in others)


def test_only_the_results_are_left(data: Pictures, tmp_path: Path) -> None:
    detect_split(Job(tmp_path), data, grey_value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["detections.json", "other.json"]


def test_no_detection_in_any_image_is_an_empty_file(data: Pictures, tmp_path: Path) -> None:
    detect_split(Job(tmp_path), data, lambda image, record: {"detections": found(0, 0)})
    assert rows(tmp_path / "detections.json") == []


def test_one_that_died_goes_on_to_the_same_bytes(data: Pictures, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    detect_split(Job(whole), data, grey_value)

    with pytest.raises(ZeroDivisionError):
        detect_split(Job(killed), data, dying_at(SHARD + 2))
    assert not list(killed.glob("*.json"))
    # What a kill leaves of a shard that was being written.
    second = shards(killed / "shards", IMAGES, SHARD, ".npz")[1].path
    second.with_name(f".{second.name}").write_bytes(b"half")

    seen: list[str | int] = []

    def recorded(image: Tensor, record: Record) -> dict[str, Detection]:
        seen.append(record.image_id)
        return grey_value(image, record)

    detect_split(Job(killed), data, recorded)
    assert seen == [record.image_id for record in data.test[SHARD:]]
    for name in ("detections.json", "other.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_a_damaged_shard_is_made_again(
    data: Pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError):
        detect_split(Job(tmp_path), data, dying_at(SHARD + 2))
    first = shards(tmp_path / "shards", IMAGES, SHARD, ".npz")[0].path
    first.write_bytes(first.read_bytes()[:-9])
    detect_split(Job(tmp_path), data, grey_value)
    assert f"{first}: damaged" in capsys.readouterr().err
    scores = {row["image_id"]: row["score"] for row in rows(tmp_path / "detections.json")}
    assert scores == {r.image_id: n for n, r in enumerate(data.test) if n % 3}


def dying_at(n: int) -> Callable[[Tensor, Record], dict[str, Detection]]:
    def detect(image: Tensor, record: Record) -> dict[str, Detection]:
        if int(image[0, 0, 0]) == n:
            raise ZeroDivisionError
        return grey_value(image, record)

    return detect


def test_masks_of_any_length_go_through_to_the_file(data: Pictures, tmp_path: Path) -> None:
    # Six by eight: nothing, everything, and a chequered mask whose run lengths are long.
    masks = [b"`1", b"0`1", b"011" + b"0" * 46]

    def detect(image: Tensor, record: Record) -> dict[str, Detection]:
        n = int(image[0, 0, 0]) % 4  # detections: none, one, two, three
        return {"detections": {**found(n, 0.5), "segmentation": np.array(masks[:n], np.bytes_)}}

    detect_split(Job(tmp_path), data, detect)
    by_image: dict[object, list[object]] = {}
    for row in rows(tmp_path / "detections.json"):
        by_image.setdefault(row["image_id"], []).append(row["segmentation"])
    assert by_image == {
        record.image_id: [{"size": [6, 8], "counts": mask.decode()} for mask in masks[: n % 4]]
        for n, record in enumerate(data.test)
        if n % 4
    }


def test_arrays_that_only_pickle_would_keep_are_refused(data: Pictures, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        detect_split(
            Job(tmp_path),
            data,
            lambda image, record: {"detections": {"segmentation": np.array([b"1", None])}},
        )
