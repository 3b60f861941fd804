"""Boxes from a regular grid instead of selective search (Fast R-CNN, section 5.5)."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torchvision.ops import box_iou
from tqdm import tqdm

from stages.data.records import Dataset, Record
from stages.proposals.cache import Proposals, write_proposals
from stages.proposals.stage import keep_recall
from stages.store import Artifact, Job, stage

ASPECTS = (0.5, 1.0, 2.0)
# `dense_of`: on an image of 4:3 some 46,000 boxes, of which one overlaps an object by three quarters on
# average; the paper's are "about 45k boxes / image", of sizes and steps that it does not give.
SMALLEST, STEP, SIZES = 1 / 12, 0.14, 8  # the smallest's side is a part of the image's shorter one
PART = 256  # boxes that are compared with all of the grid at once


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


def dense_of(record: Record) -> np.ndarray:
    """`dense_boxes` of an image, as many for a large one as for a small one."""
    smallest = SMALLEST * min(record.width, record.height)
    return dense_boxes(record.width, record.height, smallest, STEP, SIZES)


@stage(version=1)
def mix_in_dense(
    job: Job, data: Dataset, proposals: Artifact, top: int | None, count: int | None, seed: int = 0
) -> None:
    """An image's best `top` proposals, then `count` of its dense boxes by chance.

    Writes what selective search writes. A larger `count` of the same seed adds to a smaller one's boxes.

    Args:
        top: None: all; 0: dense boxes alone.
        count: None, or more than there are: all.
    """
    reader = Proposals(proposals.path / "proposals.h5")
    records = [*data.train, *data.test]
    mixed = []
    for index, record in enumerate(tqdm(records, unit="image", desc="dense boxes")):
        grid = dense_of(record)
        drawn = np.random.default_rng([seed, index]).permutation(len(grid))[:count]
        mixed.append(np.concatenate([reader.of(record, top), grid[drawn]]))
    write_proposals(job.folder / "proposals.h5", records, mixed)
    keep_recall(job, {"train": data.train, "test": data.test})


@stage(version=1)
def replace_by_dense(job: Job, data: Dataset, proposals: Artifact, top: int | None) -> None:
    """Each of an image's best `top` proposals replaced by the dense box that overlaps it most.

    Writes what selective search writes.
    """
    reader = Proposals(proposals.path / "proposals.h5")
    records = [*data.train, *data.test]
    closest = [
        closest_of(reader.of(record, top), dense_of(record))
        for record in tqdm(records, unit="image", desc="closest dense boxes")
    ]
    write_proposals(job.folder / "proposals.h5", records, closest)
    keep_recall(job, {"train": data.train, "test": data.test})


def closest_of(boxes: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """For each box [P, 4] the one of `grid` [R, 4] that overlaps it most: float32 [P, 4]."""
    if len(grid) == 0:
        return grid
    every = torch.from_numpy(grid)
    nearest = [
        box_iou(part, every).argmax(dim=1).numpy() for part in torch.from_numpy(boxes).split(PART)
    ]
    return grid[np.concatenate([np.zeros(0, np.int64), *nearest])]
