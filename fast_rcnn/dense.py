"""Boxes from a regular grid instead of selective search (Fast R-CNN, section 5.5)."""

from __future__ import annotations

from itertools import product

import numpy as np

from stages.data.records import Dataset
from stages.proposals.cache import write_proposals
from stages.proposals.stage import keep_recall
from stages.store import Job, stage

ASPECTS = (0.5, 1.0, 2.0)


def dense_boxes(width: int, height: int, smallest: float, step: float, sizes: int) -> np.ndarray:
    """Boxes of every size and aspect all over an image: float32 [R, 4] xyxy, the largest first.

    Args:
        smallest: shortest side of a square one, in pixels; each size is sqrt(2) times the one before.
        step: from one to the next, as a part of its side.
        sizes: how many.
    """
    boxes = []
    for size, aspect in product(range(sizes)[::-1], ASPECTS):
        w, h = (smallest * 2 ** (size / 2) * aspect**power for power in (0.5, -0.5))
        if w > width or h > height:
            continue
        left = np.linspace(0, width - w, 1 + int((width - w) / (step * w)))
        top = np.linspace(0, height - h, 1 + int((height - h) / (step * h)))
        x, y = (axis.ravel() for axis in np.meshgrid(left, top))
        boxes.append(np.stack([x, y, x + w, y + h], axis=1))
    return np.concatenate([np.zeros((0, 4)), *boxes]).astype(np.float32)


@stage(version=1)
def propose_densely(job: Job, data: Dataset, smallest: float, step: float, sizes: int) -> None:
    """`dense_boxes` of every image. Writes what selective search writes."""
    records = [*data.train, *data.test]
    boxes = [dense_boxes(r.width, r.height, smallest, step, sizes) for r in records]
    write_proposals(job.folder / "proposals.h5", records, boxes)
    keep_recall(job, {"train": data.train, "test": data.test})
