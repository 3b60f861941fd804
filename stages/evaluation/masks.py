"""The objects' masks, and how far detections' overlap them.

N objects in one image; D masks against G.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from pycocotools import mask as coco  # type: ignore[import-untyped]

from stages.data.images import masks_of
from stages.data.records import Record
from stages.evaluation.detections_io import Detections
from stages.evaluation.run_lengths import Rle

# image id -> N masks.
TrueMasks: TypeAlias = Mapping[str | int, Sequence[Rle]]


def true_masks(records: Sequence[Record]) -> dict[str | int, list[Rle]]:
    """The objects' masks, some perhaps empty. A record without objects need not have any.

    Read one record at a time and kept as run lengths: a whole split's fit in memory.

    Raises:
        InputError: as `masks_of`.
    """
    return {record.image_id: _encoded(record) if len(record.labels) else [] for record in records}


def are_of_masks(records: Sequence[Record], detections: Detections) -> bool:
    """Whether there are masks to compare: every detection has one, and every object.

    False without any detection: nothing says whether they would have had masks.
    """
    carried = ["segmentation" in found for found in detections.values() if len(found["scores"])]
    known = all(record.has_masks or not len(record.labels) for record in records)
    return known and len(carried) > 0 and all(carried)


def overlaps_of_masks(masks: Sequence[Rle], true: Sequence[Rle]) -> np.ndarray:
    """IoU, float64 [D, G]; that of an empty mask is 0, with another empty one also."""
    if not masks or not true:  # pycocotools gives a list
        return np.zeros((len(masks), len(true)))
    result: np.ndarray = coco.iou(list(masks), list(true), [0] * len(true))
    return result


def _encoded(record: Record) -> list[Rle]:
    masks = masks_of(record).permute(1, 2, 0).numpy().astype(np.uint8)
    encoded: list[Rle] = coco.encode(np.asfortranarray(masks))
    return encoded
