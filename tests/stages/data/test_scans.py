"""JPEGs that go over their image again and again."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.decode import decode
from stages.data.opening import MOST_PIXELS
from stages.data.scans import LARGEST, MOST, WORK, check_scans
from stages.errors import InputError


def jpeg(side: int = 64, **how: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "JPEG", **how)
    return made.getvalue()


def repeated(content: bytes, times: int) -> bytes:
    """Its last scan over and over."""
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * times + b"\xff\xd9"


def fault_of(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        decode(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("progressive", [True, False])
def test_a_bomb_of_scans_is_refused_before_it_goes_off(tmp_path: Path, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(repeated(jpeg(1024, quality=1, progressive=progressive), 1000))
    began = time.process_time()
    assert f"{path}: not readable as an image: a JPEG of more than {MOST} scans" in fault_of(path)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_others_are_read(tmp_path: Path, how: dict[str, object]) -> None:
    path = tmp_path / "a.jpg"
    # What is embedded, or follows the image, as a telephone's film does, is not the image's.
    content = jpeg(**how, comment=b"\xff\xda" * 200) + b"\xff\xda\x00\x02" * 200
    path.write_bytes(content)
    assert decode(path).shape == (64, 64, 3)


def test_some_scans_are_read(tmp_path: Path) -> None:
    whole = jpeg(progressive=True)
    path = tmp_path / "a.jpg"
    path.write_bytes(repeated(whole, MOST + 1 - whole.count(b"\xff\xda")))
    assert decode(path).shape == (64, 64, 3)
    path.write_bytes(repeated(whole, MOST + 2 - whole.count(b"\xff\xda")))
    assert "scans" in fault_of(path)


def test_a_large_image_may_have_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = jpeg(progressive=True)
    path = tmp_path / "a.jpg"
    path.write_bytes(repeated(whole, 11))
    scans = whole.count(b"\xff\xda") + 10
    monkeypatch.setattr("stages.data.scans.WORK", scans * 64 * 64)
    assert decode(path).shape == (64, 64, 3)
    monkeypatch.setattr("stages.data.scans.WORK", scans * 64 * 64 - 1)
    assert f"more than {scans - 1} scans" in fault_of(path)


def test_the_largest_may_be_progressive() -> None:
    assert MOST_PIXELS * jpeg(progressive=True).count(b"\xff\xda") < WORK


def test_a_file_larger_than_any_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    with open(path, "r+b") as file:
        file.truncate(LARGEST + 1)
    assert f"a JPEG of {LARGEST + 1} bytes" in fault_of(path)


def test_other_formats_have_no_scans(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    pixels.ravel()[: 4 * MOST] = [0xFF, 0xDA, 0, 2] * MOST
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    with Image.open(tmp_path / "a.bmp") as image:
        check_scans(image, tmp_path / "a.bmp")
    assert decode(tmp_path / "a.bmp").shape == (64, 64, 3)
