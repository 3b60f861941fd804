"""From a record to tensors: images, targets and masks, decoded ahead.

H, W an image's height and width; N objects in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.ahead import ahead
from stages.data.decode import image_of
from stages.data.masks import Masks
from stages.data.opening import FAULTS, open_image
from stages.data.records import Record
from stages.data.scans import check_scans
from stages.data.segmentation import encode_indices, encode_segmentation
from stages.data.turning import turned_pixels
from stages.errors import InputError, one_line

Target = dict[str, Any]

# Of an image's masks drawn together, bytes, one a pixel: COCO's most are 30 MB, and every process that
# loads images holds some images' at once.
MOST_MASKS = 2**30


def target_of(record: Record) -> Target:
    """torchvision's target for a record (without masks)."""
    return {
        "boxes": torch.from_numpy(record.boxes),
        "labels": torch.from_numpy(record.labels),
        "difficult": torch.from_numpy(record.difficult),
        "iscrowd": torch.from_numpy(record.iscrowd),
        "image_id": record.image_id,
    }


def mask_runs_of(record: Record) -> Masks:
    """The masks of the record's N objects, drawn when they are asked for.

    Raises:
        InputError: the record has no masks, or the file is not one image of their indices.
    """
    width, height = record.width, record.height
    if record.segmentations is not None:
        runs = [encode_segmentation(one, width, height) for one in record.segmentations]
        return Masks(tuple(runs), height, width)
    if record.mask_path is None or record.mask_ids is None:
        raise InputError(f"{record.path}: has no masks")
    try:
        with open_image(record.mask_path, record.most_pixels) as image:
            check_scans(image, record.mask_path, record.most_pixels)
            indices = np.array(image)
    except FAULTS as error:
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{record.mask_path}: not readable as an image: {reason}") from None
    if indices.ndim == 2:
        indices = turned_pixels(indices, record.mask_orientation)
    if indices.shape != (height, width):
        size = "x".join(map(str, indices.shape[1::-1] + indices.shape[2:]))
        raise InputError(
            f"{record.mask_path}: {size} pixels, but {record.path.name} has {width}x{height}"
        )
    return Masks(tuple(encode_indices(indices, record.mask_ids)), height, width)


def masks_of(record: Record) -> Tensor:
    """bool [N, H, W], a mask for each object of the record; those without one get an empty one.

    Raises:
        InputError: as `mask_runs_of`, or see `check_masks`.
    """
    check_masks(record)
    masks = mask_runs_of(record)
    return masks[torch.arange(len(masks))]


def check_masks(record: Record) -> None:
    """Refuse an image whose objects' masks, all drawn at once, would fill the memory.

    Raises:
        InputError: they take more than `MOST_MASKS`.
    """
    size = len(record.boxes) * record.width * record.height
    if size > MOST_MASKS:
        raise InputError(
            f"{record.path}: {len(record.boxes)} masks of {record.width}x{record.height} pixels "
            f"take {size // 2**20} MiB, over {MOST_MASKS // 2**20}"
        )


def load_images(records: Sequence[Record], workers: int) -> Iterator[tuple[Tensor, Target]]:
    """Each record once, in order, as (uint8 [3, H, W], target); see `ahead`."""
    return ahead(lambda record: (image_tensor(record), target_of(record)), records, workers)


def image_tensor(record: Record) -> Tensor:
    """The record's image, uint8 [3, H, W]; see `image_of`."""
    return torch.from_numpy(image_of(record)).permute(2, 0, 1)
