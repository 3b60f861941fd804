"""Masks as COCO's run lengths.

n masks of an image, H and W of it in pixels.
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco  # type: ignore[import-untyped]
from torch import Tensor


def encode(masks: Tensor) -> np.ndarray:
    """bool [n, H, W] -> COCO's compressed `counts`, NumPy bytes 'S' [n]."""
    # COCO counts down the columns: as it lies in memory, each mask is transposed.
    columns = masks.transpose(1, 2).contiguous().cpu().numpy().view(np.uint8)
    return np.array([runs["counts"] for runs in coco.encode(columns.transpose(2, 1, 0))], "S")


def to_coco(masks: Tensor) -> list[dict[str, object]]:
    """bool [n, H, W] -> COCO's `segmentation` of each: {"size": [H, W], "counts": str}."""
    size = list(masks.shape[1:])
    return [{"size": size, "counts": counts.decode()} for counts in encode(masks).tolist()]
