"""How often a JPEG goes over its image: a few 100 kB can hold thousands of scans, a second of work each."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

# libtiff's limit; a progressive JPEG has about ten.
MOST = 100
# Pixels times scans: sixteen scans of 89 million pixels, the most that Pillow decodes.
WORK = 16 * 89_478_485
# Of a JPEG, bytes: more than as many pixels take in the best quality.
LARGEST = 2**28

SCAN, END, BARE = 0xDA, 0xD9, 0x01
# A marker, behind any filling; not the restarts, which are in the midst of a scan, nor a stuffed FF.
MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")


def check_scans(image: Image.Image, path: Path) -> None:
    """Refuse a JPEG that would take minutes to decode.

    Args:
        image: opened, its pixels not yet read.
        path: its file.

    Raises:
        OSError: it cannot be read.
        ValueError: it has more scans than `MOST`, or than `WORK` allows of its size; or it is larger than
            any image that we decode.
    """
    if image.format not in ("JPEG", "MPO"):
        return
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"a JPEG of {size} bytes, over {LARGEST}")
    content = path.read_bytes()
    most = min(MOST, WORK // max(image.width * image.height, 1))
    # Hardly any file has as many by chance, in an embedded picture say: the others are not looked through.
    if content.count(bytes([0xFF, SCAN])) > most and _scans(content) > most:
        raise ValueError(f"a JPEG of more than {most} scans")


def _scans(content: bytes) -> int:
    """Scans up to the end that the first image's own marker gives."""
    scans, place = 0, 0
    while (found := MARKER.search(content, place)) is not None:
        place, kind = found.end(), found[1][0]
        if kind == END:
            break
        if kind not in (0xD8, BARE):  # the others are followed by their length, itself included
            place += int.from_bytes(content[place : place + 2], "big")
        scans += kind == SCAN
    return scans
