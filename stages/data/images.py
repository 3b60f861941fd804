"""From a record to tensors: images, targets and masks, decoded ahead.

H, W an image's height and width; N objects in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stages.data.decode import image_of
from stages.data.opening import open_image
from stages.data.records import Record
from stages.data.segmentation import draw_segmentations
from stages.errors import InputError, one_line

Target = dict[str, Any]


def target_of(record: Record) -> Target:
    """torchvision's target for a record (without masks)."""
    return {
        "boxes": torch.from_numpy(record.boxes),
        "labels": torch.from_numpy(record.labels),
        "difficult": torch.from_numpy(record.difficult),
        "iscrowd": torch.from_numpy(record.iscrowd),
        "image_id": record.image_id,
    }


def masks_of(record: Record) -> Tensor:
    """bool [N, H, W], a mask for each object of the record.

    Raises:
        InputError: the record has no masks, or the file is not one image of their indices.
    """
    if record.segmentations is not None:
        masks = draw_segmentations(record.segmentations, record.width, record.height)
        return torch.from_numpy(masks)
    if record.mask_path is None or record.mask_ids is None:
        raise InputError(f"{record.path}: has no masks")
    try:
        with open_image(record.mask_path) as image:
            indices = np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{record.mask_path}: not readable as an image: {one_line(error)}"
        ) from None
    if indices.shape != (record.height, record.width):
        raise InputError(
            f"{record.mask_path}: shape {indices.shape}, not {(record.height, record.width)}"
        )
    return torch.from_numpy(indices[None] == record.mask_ids[:, None, None])


def load_images(records: Sequence[Record], workers: int) -> Iterator[tuple[Tensor, Target]]:
    """Each record once, in order, as (uint8 [3, H, W], target).

    Threads, not processes: decoding releases Python's lock, and forking a process that holds a
    network made the network's own pass a quarter slower (the kernel splits its large pages to
    copy them on write).

    Args:
        workers: threads that decode ahead (0: none).
    """
    if workers == 0:
        yield from map(_load, records)
        return
    ahead: deque[Future[tuple[Tensor, Target]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for record in records:
            ahead.append(pool.submit(_load, record))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _load(record: Record) -> tuple[Tensor, Target]:
    return torch.from_numpy(image_of(record)).permute(2, 0, 1), target_of(record)
