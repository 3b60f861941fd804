"""The training windows: every proposal and every ground-truth box, with what it overlaps.

M windows of all images together, N images, G objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

from stages.data.records import Record
from stages.proposals.cache import Proposals


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of all training images, image by image; in each, ground truth first.

    Attributes:
        boxes: float32 [M, 4] xyxy.
        image: int64 [M], the index of the record.
        overlap: float32 [M], the highest IoU with an object of the image; 0 where there is none.
        label: int64 [M], that object's label; 0 where there is none.
        gt: int64 [M], that object's index in its record.
    """

    boxes: np.ndarray
    image: np.ndarray
    overlap: np.ndarray
    label: np.ndarray
    gt: np.ndarray


def windows_of(record: Record, proposals: Proposals, top: int | None) -> np.ndarray:
    """The record's windows, float32 [M, 4]: its ground truth, then its best `top` proposals."""
    return np.concatenate([record.boxes[~record.iscrowd], proposals.of(record, top)])


def training_windows(records: Sequence[Record], proposals: Proposals, top: int | None) -> Windows:
    """All windows of the records. Difficult objects count, as in the released R-CNN; crowds do not."""
    boxes, image, overlap, label, gt = [], [], [], [], []
    for index, record in enumerate(records):
        windows = windows_of(record, proposals, top)
        objects = np.flatnonzero(~record.iscrowd)
        boxes.append(windows)
        image.append(np.full(len(windows), index))
        if len(objects) and len(windows):
            iou = box_iou(
                torch.from_numpy(windows), torch.from_numpy(record.boxes[objects])
            ).numpy()
            best = objects[iou.argmax(axis=1)]
            overlap.append(iou.max(axis=1))
            label.append(record.labels[best])
            gt.append(best)
        else:
            overlap.append(np.zeros(len(windows), np.float32))
            label.append(np.zeros(len(windows), np.int64))
            gt.append(np.full(len(windows), -1))
    return Windows(
        np.concatenate(boxes).astype(np.float32),
        np.concatenate(image).astype(np.int64),
        np.concatenate(overlap).astype(np.float32),
        np.concatenate(label).astype(np.int64),
        np.concatenate(gt).astype(np.int64),
    )


def draw_rows(rng: np.random.Generator, *groups: tuple[np.ndarray, int]) -> np.ndarray:
    """So many rows of each group, a group after another: int64 [B]; repeated only if too few."""
    return np.concatenate(
        [rng.choice(rows, count, replace=len(rows) < count) for rows, count in groups]
    )
