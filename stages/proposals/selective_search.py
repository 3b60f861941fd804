"""Selective search (Uijlings et al. 2013) of one image, through OpenCV.

P proposals. This file and what it imports stay free of torch: it is what the search's
worker processes load.

OpenCV breaks ties between regions with C's `rand()`, which `cv2.setRNGSeed` does not
reach: unseeded, the same image gives another order on each call. So C's generator is
seeded before each image, from the image's own pixels: any process, any order and any
file name give the same boxes.
"""

from __future__ import annotations

import ctypes
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.data.decode import image_of
from stages.data.records import Record


@dataclass(frozen=True)
class SelectiveSearchConfig:
    """How to propose (R-CNN, section 2.1 and released code).

    Attributes:
        mode: selective search's "fast" (R-CNN's, Fast R-CNN's) or "quality".
        min_side: boxes with a shorter side, in pixels, are dropped (released code: 20).
        seed: of the ranking.
    """

    mode: Literal["fast", "quality"] = "fast"
    min_side: int = 20
    seed: int = 0


def search(image: np.ndarray, config: SelectiveSearchConfig) -> np.ndarray:
    """Object proposals, best-ranked first, without duplicates.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        float32 [P, 4], continuous x1 y1 x2 y2 inside the image.
    """
    # Only here is OpenCV needed; machines without its contrib build use cached proposals.
    import cv2

    ctypes.CDLL(None).srand((zlib.crc32(image.tobytes()) ^ config.seed) & 0xFFFFFFFF)
    searcher = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    searcher.setBaseImage(np.ascontiguousarray(image[:, :, ::-1]))  # OpenCV's channel order
    if config.mode == "fast":
        searcher.switchToSelectiveSearchFast()
    else:
        searcher.switchToSelectiveSearchQuality()
    rectangles = np.asarray(searcher.process(), np.int64).reshape(-1, 4)
    wide_enough = (rectangles[:, 2] >= config.min_side) & (rectangles[:, 3] >= config.min_side)
    rectangles = rectangles[wide_enough]
    _, first = np.unique(rectangles, axis=0, return_index=True)
    x, y, width, height = rectangles[np.sort(first)].T
    return np.stack([x, y, x + width, y + height], axis=1).astype(np.float32)


def search_record(task: tuple[Record, SelectiveSearchConfig]) -> np.ndarray:
    """`search` on a record's image file, as a worker process calls it."""
    record, config = task
    return search(image_of(record), config)
