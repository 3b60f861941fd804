"""R-CNN's pictures: all are drawn, whatever the data lacks, and they show what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rcnn_v1.hard_negatives import KEPT, HardNegatives
from rcnn_v1.pictures import draw_pictures
from rcnn_v1.window_pictures import hardest_negatives, training_crops
from stages.data.decode import image_of
from stages.evaluation.detections_io import save_detections
from stages.proposals.cache import write_proposals
from stages.store import Artifact, Job

Make = Callable[..., Any]
LEFT, RIGHT, FAR = [0, 0, 20, 20], [20, 20, 40, 40], [42, 28, 60, 48]
NAMES = {
    "proposals.png",
    "crops.png",
    "hardest_negatives.png",
    "detections.png",
    "best_detections.png",
    "worst_mistakes.png",
    "mistakes_by_kind.png",
}


def hard_negatives(classes: int, count: int, images: int) -> dict[str, np.ndarray]:
    """As the stage leaves them: `count` of each class, of images in turn."""
    scores = np.full((KEPT, classes), -np.inf, np.float32)
    scores[:count] = np.linspace(1, 0, count)[:, None]
    which = np.arange(KEPT * classes).reshape(KEPT, classes) % max(images, 1)
    boxes = np.tile(np.array(RIGHT, np.float32), (KEPT, classes, 1))
    return {"scores": scores, "images": which, "boxes": boxes}


def draw(folder: Path, data: Any, detections: Any, hard: int = 2) -> dict[str, np.ndarray]:
    """Every picture as pixels."""
    folder.mkdir()
    arrays = hard_negatives(len(data.classes), hard, len(data.train))
    np.savez(folder / "hard_negatives.npz", **arrays)  # type: ignore[arg-type]
    save_detections(folder / "detections.json", detections, data.category_ids)
    given = Artifact(folder, "given")
    draw_pictures(Job(folder), data, data.proposals, given, given, 32, 16 / 227, 100)
    drawn = {path.name: np.asarray(Image.open(path)) for path in folder.glob("*.png")}
    assert drawn.keys() == NAMES
    return drawn


def detected(*found: tuple[list[float], int, float]) -> dict[str, np.ndarray]:
    boxes, labels, scores = zip(*found, strict=True) if found else ((), (), ())
    return {
        "boxes": np.array(boxes, float).reshape(-1, 4),
        "labels": np.array(labels, np.int64),
        "scores": np.array(scores, float),
    }


def test_all_are_there_and_the_same_again(toy: Any, tmp_path: Path) -> None:
    found = {r.image_id: detected((LEFT, 1, 0.5), (RIGHT, 2, -0.5)) for r in toy.test}
    first, second = (draw(tmp_path / name, toy, found) for name in "ab")
    for name in NAMES:
        assert np.array_equal(first[name], second[name]), name


@pytest.mark.parametrize("lacking", ["objects", "proposals", "negatives", "all"])
def test_without(toy_of: Make, tmp_path: Path, lacking: str) -> None:
    bare = lacking == "all"
    objects = [] if bare or lacking == "objects" else [LEFT, RIGHT]
    proposals = [] if bare or lacking == "proposals" else [LEFT, FAR]
    data = toy_of([objects] * 2, [[1, 2][: len(objects)]] * 2, [proposals] * 2)
    found = {} if bare else {"000": detected((LEFT, 1, 2.0))}
    draw(tmp_path / "drawn", data, found, hard=0 if bare or lacking == "negatives" else 2)


@pytest.mark.parametrize("classes", [1, 80])
def test_one_class_and_eighty(toy_of: Make, tmp_path: Path, classes: int) -> None:
    names = tuple(f"class {i} of a very long name, and $" for i in range(classes))
    data = replace(
        toy_of([[LEFT]] * 3, [[classes]] * 3, [[LEFT, FAR]] * 3),
        classes=names,
        category_ids=tuple(range(1, classes + 1)),
    )
    found = {"001": detected((LEFT, classes, 2.0), (FAR, 1, 1.0))}
    drawn = draw(tmp_path / "drawn", data, found, hard=6)
    # Ten classes at most, each a row of about two inches.
    assert drawn["hardest_negatives.png"].shape[0] < 2500


def test_no_image_in_either_split(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([], [], [])
    write_proposals(data.proposals.path / "proposals.h5", [], [])
    draw(tmp_path / "drawn", data, {}, hard=0)


def test_a_hard_negative_is_its_window(toy_of: Make) -> None:
    data = toy_of([[LEFT], [RIGHT]], [[1], [2]], [[], []])
    hard = HardNegatives(
        np.array([[0.75, -np.inf], [-0.5, -np.inf]]),
        np.array([[1, 0], [0, 0]]),
        np.array([[RIGHT, LEFT], [FAR, LEFT]], np.float32),
    )
    rows = hardest_negatives(data, hard, [1, 2], side=20, context=0.0)
    assert [row.name for row in rows] == ["cat", "dog"]
    assert [p.caption for p in rows[0].panels] == ["0.75\ndog, IoU 1.00", "-0.50\nbackground"]
    assert rows[1].panels == []
    # Twenty pixels as they are: nothing is warped.
    expected = image_of(data.train[1])[20:40, 20:40]
    assert np.abs(rows[0].panels[0].image.astype(int) - expected).max() <= 1


def test_crops_are_objects_and_background(toy_of: Make) -> None:
    data = toy_of([[LEFT]], [[1]], [[FAR, [0, 0, 20, 8]]])
    objects, background = training_crops(data, data.reader, 20, 0.1)
    assert [p.caption for p in objects.panels] == ["cat, IoU 1.00"]
    assert sorted(p.caption for p in background.panels) == ["cat, IoU 0.00", "cat, IoU 0.40"]
