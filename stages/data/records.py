"""What every data set is turned into: records, and two splits of them.

N objects in an image. Arrays are NumPy so that the selective-search workers,
which never import torch, can read them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

# COCO's word for an object's outline: polygons, each float64 [2P] x y x y .. in the image's
# continuous pixels, or the compressed run lengths of a mask of the image's size.
# `stages.data.segmentation` makes and draws them.
Segmentation: TypeAlias = tuple[np.ndarray, ...] | bytes


@dataclass(frozen=True, eq=False)
class Record:
    """One photograph and what is known of it.

    Attributes:
        image_id: the data's own name for the image (VOC: the file's stem; COCO: its number;
            YOLO: the file's path), no other image of the data set has it.
        path: the image file.
        width, height: its size in pixels, as the annotation gives it.
        boxes: float32 [N, 4], x1 y1 x2 y2 in continuous pixel coordinates of the image.
        labels: int64 [N], from 1; `Dataset.classes[label - 1]` is the name.
        difficult: bool [N], VOC's flag: hard to recognise, neither found nor missed in VOC's AP.
        iscrowd: bool [N], COCO's flag: a region of many.
        mask_path: a `SegmentationObject` PNG whose pixel value `mask_ids[i]` marks object i,
            or None.
        segmentations: N outlines, drawn when `masks_of` asks for them, of which None stands for an
            object that has none; or None: no object has one.
        mask_orientation: EXIF's, by which the pixels of `mask_path` are still to be turned.
        content: tells this image file, and its masks', from any other; empty where nobody looked.
        most_pixels: that its files may have, to be decoded; None: `stages.data.opening.MOST_PIXELS`.
        true_boxes: float64 [N, 4] xyxy as the file says, not cut to the image; None: `boxes`. What
            learns takes `boxes`, what evaluates `evaluated_boxes`.
        xywh: float64 [N, 4] x y width height as a COCO file says, for COCO's evaluation: to the last bit
            a width is not x + width - x. None: the file is of another kind.
        areas: float64 [N], a COCO file's `area` in pixels, nan where it has none; None: of another kind.
    """

    image_id: str | int
    path: Path
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    iscrowd: np.ndarray
    mask_path: Path | None = None
    mask_ids: np.ndarray | None = None
    segmentations: tuple[Segmentation | None, ...] | None = None
    mask_orientation: int = 1
    content: str = ""
    most_pixels: int | None = None
    true_boxes: np.ndarray | None = None
    xywh: np.ndarray | None = None
    areas: np.ndarray | None = None

    @property
    def has_masks(self) -> bool:
        """Whether objects have masks, of which there may be none. Some may lack theirs: see `with_mask`."""
        if self.segmentations is None or not self.segmentations:
            return self.mask_path is not None or self.segmentations is not None
        return bool(self.with_mask.any())

    @property
    def with_mask(self) -> np.ndarray:
        """bool [N], which objects have a mask. It may be empty: a PNG need not have every index."""
        if self.segmentations is not None:
            return np.array([outline is not None for outline in self.segmentations], bool)
        return np.full(len(self.labels), self.mask_path is not None)

    @property
    def evaluated_boxes(self) -> np.ndarray:
        """float64 [N, 4] xyxy, what detections are compared with: `true_boxes`, else `boxes`."""
        return (self.boxes if self.true_boxes is None else self.true_boxes).astype(np.float64)

    def only(self, keep: np.ndarray) -> Record:
        """The image with some of its objects: the places, int64 [n], or bool [N] of those that stay."""

        def of(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[keep]

        outlines = self.segmentations
        return replace(
            self,
            boxes=self.boxes[keep],
            labels=self.labels[keep],
            difficult=self.difficult[keep],
            iscrowd=self.iscrowd[keep],
            mask_ids=of(self.mask_ids),
            segmentations=None
            if outlines is None
            else tuple(outlines[i] for i in np.arange(len(outlines))[keep]),
            true_boxes=of(self.true_boxes),
            xywh=of(self.xywh),
            areas=of(self.areas),
        )


class TrainingData(Protocol):
    """What training sees: one split and the names of its classes, read when first asked for."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Changes when what is in the data does."""
        ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The data's own number of each class, for COCO results: `category_ids[label - 1]`."""
        ...

    @property
    def train(self) -> Sequence[Record]: ...


class Dataset(TrainingData, Protocol):
    """Both splits. `fingerprint` is known without reading a file: it is of their sizes and times."""

    @property
    def test(self) -> Sequence[Record]: ...
