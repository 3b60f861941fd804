"""Opening image files. Safe in threads, which `warnings.catch_warnings` around each call is not."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from PIL import Image

from stages.errors import check_regular

# Of an image, unless the caller allows more: Pillow's own number.
MOST_PIXELS = 89_478_485
# Pillow's limit is one for the whole process, and it only warns up to twice that. `open_image` holds
# each image against the limit that its caller gives, in every thread and in every worker process.
Image.MAX_IMAGE_PIXELS = None

# What `stages.data.files` takes for images. Pillow reads forty more, one of which (EPS) it hands
# to another program to run, whatever the file is called.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM")

# What Pillow raises for what is no image, or wants more memory than there is.
FAULTS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError)


def limit_of(most: int | None) -> int:
    """Pixels that an image may have: `most`, or where that is None `MOST_PIXELS`."""
    return MOST_PIXELS if most is None else most


def open_image(path: Path, most: int | None = None, content: BinaryIO | None = None) -> Image.Image:
    """The file's header read, its pixels not yet.

    Args:
        most: pixels that it may have; None: `MOST_PIXELS`. Decoding holds 10 bytes a pixel, a WebP's
            16, so that of a WebP half as many are read.
        content: read instead of the file, of which it is a mended copy.

    Raises:
        InputError: it is a pipe or a device.
        FAULTS: it is no image of these formats, or holds more pixels.
    """
    check_regular(path)
    image = Image.open(path if content is None else content, formats=FORMATS)
    # Without a name Pillow reads the pixels instead of mapping them into memory: it maps grey
    # TIFFs that are to be turned in the wrong shape, and a mapped file that is cut is a crash.
    image.filename = ""
    limit = limit_of(most) // (2 if image.format == "WEBP" else 1)
    if image.width * image.height > limit:
        image.close()
        raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels, over {limit}")
    return image
