"""How often a JPEG goes over its image: a few 100 kB can hold thousands of scans, a second of work each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from stages.data.opening import MOST_PIXELS, limit_of

# libtiff's limit; a progressive JPEG has about ten.
MOST = 100
# Pixels times scans: sixteen scans of 89 million pixels; of a larger image, where it is allowed, as many.
WORK = 16 * MOST_PIXELS
# Of a JPEG, bytes: more than as many pixels take in the best quality.
LARGEST = 2**28

SCAN, END, BARE = 0xDA, 0xD9, 0x01
# A marker, behind any filling; not the restarts, which are in the midst of a scan, nor a stuffed FF.
MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")


def check_scans(image: Image.Image, path: Path, most: int | None = None) -> bytes | None:
    """Refuse a JPEG that would take minutes to decode.

    Args:
        image: opened, its pixels not yet read.
        path: its file.
        most: pixels that it may have, as in `open_image`.

    Returns:
        a JPEG's bytes; None: it is of another kind.

    Raises:
        OSError: it cannot be read.
        ValueError: it has more scans than `MOST`, or than `WORK` allows of its size; or it is larger than
            any image that we decode.
    """
    if image.format not in ("JPEG", "MPO"):
        return None
    times = max(1.0, limit_of(most) / MOST_PIXELS)
    size, largest = path.stat().st_size, int(LARGEST * times)
    if size > largest:
        raise ValueError(f"a JPEG of {size} bytes, over {largest}")
    content = path.read_bytes()
    scans = min(MOST, int(WORK * times) // max(image.width * image.height, 1))
    # Hardly any file has as many by chance, in an embedded picture say: the others are not looked through.
    if content.count(bytes([0xFF, SCAN])) > scans and _scans(content) > scans:
        raise ValueError(f"a JPEG of more than {scans} scans")
    return content


def _scans(content: bytes) -> int:
    """Scans up to the end that the first image's own marker gives."""
    return sum(kind == SCAN for kind, _, _ in parts_of(content))


def parts_of(content: bytes) -> Iterator[tuple[int, int, int]]:
    """The parts of a JPEG up to its end marker, that one not included, or as far as it goes.

    Yields:
        the marker's second byte, the place of the marker, and that of what follows the part: its own
        length tells. Behind a `SCAN` that is the picture's data. It may lie beyond a content that is cut.
    """
    place = 0
    while (found := MARKER.search(content, place)) is not None:
        begin, place, kind = found.start(), found.end(), found[1][0]
        if kind == END:
            return
        if kind not in (0xD8, BARE):  # the others are followed by their length, itself included
            length = content[place : place + 2]
            place += int.from_bytes(length, "big") if len(length) == 2 else 2
        yield kind, begin, place
