"""Opening image files. Safe in threads, which `warnings.catch_warnings` around each call is not."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image

from stages.errors import check_regular

# Between its limit and twice it Pillow only warns; `open_image` refuses.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

# What `stages.data.files` takes for images. Pillow reads forty more, one of which (EPS) it hands
# to another program to run, whatever the file is called.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM")

# What Pillow raises for what is no image, or wants more memory than there is.
FAULTS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError)


def open_image(path: Path) -> Image.Image:
    """The file's header read, its pixels not yet.

    Raises:
        InputError: it is a pipe or a device.
        FAULTS: it is no image of these formats, or holds more than Pillow's limit of pixels (89
            million), a WebP more than half of it: decoding holds 10 bytes a pixel, a WebP's 16.
    """
    check_regular(path)
    image = Image.open(path, formats=FORMATS)
    # Without a name Pillow reads the pixels instead of mapping them into memory: it maps grey
    # TIFFs that are to be turned in the wrong shape, and a mapped file that is cut is a crash.
    image.filename = ""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.format == "WEBP":
        limit //= 2
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels, over {limit}")
    return image
