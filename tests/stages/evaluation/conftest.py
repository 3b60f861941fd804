"""Made-up test sets: objects, and detections about as good as a detector's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from stages.data.records import Record


@dataclass(frozen=True)
class Scene:
    records: list[Record]
    detections: dict[str | int, dict[str, np.ndarray]]


def make_record(
    image_id: str | int,
    boxes: list[list[float]],
    labels: list[int] | None = None,
    difficult: list[bool] | None = None,
    iscrowd: list[bool] | None = None,
) -> Record:
    n = len(boxes)
    return Record(
        image_id=image_id,
        path=Path(f"{image_id}.jpg"),
        width=400,
        height=400,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array([1] * n if labels is None else labels, np.int64),
        difficult=np.array([False] * n if difficult is None else difficult, bool),
        iscrowd=np.array([False] * n if iscrowd is None else iscrowd, bool),
    )


def make_detections(
    boxes: list[list[float]], scores: list[float], labels: list[int] | None = None
) -> dict[str, np.ndarray]:
    return {
        "boxes": np.array(boxes, np.float64).reshape(-1, 4),
        "labels": np.array([1] * len(boxes) if labels is None else labels, np.int64),
        "scores": np.array(scores, np.float64),
    }


def make_scene(
    seed: int,
    n_images: int = 30,
    n_classes: int = 3,
    difficult: float = 0.0,
    apart: bool = False,
    ties: bool = False,
) -> Scene:
    """Coordinates are quarters of a pixel, so that areas are exact in any arithmetic.

    Args:
        difficult: the share of objects that are.
        apart: no two objects meet, and no detection overlaps two; otherwise they crowd.
        ties: scores take few values.
    """
    r = np.random.default_rng(seed)
    records, detections = [], {}
    for i in range(n_images):
        n = int(r.integers(0, 8))
        cells = r.permutation(16)[:n]
        corner = np.stack([cells % 4, cells // 4], axis=1) * 100.0 + r.integers(20, 30, (n, 2))
        if not apart:
            corner = r.integers(0, 160, (n, 2)) / 2
        boxes = np.concatenate([corner, corner + r.integers(12, 50, (n, 2))], axis=1)
        labels = r.integers(1, n_classes + 1, n)
        records.append(
            make_record(
                f"image {i}", boxes.tolist(), labels.tolist(), (r.random(n) < difficult).tolist()
            )
        )
        # Up to three looks at each object, and a few at nothing.
        looks = np.repeat(np.arange(n), r.integers(0, 4, n))
        noise = np.round(r.normal(0, 3, (len(looks), 4)) * 4) / 4
        n_false = int(r.integers(0, 4))
        false = r.integers(0, 360, (n_false, 2)).astype(float)
        pred = np.concatenate([boxes[looks] + noise, np.hstack([false, false + 18])])
        scores = np.concatenate([r.beta(4, 2, len(looks)), r.beta(2, 4, n_false)])
        detections[f"image {i}"] = {
            "boxes": pred,
            "labels": np.concatenate([labels[looks], r.integers(1, n_classes + 1, n_false)]),
            "scores": np.round(scores, 1) if ties else scores,
        }
    return Scene(records, detections)


def run_lengths(mask: np.ndarray) -> bytes:
    """Of a mask [H, W]."""
    return coco.encode(np.asfortranarray(mask, np.uint8))["counts"]


def rectangle(box: Sequence[float], width: int = 400, height: int = 400) -> bytes:
    """Run lengths of a box of whole pixels."""
    x1, y1, x2, y2 = (int(value) for value in box)
    mask = np.zeros((height, width), bool)
    mask[y1:y2, x1:x2] = True
    return run_lengths(mask)


def make_masked(record: Record, masks: Sequence[bytes]) -> Record:
    return replace(record, segmentations=tuple(masks))


def make_rectangles(scene: Scene) -> Scene:
    """The scene with all boxes rounded to whole pixels inside the image, and masks that fill them.

    Then masks overlap exactly as their boxes do.
    """
    records, detections = [], {}
    for record in scene.records:
        boxes = np.round(record.boxes).clip(0, 400)
        masks = [rectangle(box) for box in boxes]
        records.append(make_masked(replace(record, boxes=boxes), masks))
    for image_id, found in scene.detections.items():
        boxes = np.round(found["boxes"]).clip(0, 400)
        masks = np.array([rectangle(box) for box in boxes], np.bytes_)
        detections[image_id] = {**found, "boxes": boxes, "segmentation": masks}
    return Scene(records, detections)


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def detected() -> Callable[..., dict[str, np.ndarray]]:
    return make_detections


@pytest.fixture
def scene() -> Callable[..., Scene]:
    return make_scene


@pytest.fixture
def masked() -> Callable[..., Record]:
    return make_masked


@pytest.fixture
def rle() -> Callable[..., bytes]:
    return run_lengths


@pytest.fixture
def filled() -> Callable[..., bytes]:
    return rectangle


@pytest.fixture
def rectangles() -> Callable[[Scene], Scene]:
    return make_rectangles
