"""The objects' masks, and how far detections' overlap them.

N objects in one image; D masks against G.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from pycocotools import mask as coco  # type: ignore[import-untyped]

from stages.data.images import mask_runs_of
from stages.data.objects import Named
from stages.data.records import Record
from stages.evaluation.detections_io import Detections
from stages.evaluation.run_lengths import Rle

# image id -> N masks, None for an object that has none.
TrueMasks: TypeAlias = Mapping[str | int, Sequence[Rle | None]]


def true_masks(records: Sequence[Record]) -> dict[str | int, list[Rle | None]]:
    """The objects' masks, some perhaps empty; None for an object that has none.

    Read one record at a time and kept as run lengths: a whole split's fit in memory. Those that
    no detection can match are named on stderr: they are empty, or lie beside their own box.

    Raises:
        InputError: as `mask_runs_of`.
    """
    masks: dict[str | int, list[Rle | None]] = {}
    empty, beside = Named(), Named()
    for record in records:
        known = record.with_mask
        drawn = _encoded(record) if known.any() else [None] * len(known)
        of_image = [mask if has else None for mask, has in zip(drawn, known, strict=True)]
        for i, mask in enumerate(of_image):
            name = f"object {i + 1} of {record.path}"
            if mask is None:
                continue
            if not coco.area(mask):
                empty.add(name)
            elif not _meet(coco.toBbox(mask), record.boxes[i]):
                beside.add(name)
        masks[record.image_id] = of_image
    empty.report("masks to be found that are empty")
    beside.report("masks to be found that lie outside their object's box")
    return masks


def are_of_masks(records: Sequence[Record], detections: Detections) -> bool:
    """Whether there are masks to compare: every detection has one, and some object.

    False without any detection: nothing says whether they would have had masks. What objects lack
    theirs is said on stderr.
    """
    carried = ["segmentation" in found for found in detections.values() if len(found["scores"])]
    return bool(carried) and all(carried) and have_masks(records)


def have_masks(records: Sequence[Record]) -> bool:
    """Whether some object to be found has a mask, or there is none; those without are named on stderr.

    An object without a mask is neither found nor missed as a mask, and excuses the detections that
    overlap it by their boxes: were it left out, a right detection would be a false one.
    """
    bare, known = Named(), 0
    for record in records:
        to_be_found = ~(record.difficult | record.iscrowd)
        known += int((to_be_found & record.with_mask).sum())
        for i in np.flatnonzero(to_be_found & ~record.with_mask):
            bare.add(f"object {i + 1} of {record.path}")
    if bare and not known:
        bare.report("masks are not evaluated, since objects have none")
        return False
    bare.report("objects without a mask, neither found nor missed as masks")
    return True


def without_mask(records: Sequence[Record]) -> int:
    """How many objects to be found, so neither difficult nor crowds, have no mask."""
    return sum(int((~(r.difficult | r.iscrowd | r.with_mask)).sum()) for r in records)


def overlaps_of_masks(masks: Sequence[Rle], true: Sequence[Rle]) -> np.ndarray:
    """IoU, float64 [D, G]; that of an empty mask is 0, with another empty one also."""
    if not masks or not true:  # pycocotools gives a list
        return np.zeros((len(masks), len(true)))
    result: np.ndarray = coco.iou(list(masks), list(true), [0] * len(true))
    return result


def _meet(found: np.ndarray, box: np.ndarray) -> bool:
    """Whether a mask's extent, x y width height, and a box, x1 y1 x2 y2, have a part in common."""
    x, y, width, height = found
    x1, y1, x2, y2 = box
    return bool(x < x2 and x1 < x + width and y < y2 and y1 < y + height)


def _encoded(record: Record) -> list[Rle]:
    return mask_runs_of(record).rles
