"""An image's size from its header: nothing is decoded, so that 100,000 take seconds."""

from __future__ import annotations

from pathlib import Path

from PIL import ExifTags, Image

from stages.data.opening import FAULTS, open_image
from stages.errors import InputError, one_line

MOST_TOLD = 2**31  # of an image, pixels: as many as run lengths count, far more than are decoded
TURNED = (5, 6, 7, 8)  # EXIF orientations whose rows are the upright image's columns


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of the image as `decode` gives it, upright; also of one too large for it.

    Raises:
        InputError: naming the file, when it is missing or has no image's header, or one of more pixels
            than `MOST_TOLD`.
    """
    try:
        with open_image(path, MOST_TOLD) as image:
            # Not PNG's own getexif, which decodes the pixels in search of a tag behind them.
            orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
            width, height = image.size
            if image.format == "TIFF":
                orientation = None  # Pillow gives the size of these as they will be turned
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except FAULTS as error:
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{path}: not readable as an image: {reason}") from None
    return (height, width) if orientation in TURNED else (width, height)
