"""JPEGs that lack their end: read if little of the picture is missing, refused if much."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.data.cut_short import END, MOST_MISSING, mended
from stages.data.decode import decode, read_photograph
from stages.errors import InputError

WIDTH, HEIGHT = 240, 320
WAYS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "one size": {"subsampling": 0, "optimize": True},
    "restarts": {"restart_marker_rows": 1},
    "many restarts": {"restart_marker_blocks": 2},
    "progressive": {"progressive": True},
}
SEQUENTIAL = [way for way in WAYS if way != "progressive"]
MODES = ("RGB", "L", "CMYK")


def picture(mode: str, grain: int = 4) -> Image.Image:
    """As hard to encode in each part as in any other, so that half of the bytes are half of the rows."""
    rng = np.random.default_rng(0)
    small = rng.integers(40, 216, (HEIGHT // grain, WIDTH // grain, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    return Image.fromarray(pixels).convert(mode)


def jpeg(mode: str, way: str, grain: int = 4) -> bytes:
    made = io.BytesIO()
    picture(mode, grain).save(made, "JPEG", quality=85, **WAYS[way])
    return made.getvalue()


def data_of(content: bytes) -> int:
    """Where a sequential JPEG's data begin."""
    scan = content.rindex(b"\xff\xda")
    return scan + 2 + int.from_bytes(content[scan + 2 : scan + 4], "big")


