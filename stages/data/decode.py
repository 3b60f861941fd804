"""Image files as arrays. Free of torch, for selective search's worker processes.

H, W an image's height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stages.data.opening import FAULTS, open_image
from stages.data.records import Record
from stages.data.scans import check_scans
from stages.errors import InputError, one_line

ROWS = 1024  # of an image, converted at once


def decode(path: Path) -> np.ndarray:
    """An image file as RGB: uint8 [H, W, 3], upright as its EXIF tag says.

    Raises:
        InputError: naming the file, when it is missing, no image, cut short, or made to take minutes.
    """
    try:
        with open_image(path) as image:
            check_scans(image, path)
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image)
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except FAULTS as error:
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{path}: not readable as an image: {reason}") from None


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3], some rows at a time: whole, each of Pillow's conversions is another copy.

    Raises:
        ValueError: the range of its pixels' values is unknown.
    """
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose range is unknown")
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, ROWS):
        rows = image.crop((0, top, width, min(top + ROWS, height)))
        if image.mode.startswith("I;16"):
            # Pillow would clip 16 bits to 8, not scale them.
            pixels[top : top + ROWS] = (np.asarray(rows) >> 8)[:, :, None]
        else:
            pixels[top : top + ROWS] = np.asarray(rows.convert("RGB"))
    return pixels


def image_of(record: Record) -> np.ndarray:
    """The record's image, uint8 [H, W, 3].

    Raises:
        InputError: it is unreadable, or not of the size its annotation gives, so that boxes
            would lie elsewhere than they were drawn.
    """
    image = decode(record.path)
    height, width = image.shape[:2]
    if (width, height) != (record.width, record.height):
        raise InputError(
            f"{record.path}: {width}x{height} pixels, but its annotation says {record.width}x{record.height}"
        )
    return image


class ImageCache:
    """Records' images by index, decoded once while they fit in `budget` bytes.

    R-CNN's batches take windows from a hundred images at a time, so that decoding would cost
    more than the network. Each loading worker fills its own. Once full it keeps what it has:
    batches are uniform, so no image is likelier to be asked for than another.
    """

    def __init__(self, records: Sequence[Record], budget: int = 2**29) -> None:
        self._records = records
        self._room = budget
        self._images: dict[int, np.ndarray] = {}

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3], RGB; see `image_of`."""
        if index in self._images:
            return self._images[index]
        image = image_of(self._records[index])
        if image.nbytes <= self._room:
            self._images[index] = image
            self._room -= image.nbytes
        return image
