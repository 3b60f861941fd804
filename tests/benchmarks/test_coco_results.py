"""One COCO file of all photographs: what pycocotools reads in it is what was found."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from benchmarks.coco_results import COCOResults
from benchmarks.detectors import Run
from benchmarks.shown import Shown

RUN = Run(Path("runs/pets-small-tiny/mask"), {"classes": ["cat", "dog", "never"]})
LEAST = np.array([0.7, 0.5, np.inf])


def found(masks: np.ndarray | None) -> Shown:
    return Shown(
        np.array([[1, 2, 30.5, 40], [5, 6, 70, 80]], np.float32),
        np.array([2, 1]),
        np.array([0.75, 0.5], np.float32),
        masks,
    )


def write(folder: Path, *shown: Shown) -> Path:
    results = COCOResults(RUN, LEAST)
    for number, one in enumerate(shown):
        results.add(Path(f"photos/{number}.jpg"), (90, 120), one)
    results.write(folder / "found.json")
    return folder / "found.json"


def test_it_is_a_coco_file(tmp_path: Path) -> None:
    empty = Shown(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), None)
    path = write(tmp_path, found(None), empty, found(None))
    coco = COCO(path)
    assert [image["file_name"] for image in coco.dataset["images"]] == [
        f"photos/{number}.jpg" for number in range(3)
    ]
    first = coco.loadImgs(1)[0]
    assert (first["width"], first["height"]) == (120, 90)
    assert {c["id"]: c["name"] for c in coco.dataset["categories"]} == {
        1: "cat",
        2: "dog",
        3: "never",
    }
    assert [len(coco.getAnnIds(imgIds=[n])) for n in (1, 2, 3)] == [2, 0, 2]
    dog, cat = coco.loadAnns(coco.getAnnIds(imgIds=[3]))
    assert dog == {
        "id": 3,
        "image_id": 3,
        "category_id": 2,
        "bbox": [1, 2, 29.5, 38],
        "score": 0.75,
        "area": 29.5 * 38,
        "iscrowd": 0,
    }
    assert cat["category_id"] == 1 and cat["bbox"] == [5, 6, 65, 74]


def test_its_annotations_are_cocos_results(tmp_path: Path) -> None:
    path = write(tmp_path, found(None), found(None))
    results = COCO(path).loadRes(json.loads(path.read_text())["annotations"])
    assert [row["score"] for row in results.dataset["annotations"]] == [0.75, 0.5, 0.75, 0.5]


def test_masks_are_run_lengths(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (2, 90, 120)).astype(bool)
    coco = COCO(write(tmp_path, found(masks)))
    for row, mask in zip(coco.loadAnns(coco.getAnnIds()), masks, strict=True):
        assert np.array_equal(coco.annToMask(row), mask)
        assert row["area"] == mask.sum()
        assert row["segmentation"]["size"] == [90, 120]


def test_it_says_of_what_and_from_which_scores_on(tmp_path: Path) -> None:
    info = json.loads(write(tmp_path, found(None)).read_text())["info"]
    assert info["description"] == "detections of runs/pets-small-tiny/mask"
    assert info["least_scores"] == {"cat": 0.7, "dog": 0.5}  # JSON has no infinity


@pytest.mark.parametrize("name", ["日本.jpg", os.fsdecode(b"caf\xe9.jpg"), 'a "b"\n.jpg'])
def test_any_name_leads_back_to_its_file(tmp_path: Path, name: str) -> None:
    results = COCOResults(RUN, LEAST)
    results.add(Path(name), (90, 120), found(None))
    results.write(tmp_path / "found.json")
    (image,) = json.loads((tmp_path / "found.json").read_text())["images"]
    assert image["file_name"] == name
