"""Opening image files. Safe in threads, which `warnings.catch_warnings` around each call is not."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image

# Between its limit and twice it Pillow only warns; `open_image` refuses.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def open_image(path: Path) -> Image.Image:
    """The file's header read, its pixels not yet.

    Raises:
        OSError, ValueError, SyntaxError: it is no image.
        Image.DecompressionBombError: it holds more than Pillow's limit of pixels (179 million).
    """
    image = Image.open(path)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels, over {limit}")
    return image
