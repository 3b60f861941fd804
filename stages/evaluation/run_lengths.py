"""Masks of detections as run lengths, checked: pycocotools is in C and trusts what it is given.

n detections in one image of height H and width W.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from stages.data.segmentation import run_lengths_of
from stages.errors import InputError

# pycocotools' mask: {"size": [H, W], "counts": compressed run lengths, as bytes}.
Rle: TypeAlias = dict[str, Any]
# (H, W) in pixels.
Size: TypeAlias = tuple[int, int]


def detected_masks(
    image_id: str | int, found: Mapping[str, np.ndarray], size: Size | None
) -> list[Rle]:
    """The n masks of an image's detections, their "segmentation"; without detections, none.

    Args:
        found: as in `Detections`.
        size: the image's, None if unknown.

    Raises:
        ValueError: there are not n, or one is damaged or not of the image's size.
    """
    counts = np.asarray(found.get("segmentation", ())).tolist()
    if len(counts) != len(found["scores"]):
        raise ValueError(f"image {image_id!r}: masks and scores differ in number")
    if not counts:
        return []
    if size is None:
        raise ValueError(f"image {image_id!r}: masks, but no size of the image")
    height, width = size
    masks = []
    for of_one in counts:
        try:
            runs = {"size": [height, width], "counts": of_one.decode()}
            masks.append({**runs, "counts": run_lengths_of(runs, width, height)})
        except ValueError as error:
            raise ValueError(f"image {image_id!r}: {error}") from None
    return masks


def read_mask(value: Any, size: Size | None, where: str) -> bytes | None:
    """Compressed run lengths from a result's "segmentation"; None if it is absent or polygons.

    Args:
        value: from JSON.
        size: the image's; without it the mask need only be of the size that it says itself.
        where: begins every complaint.

    Raises:
        InputError: it is something else, damaged, or not of the size.
    """
    if value is None or isinstance(value, list):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("counts"), str):
        raise InputError(f"{where}: not {{size, counts: compressed run lengths}}")
    own = value.get("size")
    if not isinstance(own, list) or len(own) != 2 or not all(map(_is_positive, own)):
        raise InputError(f"{where}: size {own!r} is not a height and a width")
    height, width = own if size is None else size
    try:
        return run_lengths_of(value, width, height)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
