"""Images whose values have more than 8 bits, in 8.

Which of its values is white, such a file does not say. It is told from the values of that file alone, never
from those of others, so that a file always comes out the same:

- 16 bits (PNG, TIFF; grey or in colours): by the least of 8, 12 and 16 bits that holds all values. Scanners
  and industrial cameras write 12 bits, 0 to 4095, into 16. An ordinary image, which uses more of its 16, is
  divided by 256, however dark; one that stays below a sixteenth of its range is taken for 12 bits.
- PGM and PPM say which value is white.
- 32 bits, signed 16 bits and floating point: the file's least value becomes 0, its greatest 255. NaN becomes
  0, what is infinite 0 or 255.

H, W an image's height and width; C its channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

ROWS = 1024  # of an image, converted at once

# The values that become 0 and 255, where they are not the ends of 8 or of 16 bits.
Range: TypeAlias = tuple[float, float]

# TIFF's tags, and what they say.
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
SAMPLE_FORMAT, UNSIGNED = 339, 1


def rows_of(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """An image some rows at a time: whole, each of Pillow's conversions is another copy."""
    for top in range(0, image.height, ROWS):
        end = min(top + ROWS, image.height)
        yield slice(top, end), image.crop((0, top, image.width, end))


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow keeps more than 8 bits of its one channel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def in_eight_bits(image: Image.Image) -> tuple[np.ndarray, Range | None]:
    """uint8 [H, W] of an image that `is_deep`, and its range; None: that of all 16 bits."""
    pixels = np.empty((image.height, image.width), np.uint8)
    known: Range | None = None
    if image.mode in ("I", "F") and (image.format, image.mode) != ("PPM", "I"):
        known = _extent(image)
        for part, values in _values(image):
            pixels[part] = _stretched(values, *known)
    else:
        # Of a PGM Pillow has made white 65,535.
        most = max(int(values.max(initial=0)) for _, values in _values(image))
        bits = 16 if image.format == "PPM" else bits_of(most)
        known = range_of(bits)
        for part, values in _values(image):
            pixels[part] = values >> (bits - 8)
    if _tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO:  # of 8 bits Pillow knows it
        np.subtract(255, pixels, out=pixels)
    return pixels, known


def bits_of(greatest: int) -> int:
    """8, 12 or 16: how many are used, by the greatest of a file's values of 16 bits."""
    return 8 if greatest < 2**8 else 12 if greatest < 2**12 else 16


def range_of(bits: int) -> Range | None:
    """Of as many bits; None: of all 16."""
    return None if bits == 16 else (0.0, 2.0**bits - 1)


def from_halves(high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, Range | None]:
    """uint8 [H, W, C] of values of 12 bits or fewer, 256 · high + low, uint8 [H, W, C] both; their range."""
    bits = bits_of(int(high.max(initial=0)) * 256)
    return (low if bits == 8 else (high << 4) | (low >> 4)), range_of(bits)


def _values(image: Image.Image) -> Iterator[tuple[slice, np.ndarray]]:
    unsigned = image.format == "TIFF" and _tag(image, SAMPLE_FORMAT, UNSIGNED) == UNSIGNED
    for part, rows in rows_of(image):
        values = np.asarray(rows)
        # Pillow takes large ones of 32 bits for negative.
        yield part, values.view(np.uint32) if image.mode == "I" and unsigned else values


def _tag(image: Image.Image, tag: int, usual: int) -> int:
    value: Any = getattr(image, "tag_v2", {}).get(tag, usual)
    return value[0] if isinstance(value, tuple) else value


def _extent(image: Image.Image) -> Range:
    """The least and the greatest number in an image; 0 and 0 without any."""
    least, greatest = np.inf, -np.inf
    for _, values in _values(image):
        numbers = values[np.isfinite(values)]
        if numbers.size:
            least, greatest = min(least, float(numbers.min())), max(greatest, float(numbers.max()))
    return (least, greatest) if least <= greatest else (0.0, 0.0)


def _stretched(values: np.ndarray, least: float, greatest: float) -> np.ndarray:
    if least == greatest:
        return np.zeros(values.shape, np.uint8)
    numbers = np.nan_to_num(values.astype(np.float64), nan=least, posinf=greatest, neginf=least)
    # Halved, since the greatest double less the least is none.
    return np.rint((numbers / 2 - least / 2) / (greatest / 2 - least / 2) * 255).astype(np.uint8)
