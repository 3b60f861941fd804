"""The size that the header tells is that of the decoded image."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from stages.data.decode import decode
from stages.data.size import size_of
from stages.errors import InputError


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_as_decoded(tmp_path: Path, suffix: str, orientation: int | None) -> None:
    picture = Image.new("RGB", (40, 24))
    exif = picture.getexif()
    if orientation is not None:
        exif[0x0112] = orientation
    picture.save(tmp_path / f"a{suffix}", exif=exif)
    height, width, _ = decode(tmp_path / f"a{suffix}").shape
    assert size_of(tmp_path / f"a{suffix}") == (width, height)
    assert ((width, height) == (24, 40)) == ((orientation or 1) >= 5)


def test_nothing_is_decoded(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG"):
        Image.new("RGB", (40, 24)).save(tmp_path / "a", kind)
        content = (tmp_path / "a").read_bytes()
        (tmp_path / "a").write_bytes(content[:-20])  # cut short
        assert size_of(tmp_path / "a") == (40, 24)


@pytest.mark.parametrize("content", [b"", b"a text\n" * 50, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.jpg: not readable as an image"):
        size_of(tmp_path / "a.jpg")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jpg: missing"):
        size_of(tmp_path / "a.jpg")


def test_a_size_is_told_where_the_pixels_would_not_be_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads a data set may allow more pixels than usual; a size beyond all bounds is none."""
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr("stages.data.opening.MOST_PIXELS", 4000)
    with pytest.raises(InputError, match=r"a\.png: not readable"):
        decode(tmp_path / "a.png")
    assert size_of(tmp_path / "a.png") == (100, 100)
    for limit in (6000, 4000):
        monkeypatch.setattr("stages.data.size.MOST_TOLD", limit)
        with pytest.raises(InputError, match=r"a\.png: not readable"):
            size_of(tmp_path / "a.png")
