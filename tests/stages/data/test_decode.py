"""Image files of every kind as RGB, or an error that names the file."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data import decode as decode_module
from stages.data.decode import ImageCache, decode, image_of
from stages.data.records import Record
from stages.data.size import size_of
from stages.errors import InputError

ORIENTATION = 0x0112


@pytest.fixture
def picture() -> np.ndarray:
    """Four plain quarters, uint8 [32, 48, 3], so that JPEG hardly changes them."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :24], image[:16, 24:] = (200, 40, 40), (30, 180, 60)
    image[16:, :24], image[16:, 24:] = (20, 60, 210), (240, 240, 240)
    return image


def record_of(path: Path, width: int, height: int) -> Record:
    none = np.zeros(0, bool)
    return Record(
        path.stem, path, width, height, np.zeros((0, 4), np.float32), np.zeros(0, int), none, none
    )


def fault_of(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        decode(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


# ------------------------------------------------------------------ kinds of files


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_lossless(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(picture).save(path)
    image = decode(path)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert (image == picture).all()


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(picture).save(path, quality=95)
    assert np.abs(decode(path)[4:12, 4:20].astype(int) - picture[4:12, 4:20]).max() <= 6


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_grey(tmp_path: Path, suffix: str) -> None:
    grey = np.repeat(np.arange(0, 240, 5, dtype=np.uint8)[None], 32, axis=0)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(grey).save(path)
    image = decode(path)
    assert image.shape == (32, 48, 3)
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    assert np.abs(image[..., 0].astype(int) - grey).max() <= 4


def test_black_and_white(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).random((8, 16)) > 0.5
    Image.fromarray(bits).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode == "1"
    assert (decode(tmp_path / "a.png") == np.where(bits, 255, 0)[..., None]).all()


def test_palette(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).quantize(8).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode == "P"
    assert (decode(tmp_path / "a.png") == picture).all()


def test_palette_with_a_transparent_colour(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).quantize(8).save(tmp_path / "a.png", transparency=0)
    assert decode(tmp_path / "a.png").shape == picture.shape


def test_cmyk(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.mode == "CMYK"
    assert np.abs(decode(tmp_path / "a.jpg")[4:12, 4:20].astype(int) - (200, 40, 40)).max() <= 8


def test_transparency_is_dropped(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.full((32, 48, 1), 255, np.uint8)
    alpha[16:] = 128
    Image.fromarray(np.concatenate([picture, alpha], axis=2)).save(tmp_path / "a.png")
    image = decode(tmp_path / "a.png")
    assert image.shape == (32, 48, 3)
    assert (image[:16] == picture[:16]).all()


def test_sixteen_bits_of_grey_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    """As microscopes and medical scanners write them."""
    grey = np.linspace(0, 65535, 48 * 32).reshape(32, 48).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode.startswith("I")
    image = decode(tmp_path / "a.png")
    assert np.abs(image.astype(float) - grey[..., None] / 257).max() <= 1
    assert 120 < image.mean() < 135


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_as_the_camera_was_held(
    tmp_path: Path, picture: np.ndarray, orientation: int
) -> None:
    stored = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, 1),  # held turned: the viewer turns it clockwise
        7: np.rot90(picture.transpose(1, 0, 2), 2),
        8: np.rot90(picture, -1),
    }[orientation]
    saved = Image.fromarray(np.ascontiguousarray(stored))
    exif = saved.getexif()
    exif[ORIENTATION] = orientation
    saved.save(tmp_path / "a.png", exif=exif)
    assert (decode(tmp_path / "a.png") == picture).all()


# ------------------------------------------------------------------ faults


def test_missing(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "a.jpg").endswith("missing")


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a text, not a picture\n" * 50, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
)
def test_no_image_whatever_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert "not readable as an image" in fault_of(tmp_path / "a.jpg")


def test_a_folder(tmp_path: Path) -> None:
    fault_of(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_cut_short(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, kind)
    content = whole.getvalue()
    path = tmp_path / "a.jpg"
    for part in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(part * len(content))])
        assert "not readable as an image" in fault_of(path)
    path.write_bytes(content)
    assert decode(path).shape == (32, 48, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.filterwarnings("ignore:::PIL")
def test_damage_is_an_input_error_or_an_image(
    tmp_path: Path, kind: str, picture: np.ndarray
) -> None:
    saved = Image.fromarray(picture)
    exif = saved.getexif()
    exif[ORIENTATION] = 6
    whole = io.BytesIO()
    saved.save(whole, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    rng = np.random.default_rng(0)
    path = tmp_path / "a.jpg"
    refused = 0
    for _ in range(80):
        content = bytearray(whole.getvalue())
        for _ in range(rng.integers(1, 4)):  # mostly in the header, where it hurts
            content[rng.integers(0, min(len(content), 150))] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            image = decode(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
            refused += 1
        else:
            assert image.dtype == np.uint8
            assert image.shape[2:] == (3,)
    assert refused > 0


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    for limit in (6000, 4000):  # where Pillow would only warn of it, and where it would be an error
        monkeypatch.setattr("stages.data.opening.MOST_PIXELS", limit)
        assert "not readable as an image" in fault_of(tmp_path / "a.png")
    monkeypatch.setattr("stages.data.opening.MOST_PIXELS", 10_000)
    assert decode(tmp_path / "a.png").shape == (100, 100, 3)


def test_more_pixels_where_the_caller_allows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any number, in that call alone; Pillow's own limit would refuse twice as many as usual whoever asks."""
    assert Image.MAX_IMAGE_PIXELS is None
    monkeypatch.setattr("stages.data.opening.MOST_PIXELS", 1000)
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 10_000).shape == (100, 100, 3)
    assert "100x100 pixels, over 1000" in fault_of(tmp_path / "a.png")
    with pytest.raises(InputError, match="over 9999"):
        decode(tmp_path / "a.png", 9_999)
    record = record_of(tmp_path / "a.png", 100, 100)
    with pytest.raises(InputError, match="over 1000"):
        image_of(record)
    assert image_of(replace(record, most_pixels=10_000)).shape == (100, 100, 3)


def test_a_large_jpeg_may_have_as_many_scans_where_it_is_allowed(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", progressive=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.data.opening.MOST_PIXELS", 64 * 64 // 10)
        patch.setattr("stages.data.scans.MOST_PIXELS", 64 * 64 // 10)
        patch.setattr("stages.data.scans.WORK", 16 * (64 * 64 // 10))
        assert decode(tmp_path / "a.jpg", 64 * 64).shape == (64, 64, 3)


def test_no_program_is_started_for_a_file_that_only_claims_to_be_a_photograph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("was started"))
    (tmp_path / "a.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n%%EOF\n"
    )
    assert "cannot identify image file" in fault_of(tmp_path / "a.jpg")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "1", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_tall_images_are_converted_in_parts(
    tmp_path: Path, mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 7), dtype=np.uint8)
    saved = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else None
    saved = Image.fromarray(pixels).convert(mode) if saved is None else saved
    exif = saved.getexif()
    exif[ORIENTATION] = orientation
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    saved.save(path, exif=exif)
    whole = decode(path)
    for rows in (1, 7, 16, 49, 50):
        monkeypatch.setattr("stages.data.depth.ROWS", rows)
        assert np.array_equal(decode(path), whole)
    assert whole.shape == ((50, 7, 3) if orientation == 1 else (7, 50, 3))


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "CMYK", "I;16"])
def test_turned_tiffs_of_every_mode(tmp_path: Path, mode: str) -> None:
    """Pillow maps uncompressed ones into memory, where it would take their sides for one another."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 7), dtype=np.uint8)
    plain = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else None
    plain = Image.fromarray(pixels).convert(mode) if plain is None else plain
    plain.save(tmp_path / "plain.tif")
    exif = plain.getexif()
    exif[ORIENTATION] = 6
    plain.save(tmp_path / "turned.tif", exif=exif)
    assert np.array_equal(
        decode(tmp_path / "turned.tif"), np.rot90(decode(tmp_path / "plain.tif"), -1)
    )
    assert size_of(tmp_path / "turned.tif") == (50, 7)


def test_a_webp_may_be_half_as_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "a.webp")
    monkeypatch.setattr("stages.data.opening.MOST_PIXELS", 15_000)
    assert "10000" not in fault_of(tmp_path / "a.webp").partition("over")[2]
    monkeypatch.setattr("stages.data.opening.MOST_PIXELS", 20_000)
    assert decode(tmp_path / "a.webp").shape == (100, 100, 3)


# ------------------------------------------------------------------ records and their cache


def test_the_records_size_must_be_the_images(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert (image_of(record_of(tmp_path / "a.png", 48, 32)) == picture).all()
    for size in ((32, 48), (48, 33), (47, 32)):
        with pytest.raises(InputError, match=r"a\.png: 48x32 pixels, but .* says"):
            image_of(record_of(tmp_path / "a.png", *size))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What was decoded since the last call, by name."""
    decoded: list[str] = []
    genuine = decode

    def counting(path: Path, most: int | None) -> np.ndarray:
        decoded.append(path.stem)
        return genuine(path, most)

    monkeypatch.setattr(decode_module, "decode", counting)

    def since() -> list[str]:
        names = list(decoded)
        decoded.clear()
        return names

    return since


def four_records(tmp_path: Path) -> list[Record]:
    for shade, name in enumerate("abcd"):
        Image.new("RGB", (10, 10), (shade, 0, 0)).save(tmp_path / f"{name}.png")  # 300 bytes each
    return [record_of(tmp_path / f"{name}.png", 10, 10) for name in "abcd"]


def test_a_cache_decodes_once_what_fits(tmp_path: Path, counted: Callable[[], list[str]]) -> None:
    cache = ImageCache(four_records(tmp_path), budget=2 * 300)
    for _ in range(2):
        for index in (0, 1, 2, 3, 3):
            assert (cache[index] == (index, 0, 0)).all()
    # Two fit; the others are decoded each time they are asked for.
    assert counted() == ["a", "b", "c", "d", "d", "c", "d", "d"]


@pytest.mark.parametrize(("budget", "kept"), [(0, 0), (299, 0), (300, 1), (899, 2), (10**6, 4)])
def test_a_cache_keeps_to_its_budget(
    tmp_path: Path, counted: Callable[[], list[str]], budget: int, kept: int
) -> None:
    cache = ImageCache(four_records(tmp_path), budget)
    for _ in range(2):
        for index in range(4):
            _ = cache[index]
    assert len(counted()) == 8 - kept


def test_a_smaller_image_may_still_fit(tmp_path: Path, counted: Callable[[], list[str]]) -> None:
    records = four_records(tmp_path)
    Image.new("RGB", (5, 5)).save(tmp_path / "small.png")
    records.append(record_of(tmp_path / "small.png", 5, 5))
    cache = ImageCache(records, budget=300 + 75)
    for index in (0, 1, 4, 0, 4):
        _ = cache[index]
    assert counted() == ["a", "b", "small"]
