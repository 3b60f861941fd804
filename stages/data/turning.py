"""Objects that were marked on the image as it is stored, turned with it as its EXIF tag says.

N objects; W, H the stored image's width and height.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image
from pycocotools import mask as coco  # type: ignore[import-untyped]

from stages.data.records import Record, Segmentation

# What Pillow's `exif_transpose` does to an image of each orientation.
METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # width and height change places


def turned_record(record: Record, orientation: int) -> Record:
    """The record of the upright image; `record` is of the stored one.

    Args:
        orientation: EXIF's, 1 to 8.
    """
    if orientation not in METHODS:
        return record
    width, height = record.width, record.height

    def boxes(stored: np.ndarray) -> np.ndarray:
        corners = turned_points(stored.reshape(-1, 2), width, height, orientation)
        pairs = corners.reshape(-1, 2, 2)
        return np.concatenate([pairs.min(axis=1), pairs.max(axis=1)], axis=1).astype(stored.dtype)

    def outline(stored: Segmentation) -> Segmentation:
        if isinstance(stored, bytes):
            mask = coco.decode({"size": [height, width], "counts": stored})
            upright = np.asfortranarray(turned_pixels(mask, orientation))
            runs: bytes = coco.encode(upright)["counts"]
            return runs
        return tuple(
            turned_points(part.reshape(-1, 2), width, height, orientation).ravel()
            for part in stored
        )

    def xywh(stored: np.ndarray) -> np.ndarray:
        upright = boxes(np.concatenate([stored[:, :2], stored[:, :2] + stored[:, 2:]], axis=1))
        sides = stored[:, 2:]  # as exact as the file has them
        return np.concatenate([upright[:, :2], sides[:, ::-1] if sideways else sides], axis=1)

    sideways = orientation in SIDEWAYS
    outlines, true_boxes = record.segmentations, record.true_boxes
    return dataclasses.replace(
        record,
        width=height if sideways else width,
        height=width if sideways else height,
        boxes=boxes(record.boxes),
        true_boxes=None if true_boxes is None else boxes(true_boxes),
        segmentations=None
        if outlines is None
        else tuple(None if one is None else outline(one) for one in outlines),
        xywh=None if record.xywh is None else xywh(record.xywh),
        mask_orientation=orientation if record.mask_path is not None else 1,
    )


def turned_points(points: np.ndarray, width: float, height: float, orientation: int) -> np.ndarray:
    """Points [P, 2] x y of the stored image W×H, in the upright one."""
    x, y = points[:, 0], points[:, 1]
    if orientation in (2, 3, 7, 8):
        x = width - x
    if orientation in (3, 4, 6, 7):
        y = height - y
    return np.stack([y, x] if orientation in SIDEWAYS else [x, y], axis=1)


def turned_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """uint8 [H, W] of the stored image, upright."""
    if orientation not in METHODS:
        return pixels
    return np.asarray(Image.fromarray(pixels).transpose(METHODS[orientation]))
