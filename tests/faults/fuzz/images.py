"""Photographs of every kind that is read, from each of its ways of being written."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import ExifTags, Image

from stages.data.decode import decode
from stages.data.size import size_of
from tests.faults.fuzz.reader import Case, Reader

WIDTH, HEIGHT = 17, 11
# File name -> mode, and how it is saved.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline.jpg": ("RGB", {"quality": 80, "exif": True}),
    "progressive.jpg": ("RGB", {"progressive": True, "exif": True}),
    "cmyk.jpg": ("CMYK", {}),
    "stereo.jpg": ("RGB", {"format": "MPO", "save_all": True}),
    "rgb.png": ("RGB", {"exif": True}),
    "palette.png": ("P", {"transparency": 3}),
    "sixteen.png": ("I;16", {}),
    "alpha.png": ("RGBA", {}),
    "one.png": ("1", {}),
    "rgb.bmp": ("RGB", {}),
    "palette.bmp": ("P", {}),
    "lossy.webp": ("RGB", {"exif": True}),
    "lossless.webp": ("RGBA", {"lossless": True}),
    "moving.gif": ("P", {"save_all": True}),
    "raw.tif": ("RGB", {}),
    "grey.tif": ("L", {"exif": True}),
    "lzw.tif": ("RGB", {"compression": "tiff_lzw"}),
    "deflate.tif": ("I;16", {"compression": "tiff_adobe_deflate"}),
    "jpeg.tif": ("RGB", {"compression": "jpeg"}),
    "whole.tif": ("I", {}),
    "float.tif": ("F", {}),
    "restarts.jpg": ("L", {"restart_marker_blocks": 1}),
    "fax.tif": ("1", {"compression": "group4"}),
    "rgb.ppm": ("RGB", {}),
    "grey.pgm": ("L", {}),
}


def _make(folder: Path) -> Sequence[str]:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for name, (mode, options) in KINDS.items():
        picture = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            picture = Image.fromarray(np.array(picture).astype(np.uint16) * 257)
        options = dict(options)
        if options.pop("exif", False):
            exif = picture.getexif()
            exif[ExifTags.Base.Orientation] = 6
            options["exif"] = exif
        if options.get("save_all"):
            options["append_images"] = [picture.rotate(180)]
        picture.save(folder / name, **options)
    return list(KINDS)


def _read(folder: Path, name: str) -> None:
    pixels = decode(folder / name)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    # What records say of an image is from its header, what they are held against from its pixels.
    assert size_of(folder / name) == (pixels.shape[1], pixels.shape[0])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(chunks) + _chunk(b"IEND", b"")


@cache
def _text_bomb() -> bytes:
    return _png(4, 4, _chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(10**8), 1)))


@cache
def _profile_bomb() -> bytes:
    return _png(4, 4, _chunk(b"iCCP", b"a\x00\x00" + zlib.compress(bytes(10**8), 1)))


def _of_bmp(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def _of_gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + b";"


def _ghostscript() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n%%EOF\n"


SIDES = (0, 1, 2**14, 2**16 - 1)
BOMBS: list[Callable[[], bytes]] = [
    _text_bomb,
    _profile_bomb,
    _ghostscript,
    lambda: b"P6 100000000 100000000 255\n",
    lambda: b"P6 9460 9450 255\n",
    lambda: b"P5 4 4 65535\n" + bytes(32),
    lambda: b"P3 4 4 255\n" + b"9" * 100_000,
]


def _wrong(folder: Path) -> st.SearchStrategy[Case]:
    """Headers that declare more than there is, and what only claims to be a photograph."""
    sides = st.sampled_from((*SIDES, 2**31 - 1, 2**32 - 1))
    pngs = st.builds(
        lambda width, height, depth, colour, content: _png(
            width, height, _chunk(b"IDAT", zlib.compress(content)), depth=depth, colour=colour
        ),
        sides,
        sides,
        st.sampled_from((1, 8, 16, 3)),
        st.sampled_from((0, 2, 3, 4, 6, 7)),
        st.binary(max_size=30),
    )
    small = st.sampled_from(SIDES)
    bmps = st.builds(
        lambda width, height: _of_bmp(width, height),
        st.sampled_from((*SIDES, -1, -(2**31))),
        st.sampled_from((*SIDES, -1, -(2**31))),
    )
    gifs = st.builds(lambda width, height: _of_gif(width, height), small, small)
    bombs = st.sampled_from(BOMBS).map(lambda make: make())
    # One kind's file under another's name, and two files in one.
    names = st.sampled_from(list(KINDS))
    joined = st.builds(
        lambda one, other, at: (folder / one).read_bytes()[:at] + (folder / other).read_bytes(),
        names,
        names,
        st.sampled_from((0, 2, 20, 200)),
    )
    return st.one_of(pngs, bmps, gifs, bombs, joined).map(lambda content: Case("rgb.png", content))


IMAGES = Reader("Images", _make, _read, _wrong, share=2, quick=250)
