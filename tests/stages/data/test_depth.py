"""Images of more than 8 bits a value, by their own range."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.data.decode import decode, read_photograph
from stages.data.depth import bits_of
from stages.data.size import size_of

KINDS = [".png", ".tif"]


def ramp(greatest: int, channels: int = 1) -> np.ndarray:
    """0 to `greatest`, uint16 [32, 48] or [32, 48, channels]."""
    values = np.linspace(0, greatest, 32 * 48 * channels).astype(np.uint16)
    return values.reshape((32, 48) if channels == 1 else (32, 48, channels))


def write(path: Path, values: np.ndarray) -> Path:
    """As OpenCV writes them, the channels in the order given."""
    if values.ndim == 3:
        values = values[:, :, [2, 1, 0, *range(3, values.shape[2])]]
    assert cv2.imwrite(str(path), np.ascontiguousarray(values))
    return path


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("greatest", "bits"), [(255, 8), (256, 12), (4095, 12), (4096, 16), (65535, 16), (9, 8)]
)
def test_the_bits_that_a_file_of_sixteen_uses(
    tmp_path: Path, suffix: str, channels: int, greatest: int, bits: int
) -> None:
    values = ramp(greatest, min(channels, 3))
    written = values
    if channels == 4:  # opaque, as such files are: that is no brightness
        written = np.dstack([values, np.full(values.shape[:2], 65535, np.uint16)])
    photograph = read_photograph(write(tmp_path / f"a{suffix}", written))
    expected = values >> (bits - 8)
    if channels == 1:
        expected = np.repeat(expected[:, :, None], 3, axis=2)
    assert (photograph.pixels == expected).all()
    assert photograph.stretched == {8: (0, 255), 12: (0, 4095), 16: None}[bits]


def test_twelve_bits_were_nearly_black_and_an_ordinary_image_stays_as_it_was(
    tmp_path: Path,
) -> None:
    medical, dark = ramp(4095), ramp(9000)
    assert decode(write(tmp_path / "a.png", medical)).mean() > 120
    assert (decode(write(tmp_path / "b.png", dark))[:, :, 0] == dark >> 8).all()


@pytest.mark.parametrize("order", ["<u2", ">u2"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_of_either_order_of_bytes_and_turned(tmp_path: Path, order: str, orientation: int) -> None:
    values = ramp(4095)
    _write_tiff(tmp_path / "a.tif", values, order, orientation=orientation)
    expected = values >> 4 if orientation == 1 else np.rot90(values >> 4, -1)
    photograph = read_photograph(tmp_path / "a.tif")
    assert (photograph.pixels[:, :, 1] == expected).all()
    assert photograph.orientation == orientation
    assert (photograph.width, photograph.height) == (48, 32)
    assert size_of(tmp_path / "a.tif") == photograph.pixels.shape[1::-1]


def _write_tiff(
    path: Path, values: np.ndarray, order: str, photometric: int = 1, orientation: int = 1
) -> None:
    """By hand: Pillow writes the one order only."""
    end = "<" if order[0] == "<" else ">"
    height, width = values.shape
    data = values.astype(order).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[order[1]]
    tags = {
        256: width,
        257: height,
        258: 8 * int(order[2]),
        259: 1,
        262: photometric,
        273: 8,
        274: orientation,
        277: 1,
        278: height,
        279: len(data),
        339: kind,
    }
    directory = np.array(len(tags), f"{end}u2").tobytes()
    for tag, value in tags.items():
        directory += np.array([tag, 4], f"{end}u2").tobytes()
        directory += np.array([1, value], f"{end}u4").tobytes()
    start = {"<": b"II*\0", ">": b"MM\0*"}[end]
    path.write_bytes(
        start + np.array(8 + len(data), f"{end}u4").tobytes() + data + directory + bytes(4)
    )


def test_tiffs_whose_zero_is_white(tmp_path: Path) -> None:
    values = ramp(4095)
    _write_tiff(tmp_path / "a.tif", values, "<u2", photometric=0)
    assert (decode(tmp_path / "a.tif")[:, :, 0] == 255 - (values >> 4)).all()


@pytest.mark.parametrize("order", ["<i4", ">i4", "<u4", "<f4", ">f4", "<i2", ">i2"])
@pytest.mark.parametrize(("low", "high"), [(0, 1000), (1000, 30000), (0, 1)])
def test_others_by_their_own_range(tmp_path: Path, order: str, low: int, high: int) -> None:
    values = np.linspace(low, high, 32 * 48).reshape(32, 48).astype(order)
    _write_tiff(tmp_path / "a.tif", values, order)
    photograph = read_photograph(tmp_path / "a.tif")
    exact = (values.astype(float) - low) / (high - low) * 255
    assert np.abs(photograph.pixels[:, :, 0] - exact).max() <= 0.5
    assert photograph.stretched == (low, high)
    assert (photograph.pixels == photograph.pixels[:, :, :1]).all()


def test_numbers_below_zero_and_above_those_with_a_sign(tmp_path: Path) -> None:
    values = np.array([[-500, 0, 500]], np.int32)
    _write_tiff(tmp_path / "a.tif", values, "<i4")
    assert decode(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]
    values = np.array([[0, 2**31, 2**32 - 1]], np.uint32)
    _write_tiff(tmp_path / "b.tif", values, "<u4")
    photograph = read_photograph(tmp_path / "b.tif")
    assert photograph.pixels[0, :, 0].tolist() == [0, 128, 255]
    assert photograph.stretched == (0, 2**32 - 1)


def test_what_is_no_number(tmp_path: Path) -> None:
    values = np.array([[np.nan, -np.inf, -1.0, 1.0, 3.0, np.inf]], np.float32)
    _write_tiff(tmp_path / "a.tif", values, "<f4")
    photograph = read_photograph(tmp_path / "a.tif")
    assert photograph.pixels[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255]
    assert photograph.stretched == (-1, 3)


@pytest.mark.parametrize(
    "values",
    [
        np.full((4, 5), np.nan, np.float32),
        np.full((4, 5), np.inf, np.float32),
        np.full((4, 5), 7.5, np.float32),
        np.full((4, 5), -3, np.int32),
    ],
)
def test_nothing_to_be_seen(tmp_path: Path, values: np.ndarray) -> None:
    _write_tiff(tmp_path / "a.tif", values, values.dtype.str)
    photograph = read_photograph(tmp_path / "a.tif")
    assert not photograph.pixels.any()
    assert photograph.stretched is not None


@pytest.mark.filterwarnings("error")
def test_the_farthest_numbers(tmp_path: Path) -> None:
    most = float(np.finfo(np.float32).max)
    _write_tiff(tmp_path / "a.tif", np.array([[-most, 0, most]], np.float32), "<f4")
    assert decode(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("white", [255, 1023, 4095, 65535])
@pytest.mark.parametrize("kind", [b"P5", b"P6"])
def test_a_pgm_says_which_value_is_white(tmp_path: Path, white: int, kind: bytes) -> None:
    values = np.linspace(0, white // 20, 60).astype(">u2" if white > 255 else "u1")
    size = b"60 1" if kind == b"P5" else b"20 1"
    path = tmp_path / "a.ppm"
    path.write_bytes(kind + b" " + size + b" %d\n" % white + values.tobytes())
    photograph = read_photograph(path)
    seen = photograph.pixels[:, :, 0] if kind == b"P5" else photograph.pixels
    assert np.abs(seen.ravel() - values / white * 255).max() <= 1  # dark, as it says
    assert photograph.stretched is None


@given(values=st.lists(st.integers(0, 65535), min_size=2, max_size=40))
def test_order_is_kept_whatever_the_values(
    tmp_path_factory: pytest.TempPathFactory, values: list[int]
) -> None:
    """A brighter value is never shown darker, and none is clipped."""
    path = tmp_path_factory.getbasetemp() / "depth.png"
    array = np.array([values], np.uint16)
    Image.fromarray(array).save(path)
    step = 2 ** (bits_of(max(values)) - 8)
    assert (decode(path)[0, :, 0] == array[0] // step).all()
