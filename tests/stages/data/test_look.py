"""One look at an image file tells what `decode` would do with it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.decode import decode
from stages.data.look import Look, fingerprint_of, look_at


@pytest.fixture
def pixels() -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC))


def jpeg(pixels: np.ndarray, orientation: int = 1) -> bytes:
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    made = io.BytesIO()
    image.save(made, "JPEG", quality=90, exif=exif)
    return made.getvalue()


def test_a_sound_file(tmp_path: Path, pixels: np.ndarray) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(pixels))
    look = look_at(tmp_path / "a.jpg")
    assert look.fault is None
    assert not look.cut_short
    assert (look.width, look.height, look.orientation) == (160, 120, 1)
    assert look.stretched is None
    assert look.oddities == []
    assert len(look.digest) == 32
    assert look.fingerprint == fingerprint_of(decode(tmp_path / "a.jpg"))
    assert len(look.fingerprint) == 64


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_as_stored_and_upright(
    tmp_path: Path, pixels: np.ndarray, suffix: str, orientation: int
) -> None:
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    image.save(path, exif=exif)
    look = look_at(path)
    assert (look.width, look.height, look.orientation) == (160, 120, orientation)
    assert look.upright == decode(path).shape[1::-1]
    assert look.fingerprint == fingerprint_of(decode(path))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none(tmp_path: Path, pixels: np.ndarray, orientation: int) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(pixels, orientation))
    look = look_at(tmp_path / "a.jpg")
    assert look.orientation == 1
    assert look.upright == (160, 120) == decode(tmp_path / "a.jpg").shape[1::-1]


def test_what_is_odd(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(pixels)[:-30])
    look = look_at(path)
    assert look.fault is None
    assert look.cut_short
    assert look.oddities == ["lacks its end; what is missing is grey"]
    Image.fromarray(np.linspace(0, 3000, 600).reshape(20, 30).astype(np.uint16)).save(path, "PNG")
    look = look_at(path)
    assert look.stretched == (0, 4095)
    assert look.oddities == [
        "more than 8 bits a value, of which 0 is shown as black, 4095 as white"
    ]


def test_what_cannot_be_read(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    content = jpeg(pixels)
    for broken, says in (
        (b"no picture", "cannot identify"),
        (content[: len(content) // 2], "of the picture is missing"),
        (b"", "cannot identify"),
    ):
        path.write_bytes(broken)
        look = look_at(path)
        assert look.fault is not None
        assert look.fault.startswith("not readable as an image: ")
        assert says in look.fault
        assert "\n" not in look.fault
        assert (look.width, look.height, look.fingerprint) == (0, 0, "")
        assert len(look.digest) == 32
    assert look_at(tmp_path / "none.jpg") == Look("missing", False, 0, 0, 1, None, "", "")
    assert look_at(tmp_path).fault is not None
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "pipe" in str(look_at(tmp_path / "pipe.jpg").fault)


def test_more_pixels_where_they_are_allowed(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.data.opening.MOST_PIXELS", 160 * 120 - 1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert "160x120 pixels, over 19199" in str(look_at(tmp_path / "a.png").fault)
    assert look_at(tmp_path / "a.png", 160 * 120).fault is None


def test_the_digest_is_of_the_bytes(tmp_path: Path, pixels: np.ndarray) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(pixels))
    (tmp_path / "b.jpg").write_bytes(jpeg(pixels))
    (tmp_path / "c.jpg").write_bytes(jpeg(pixels) + b"\0")
    a, b, c = (look_at(tmp_path / f"{name}.jpg") for name in "abc")
    assert a == b
    assert a.digest != c.digest
    assert a.fingerprint == c.fingerprint


def test_json_holds_it(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(np.full((4, 5), 300, np.uint16)).save(tmp_path / "b.png")
    for name in ("a.png", "b.png", "none.png"):
        look = look_at(tmp_path / name)
        assert Look(**json.loads(json.dumps(asdict(look)))) == look


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (16, 17), (17, 16), (33, 2000)])
def test_pictures_of_every_shape_have_a_fingerprint(size: tuple[int, int]) -> None:
    width, height = size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert len(bytes.fromhex(fingerprint_of(picture))) == 32


def test_a_fingerprint_by_hand() -> None:
    """17 x 16 pixels are its cells; brightness grows to the right in the first row, falls in the others."""
    row = np.arange(17, dtype=np.uint8) * 10
    cells = np.stack([row] + [row[::-1]] * 15)
    assert fingerprint_of(np.repeat(cells[:, :, None], 3, axis=2)) == "ffff" + "0000" * 15


def test_workers_that_look_never_load_torch() -> None:
    code = "import sys, stages.data.look, stages.data.twins; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
