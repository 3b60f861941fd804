"""From records to tensors: the same in any number of workers, masks by the object's number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data.images import MOST_MASKS, check_masks, load_images, masks_of, target_of
from stages.data.records import Record
from stages.data.voc import VOCFolder
from stages.errors import InputError
from tests.faults.fuzz.memory import limited

CAT, DOG = ("cat", 3, 4, 20, 30), ("dog", 10, 2, 40, 33, 1)


@pytest.fixture
def data(make_voc: Callable[..., Path]) -> VOCFolder:
    """Two training images; the first has masks, as VOC stores them: a palette and a void border."""
    root = make_voc({"one": [CAT, DOG], "two": [], "three": [CAT]})
    (root / "SegmentationObject").mkdir()
    pixels = np.zeros((40, 48), np.uint8)
    pixels[3:30, 2:20], pixels[1:3, 9:40], pixels[35:, 45:] = 1, 2, 255
    indexed = Image.fromarray(pixels).convert("P")
    indexed.putpalette([value for value in range(256) for _ in range(3)])
    indexed.save(root / "SegmentationObject" / "one.png")
    return VOCFolder(root, "made")


def test_a_target(data: VOCFolder) -> None:
    target = target_of(data.train[0])
    assert target["boxes"].tolist() == [[2, 3, 20, 30], [9, 1, 40, 33]]
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [1, 2]
    assert target["labels"].dtype == torch.int64
    assert target["difficult"].tolist() == [False, True]
    assert target["iscrowd"].tolist() == [False, False]
    assert target["image_id"] == "one"
    assert target_of(data.train[1])["boxes"].shape == (0, 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_in_order(
    data: VOCFolder, workers: int, make_photograph: Callable[..., np.ndarray]
) -> None:
    loaded = list(load_images([*data.train, *data.test], workers))
    assert [target["image_id"] for _, target in loaded] == ["one", "two", "three"]
    for image, target in loaded:
        assert image.shape == (3, 40, 48)
        assert image.dtype == torch.uint8
        drawn = make_photograph(target["image_id"], 48, 40)
        assert np.abs(image.permute(1, 2, 0).numpy() - drawn.astype(float)).mean() < 20


def test_masks(data: VOCFolder) -> None:
    masks = masks_of(data.train[0])
    assert masks.dtype == torch.bool
    assert masks.shape == (2, 40, 48)
    assert masks.sum(dim=(1, 2)).tolist() == [27 * 18, 2 * 31]
    assert masks[0, 3, 2]
    assert masks[1, 1, 9]
    assert not masks[:, 36, 46].any()  # void is nobody's


def test_no_masks_is_an_error(data: VOCFolder) -> None:
    with pytest.raises(InputError, match=r"two\.jpg: has no masks"):
        masks_of(data.train[1])


def truncated(path: Path, _: Record) -> None:
    path.write_bytes(path.read_bytes()[:60])


def text(path: Path, _: Record) -> None:
    path.write_text("no picture")


def gone(path: Path, _: Record) -> None:
    path.unlink()


def other_size(path: Path, record: Record) -> None:
    Image.new("L", (record.height, record.width)).save(path)


def in_colours(path: Path, record: Record) -> None:
    Image.new("RGB", (record.width, record.height)).save(path)


def of_gigabytes(path: Path, _: Record) -> None:
    """A part that claims to be as long as no machine has memory."""
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT")
    content[place - 4 : place] = b"\x7f\xff\xff\xff"
    path.write_bytes(content)


@pytest.mark.parametrize("fault", [truncated, text, gone, other_size, in_colours, of_gigabytes])
def test_a_faulty_file_of_masks_is_named(
    data: VOCFolder, fault: Callable[[Path, Record], None]
) -> None:
    record = data.train[0]
    assert record.mask_path is not None
    fault(record.mask_path, record)
    with pytest.raises(InputError) as raised, limited():
        masks_of(record)
    assert str(raised.value).startswith(f"{record.mask_path}: ")
    assert "\n" not in str(raised.value)


def test_a_decompression_bomb_of_masks_is_named(
    data: VOCFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.data.opening.MOST_PIXELS", 48 * 40 - 1)
    with pytest.raises(InputError, match=r"one\.png"):
        masks_of(data.train[0])


def test_more_masks_than_memory_holds_are_refused(data: VOCFolder) -> None:
    record = data.train[0]
    count = MOST_MASKS // (record.width * record.height)
    many = replace(
        record, boxes=np.zeros((count + 1, 4), np.float32), segmentations=((),) * (count + 1)
    )
    with pytest.raises(InputError) as raised, limited():
        masks_of(many)
    size = f"{record.width}x{record.height}"
    assert str(raised.value).startswith(f"{record.path}: {count + 1} masks of {size} pixels take ")
    check_masks(replace(many, boxes=many.boxes[1:]))
