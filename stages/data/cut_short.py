"""JPEGs that lack their end: read as other tools read them, unless much of the picture is missing.

libjpeg fills what it does not find with grey, and says so; Pillow refuses the whole file, or with a setting
for the whole process takes any, PNGs too. Downloads that broke off and full disks leave such files.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stages.data.scans import SCAN, parts_of

END = b"\xff\xd9"
# Of the picture: more than an eighth of it may not be fill.
MOST_MISSING = 1 / 8

# Markers' second bytes: of frames (their tables lie between), those of progressive ones, and of restarts.
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
INTERVAL = 0xDD
BLOCK = 8  # pixels of a side
NOISE = 32  # bytes for each block that may be missing: blocks of chance take about half


def mended(content: bytes) -> bytes | None:
    """A JPEG that lacks its end, with an end marker where its data stop; None: it has its own, or no picture.

    What follows the end marker, as cameras and telephones write it, is no fault. Zeros in the place of
    the end are none of the data: a file keeps its length where a disk was full.
    """
    if content.endswith(END):
        return None
    data = next((after for kind, _, after in parts_of(content) if kind == SCAN), None)
    # Behind the headers, with their previews, the two bytes are nothing else.
    if data is None or data > len(content) or content.find(END, data) >= 0:
        return None
    content = content.rstrip(b"\0\xff")  # nor half a marker
    for _, begin, after in parts_of(content):
        if after > len(content):  # libjpeg would take our marker for its content
            content = content[:begin]
    return content + END


def check_missing(content: bytes) -> None:
    """Refuse a picture of which too much is missing.

    Of a sequential JPEG that is what depends on whatever would follow its data: it is decoded with
    nothing and with noise behind them. A progressive one has its whole picture from the first scans on, at
    first of 8 x 8 pixels' means: that pass must be whole, and the first that tells more of the brightness.

    Args:
        content: as `mended` gives it.

    Raises:
        FAULTS: it is not readable at all.
        ValueError: more than `MOST_MISSING`.
    """
    frame = _frame(content)
    if frame.progressive:
        if not frame.has_detail:
            raise ValueError("cut short: only a first, coarse pass over the picture is there")
        return
    if not frame.has_colours:
        raise ValueError("cut short: the picture's colours are missing")
    missing = _missing(content, frame)
    if missing > MOST_MISSING:
        raise ValueError(f"cut short: {missing:.0%} of the picture is missing")


@dataclass(frozen=True)
class _Frame:
    """What a cut JPEG's markers tell.

    Attributes:
        progressive: else each block is told once, whole.
        has_colours: each of its components' scan is begun.
        has_detail: of a progressive one: see `check_missing`.
        blocks: of 8 x 8 pixels, of all components, at most.
        interval: from one restart marker to the next, in blocks; 0: there are none.
        data: the place of the last scan's.
    """

    progressive: bool
    has_colours: bool
    has_detail: bool
    blocks: int
    interval: int
    data: int


def _frame(content: bytes) -> _Frame:
    progressive, components, blocks, interval, data = False, 1, 0, 0, 0
    sampling: dict[int, int] = {}  # of each component, blocks of a unit
    scans: list[tuple[bytes, int, int]] = []  # components, first coefficient, passes before it
    for kind, begin, after in parts_of(content):
        part = content[begin:after].lstrip(b"\xff")[3:]  # without its marker and its length
        if kind in FRAMES and len(part) >= 6:
            progressive, components = kind in PROGRESSIVE, part[5]
            height, width = (int.from_bytes(part[i : i + 2], "big") for i in (1, 3))
            blocks = components * (height // BLOCK + 1) * (width // BLOCK + 1)
            for number, size in zip(part[6::3], part[7::3], strict=False):
                sampling[number] = (size >> 4) * (size & 15)
        elif kind == INTERVAL:
            interval = int.from_bytes(part[:2], "big")
        elif kind == SCAN and part and len(part) >= 4 + 2 * part[0]:
            count = part[0]
            first, approximation = part[1 + 2 * count], part[3 + 2 * count]
            scans.append((part[1 : 1 + 2 * count : 2], first, approximation >> 4))
            data = after
    whole = scans[:-1]  # the last is the one that is cut
    means = {c for of_scan, first, before in whole if first == 0 and before == 0 for c in of_scan}
    brightness = scans[0][0][:1] if scans else b""
    detail = any(of_scan[:1] == brightness and first > 0 for of_scan, first, _ in whole)
    begun = {c for of_scan, *_ in scans for c in of_scan}
    last = scans[-1][0] if scans else b""
    unit = sum(sampling.get(c, 1) for c in last) if len(last) > 1 else 1
    return _Frame(
        progressive,
        len(begun) >= components,
        len(means) >= components and detail,
        blocks,
        interval * unit,
        data,
    )


def _missing(content: bytes, frame: _Frame) -> float:
    """The part of a sequential JPEG's picture that is fill, in blocks."""
    data = content[: -len(END)]
    filled = _means(content)
    differ = np.zeros(filled.shape[:2], bool)
    for seed in range(2):  # a block of chance may be as grey as the fill, hardly twice
        noise = np.random.default_rng(seed).integers(0, 255, NOISE * frame.blocks, dtype=np.uint8)
        follows = noise.tobytes()  # without a byte that a marker could begin with
        if frame.interval:
            follows = _with_restarts(follows, data[frame.data :], NOISE * frame.interval)
        differ |= (filled != _means(data + follows + END)).any(axis=2)
    return float(differ.mean())


def _with_restarts(noise: bytes, data: bytes, step: int) -> bytes:
    """Noise with restart markers, numbered on from those of the data: no decoder reads on beyond one.

    Args:
        step: bytes between two, enough for as much as lies between.
    """
    last = max(range(8), key=lambda n: data.rfind(bytes([0xFF, 0xD0 + n])))
    first = last + 1 if data.rfind(bytes([0xFF, 0xD0 + last])) >= 0 else 0
    pieces = [noise[place : place + step] for place in range(0, len(noise), step)]
    markers = [bytes([0xFF, 0xD0 + (first + n) % 8]) for n in range(len(pieces))]
    return b"".join(part for pair in zip(pieces, markers, strict=True) for part in pair)


def _means(content: bytes) -> np.ndarray:
    """A JPEG's blocks as libjpeg tells them fast: uint8 [H / 8, W / 8, channels], rounded up."""
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        image.draft(None, (max(image.width // BLOCK, 1), max(image.height // BLOCK, 1)))
        pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)
