"""Image files as arrays. Free of torch, for selective search's worker processes.

H, W an image's height and width.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from stages.data.cut_short import check_missing, mended
from stages.data.depth import Range, from_halves, in_eight_bits, is_deep, rows_of
from stages.data.opening import FAULTS, open_image
from stages.data.records import Record
from stages.data.scans import check_scans
from stages.data.size import TURNED
from stages.errors import InputError, one_line

# Of 12 bits in 16, the high byte's greatest value. Of images in colours Pillow drops the low byte: whoever
# wants it says that the bytes come in the other order.
HIGHEST = 15
NATIVE = "L" if sys.byteorder == "little" else "B"
OTHER_HALF = {
    f"{mode};16{order}": f"{mode};16{'B' if (order if order != 'N' else NATIVE) == 'L' else 'L'}"
    for mode in ("RGB", "RGBX", "RGBA")
    for order in "BLN"
}


@dataclass(frozen=True, eq=False)
class Photograph:
    """What an image file holds.

    Attributes:
        pixels: uint8 [H, W, 3], RGB, upright as its EXIF tag says.
        width, height: as stored, before it is turned.
        orientation: EXIF's, 1 to 8; 1: as stored.
        cut_short: whether it lacks its end, of which no more than `stages.data.cut_short` allows was made up.
        stretched: the values that became 0 and 255, where they are not the file's own: see
            `stages.data.depth`.
    """

    pixels: np.ndarray
    width: int
    height: int
    orientation: int
    cut_short: bool
    stretched: Range | None

    @property
    def oddities(self) -> list[str]:
        """What a person should know of the file, in a few words each."""
        return oddities_of(self.cut_short, self.stretched)


def oddities_of(cut_short: bool, stretched: Range | None) -> list[str]:
    """See `Photograph`."""
    found = ["lacks its end; what is missing is grey"] if cut_short else []
    if stretched is not None:
        low, high = stretched
        found.append(
            f"more than 8 bits a value, of which {low:g} is shown as black, {high:g} as white"
        )
    return found


def decode(path: Path, most: int | None = None) -> np.ndarray:
    """An image file as RGB: uint8 [H, W, 3], upright as its EXIF tag says; see `read_photograph`."""
    return read_photograph(path, most).pixels


def read_photograph(path: Path, most: int | None = None) -> Photograph:
    """An image file, decoded whole.

    A JPEG that lacks little but its end is read as other tools read it, its last rows grey perhaps.

    Args:
        most: pixels that it may have; None: `stages.data.opening.MOST_PIXELS`.

    Raises:
        InputError: naming the file, when it is missing, no image, lacks much of it, has more pixels, or
            is made to take minutes.
    """
    try:
        with open_image(path, most) as image:
            content = check_scans(image, path, most)
            whole = mended(content) if content is not None else None
            if whole is None:
                return _photograph(image, path, most)
        check_missing(whole)
        with open_image(path, most, io.BytesIO(whole)) as image:
            return _photograph(image, path, most, cut_short=True)
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except FAULTS as error:
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{path}: not readable as an image: {reason}") from None


def _photograph(
    image: Image.Image, path: Path, most: int | None, cut_short: bool = False
) -> Photograph:
    """An opened image, its pixels not yet read.

    Raises:
        FAULTS: they cannot be read.
    """
    halves = any(_other_half(tile.args) != tile.args for tile in _tiles(image))
    width, height, orientation = _stored(image)
    pixels, stretched = _upright(image)
    if halves and pixels.max(initial=0) <= HIGHEST:
        with open_image(path, most) as again:
            again.tile = [tile._replace(args=_other_half(tile.args)) for tile in _tiles(again)]  # type: ignore[attr-defined]
            low, _ = _upright(again)
        pixels, stretched = from_halves(pixels, low)
    return Photograph(pixels, width, height, orientation, cut_short, stretched)


def _stored(image: Image.Image) -> tuple[int, int, int]:
    """Width, height and EXIF's orientation as the file has them, its pixels read unless it is a TIFF."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow turns it itself, and gives its size as turned
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        if orientation in TURNED:
            width, height = height, width
    else:
        image.load()  # a PNG may tell behind its pixels
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    return width, height, orientation if orientation in range(1, 9) else 1  # type: ignore[return-value]


def _upright(image: Image.Image) -> tuple[np.ndarray, Range | None]:
    """uint8 [H, W, 3], turned as EXIF says, and its range."""
    ImageOps.exif_transpose(image, in_place=True)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    if is_deep(image):
        grey, stretched = in_eight_bits(image)
        pixels[:] = grey[:, :, None]
        return pixels, stretched
    for part, rows in rows_of(image):
        pixels[part] = np.asarray(rows.convert("RGB"))
    return pixels, None


def _tiles(image: Image.Image) -> list[Any]:
    """How Pillow reads the pixels of an image: what it calls tiles, `args` with the order of the bytes."""
    return list(getattr(image, "tile", ()))


def _other_half(args: Any) -> Any:
    """A tile's arguments, the bytes exchanged if it is of 16-bit colours: Pillow takes the high ones."""
    if isinstance(args, tuple):
        return tuple(_other_half(arg) for arg in args)
    return OTHER_HALF.get(args, args) if isinstance(args, str) else args


def image_of(record: Record) -> np.ndarray:
    """The record's image, uint8 [H, W, 3].

    Raises:
        InputError: it is unreadable, or not of the size its annotation gives, so that boxes
            would lie elsewhere than they were drawn.
    """
    image = decode(record.path, record.most_pixels)
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