def fault_of(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        decode(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: not readable as an image: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bytes_missing", [1, 2, 3, 17, 40])
def test_a_few_bytes_at_the_end_are_not_missed(
    tmp_path: Path, mode: str, way: str, bytes_missing: int
) -> None:
    path = tmp_path / "a.jpg"
    content = jpeg(mode, way)
    path.write_bytes(content)
    whole = read_photograph(path)
    assert not whole.cut_short
    path.write_bytes(content[:-bytes_missing])
    cut = read_photograph(path)
    assert cut.cut_short
    assert cut.pixels.shape == (HEIGHT, WIDTH, 3)
    # All but its last units, and what they lend the row above, are what they were.
    assert (cut.pixels[:-17] == whole.pixels[:-17]).all()
    if bytes_missing <= 2:  # the marker alone
        assert (cut.pixels == whole.pixels).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", SEQUENTIAL)
@pytest.mark.parametrize("missing", [0.03, 0.09])
def test_a_little_of_the_picture_may_be_missing(
    tmp_path: Path, mode: str, way: str, missing: float
) -> None:
    path = tmp_path / "a.jpg"
    content = jpeg(mode, way)
    path.write_bytes(content)
    whole = decode(path)
    path.write_bytes(content[: -int(missing * (len(content) - data_of(content)))])
    cut = read_photograph(path)
    assert cut.cut_short
    there = int(HEIGHT * (1 - missing)) - 16
    assert (cut.pixels[:there] == whole[:there]).all()
    grey = cut.pixels[-1, -1]
    assert (cut.pixels[-2:, -16:] == grey).all()  # libjpeg's fill, of one colour


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", SEQUENTIAL)
@pytest.mark.parametrize("missing", [0.18, 0.3, 0.6, 0.97])
def test_much_of_the_picture_may_not(tmp_path: Path, mode: str, way: str, missing: float) -> None:
    path = tmp_path / "a.jpg"
    content = jpeg(mode, way)
    path.write_bytes(content[: -int(missing * (len(content) - data_of(content)))])
    said = fault_of(path)
    assert "cut short: " in said
    (part,) = [word for word in said.split() if word.endswith("%")]
    assert float(part[:-1]) / 100 == pytest.approx(missing, abs=0.06)


def test_what_is_missing_is_told_from_what_is_grey(tmp_path: Path) -> None:
    """A picture whose lower half is as grey as libjpeg's fill: it is there, whole."""
    pixels = np.asarray(picture("RGB")).copy()
    pixels[HEIGHT // 2 :] = 128
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "JPEG", quality=85)
    path = tmp_path / "a.jpg"
    path.write_bytes(made.getvalue()[:-2])
    cut = read_photograph(path)
    assert cut.cut_short
    assert (cut.pixels[-100:] == 128).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_progressive_one_needs_its_first_passes(tmp_path: Path, mode: str) -> None:
    """Whatever is missing behind them makes it coarser, all over."""
    content = jpeg(mode, "progressive", grain=20)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    whole = decode(path).astype(int)
    readable = []
    for part in np.linspace(0.02, 0.98, 33):
        path.write_bytes(content[: int(part * len(content))])
        try:
            cut = read_photograph(path)
        except InputError as error:
            readable.append(False)
            assert "not readable as an image" in str(error)
            if part > 0.1:  # its headers are there
                assert "only a first, coarse pass" in str(error)
        else:
            readable.append(True)
            assert cut.cut_short
            assert np.abs(cut.pixels - whole).mean() < np.abs(128 - whole).mean() / 3
    assert not readable[0]
    assert readable[-1]
    assert readable == sorted(readable)  # once it is readable, more bytes do not make it less so


def test_colours_of_their_own_scans(tmp_path: Path) -> None:
    """A sequential JPEG may tell brightness first, then colours: without those it is another picture."""
    content = _in_scans(picture("RGB"))
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    whole = decode(path)
    scans = [place for place in range(len(content)) if content[place : place + 2] == b"\xff\xda"]
    assert len(scans) == 3
    path.write_bytes(content[: scans[2] - 10])
    assert "the picture's colours are missing" in fault_of(path)
    path.write_bytes(content[: scans[2] + (len(content) - scans[2]) // 2])
    assert "cut short: " in fault_of(path)
    path.write_bytes(content[:-20])
    cut = read_photograph(path)
    assert cut.cut_short
    assert (cut.pixels[:-16] == whole[:-16]).all()


def _in_scans(image: Image.Image) -> bytes:
    """A sequential JPEG of a scan for each component: three grey ones' scans under one frame."""
    parts = []
    for channel in image.convert("YCbCr").split():
        made = io.BytesIO()
        channel.save(made, "JPEG", quality=85)
        parts.append(made.getvalue())
    first = parts[0]
    frame = first.index(b"\xff\xc0")
    size = first[frame + 4 : frame + 9]  # bits, height, width
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    header = b"\xff\xc0\x00\x11" + size + b"\x03" + components
    scans = b"".join(
        b"\xff\xda\x00\x08\x01" + bytes([number]) + b"\x00\x00\x3f\x00" + part[data_of(part) : -2]
        for number, part in enumerate(parts, 1)
    )
    tables = first[frame + 2 + 11 : first.index(b"\xff\xda")]
    return first[:frame] + header + tables + scans + END


def test_zeros_in_the_place_of_the_end(tmp_path: Path) -> None:
    """A disk was full, and the file has its length all the same."""
    content = jpeg("RGB", "baseline")
    path = tmp_path / "a.jpg"
    path.write_bytes(content[:-100] + bytes(5000))
    assert read_photograph(path).cut_short
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    assert "cut short: " in fault_of(path)


def test_what_follows_the_end_is_no_fault(tmp_path: Path) -> None:
    for content in (jpeg("RGB", "baseline"), jpeg("L", "progressive")):
        assert mended(content) is None
        for more in (b"\0", b"\n", bytes(100), b"\xff", b"a film" * 1000, content[:-2], content):
            path = tmp_path / "a.jpg"
            path.write_bytes(content + more)
            assert not read_photograph(path).cut_short


def test_a_preview_is_not_the_picture(tmp_path: Path) -> None:
    """Its end marker, in the headers, is not the picture's."""
    whole = io.BytesIO()
    preview = jpeg("L", "baseline")
    picture("RGB").save(whole, "JPEG", quality=85, comment=preview)
    content = whole.getvalue()
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert not read_photograph(path).cut_short
    path.write_bytes(content[:-40])
    assert read_photograph(path).cut_short
    path.write_bytes(content[: content.index(preview) + len(preview)])  # ends as a JPEG does
    fault_of(path)


def test_cut_within_its_headers(tmp_path: Path) -> None:
    for way in WAYS:
        content = jpeg("RGB", way)
        first = content.index(b"\xff\xda")
        for end in (2, 30, first, first + 3, first + 14):
            path = tmp_path / "a.jpg"
            path.write_bytes(content[:end])
            fault_of(path)


def test_turned_and_cut(tmp_path: Path) -> None:
    image = picture("RGB")
    exif = image.getexif()
    exif[0x0112] = 6
    made = io.BytesIO()
    image.save(made, "JPEG", exif=exif)
    path = tmp_path / "a.jpg"
    path.write_bytes(made.getvalue()[:-40])
    cut = read_photograph(path)
    assert (cut.cut_short, cut.orientation) == (True, 6)
    assert cut.pixels.shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_other_kinds_are_not_made_up(tmp_path: Path, kind: str) -> None:
    """Pillow has a setting for those, which would take a PNG without its last rows for whole."""
    made = io.BytesIO()
    picture("RGB").save(made, kind)
    path = tmp_path / "a.jpg"
    path.write_bytes(made.getvalue()[: -len(made.getvalue()) // 20])
    assert "not readable as an image" in fault_of(path)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    way=st.sampled_from(list(WAYS)),
    part=st.floats(0, 1),
    damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
)
def test_any_cut_is_an_image_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory,
    mode: str,
    way: str,
    part: float,
    damage: list[tuple[float, int]],
) -> None:
    content = bytearray(jpeg(mode, way))
    del content[int(part * len(content)) :]
    for where, value in damage:
        if content:
            content[int(where * (len(content) - 1))] = value
    path = tmp_path_factory.mktemp("cut") / "a.jpg"
    path.write_bytes(content)
    try:
        pixels = decode(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2:] == (3,)


def test_the_limit_is_between_a_tenth_and_a_quarter() -> None:
    assert 0.1 < MOST_MISSING < 0.25
