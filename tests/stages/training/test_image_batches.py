"""Batches of whole images: who is in one, and what mirroring does to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.data.images import image_tensor
from stages.errors import InputError
from stages.ranks import Ranks
from stages.training.image_batches import ImageBatches, check_step, mirror

Make = Callable[..., Any]
BOX = [5.0, 6.0, 25.0, 30.0]

# Who is in a batch ---------------------------------------------------------------------------


def batches_of(
    data: Any, usable: Any = None, images: int = 2, mirror: bool = True, seed: int = 0
) -> ImageBatches:
    chosen = np.arange(len(data.train)) if usable is None else np.array(usable)
    return ImageBatches(data.train, chosen, images, mirror, seed, data.reader)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 100))
def test_each_image_comes_once_before_any_comes_again(count: int, images: int, seed: int) -> None:
    usable = np.arange(count) * 3 + 1
    batches = ImageBatches([], usable, images, True, seed)
    places = [index for s in range(4 * count) for index in batches.choose(s)]
    assert all(len(batches.choose(s)) == images for s in range(3))
    for epoch in range(len(places) // count):
        assert sorted(places[epoch * count : (epoch + 1) * count]) == usable.tolist()


def test_no_more_ranks_than_images_a_step() -> None:
    check_step(2, Ranks(0, 2))
    with pytest.raises(InputError, match="1 for 2 ranks"):
        check_step(1, Ranks(0, 2))
    with pytest.raises(InputError, match="windows of a step: 1"):
        check_step(1, Ranks(0, 2), "windows")
    with pytest.raises(InputError, match="2 for 3 ranks"):
        ImageBatches([], np.arange(9), 2, True, 0, ranks=Ranks(0, 3))


def test_every_epoch_has_an_order_of_its_own() -> None:
    batches = ImageBatches([], np.arange(30), 30, True, 3)
    orders = [tuple(batches.choose(epoch)) for epoch in range(6)]
    assert len(set(orders)) == 6
    assert tuple(range(30)) not in orders


def test_a_batch_is_its_images_with_all_that_is_theirs(toy: Any) -> None:
    batches = batches_of(toy, mirror=False, images=3)
    for s in range(6):
        batch = batches[s]
        chosen = [toy.train[index] for index in batches.choose(s)]
        assert batch["image_ids"] == [record.image_id for record in chosen]
        for record, image, target, proposals in zip(
            chosen, batch["images"], batch["targets"], batch["proposals"], strict=True
        ):
            assert torch.equal(image, image_tensor(record))
            assert target["boxes"].tolist() == record.boxes.tolist()
            assert target["labels"].tolist() == record.labels.tolist()
            assert target["iscrowd"].tolist() == record.iscrowd.tolist()
            assert proposals.tolist() == toy.reader.of(record).tolist()


def test_only_the_best_ranked_proposals(toy: Any) -> None:
    batches = ImageBatches(toy.train, np.arange(18), 2, False, 0, toy.reader, 2)
    assert {len(boxes) for s in range(9) for boxes in batches[s]["proposals"]} == {0, 2}


def test_without_proposals_none_are_given(toy: Any) -> None:
    plain, given = ImageBatches(toy.train, np.arange(18), 2, True, 0), batches_of(toy)
    for s in range(9):
        assert set(plain[s]) == {"images", "targets", "image_ids"}
        assert_same_batch({**plain[s], "proposals": []}, {**given[s], "proposals": []})


def test_a_batch_is_a_function_of_seed_and_iteration(toy: Any) -> None:
    expected = batches_of(toy, seed=4)[5]
    other = batches_of(toy, seed=4)
    other[9], other[0]
    torch.manual_seed(99)
    np.random.seed(99)
    assert_same_batch(other[5], expected)
    others = [other[6], batches_of(toy, seed=5)[5], batches_of(toy, seed=5)[4]]
    assert all(batch["image_ids"] != expected["image_ids"] for batch in others)


def assert_same_batch(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["image_ids"] == other["image_ids"]
    for first, second in zip(one["images"], other["images"], strict=True):
        assert torch.equal(first, second)
    for first, second in zip(one["proposals"], other["proposals"], strict=True):
        assert torch.equal(first, second)
    for first, second in zip(one["targets"], other["targets"], strict=True):
        assert torch.equal(first["boxes"], second["boxes"])


# Mirroring -----------------------------------------------------------------------------------


Corner = st.tuples(*[st.floats(0, 300, width=32)] * 4)


@given(st.lists(Corner, max_size=5), st.integers(1, 300))
def test_mirrored_twice_is_as_it_was(corners: list[tuple[float, ...]], width: int) -> None:
    boxes = torch.tensor(corners).reshape(-1, 4)
    once = mirror(boxes, width)
    torch.testing.assert_close(mirror(once, width), boxes, rtol=0, atol=1e-4)
    assert torch.equal(once[:, 1::2], boxes[:, 1::2])
    sides = [b[:, 2] - b[:, 0] for b in (once, boxes)]
    torch.testing.assert_close(*sides, rtol=0, atol=1e-4)


@given(st.integers(0, 59), st.integers(1, 60), st.integers(60, 90))
def test_mirrored_boxes_are_of_the_mirrored_pixels(x: int, wide: int, width: int) -> None:
    x2 = min(x + wide, width)
    row = torch.zeros(width)
    row[x:x2] = 1
    left, _, right, _ = mirror(torch.tensor([[x, 0, x2, 1]]), width)[0].tolist()
    expected = torch.zeros(width)
    expected[left:right] = 1
    assert torch.equal(row.flip(0), expected)


def test_boxes_and_pixels_are_mirrored_together(toy_of: Make) -> None:
    data = toy_of([[BOX, [30, 2, 60, 20]]], [[1, 2]], [[BOX, [0, 0, 60, 48]]])
    white = np.zeros((48, 60, 3), np.uint8)
    white[6:30, 5:25] = 255
    Image.fromarray(white).save(data.train[0].path)
    before = data.train[0].boxes.copy()
    batches = batches_of(data, images=1)
    turned = 0
    for s in range(40):
        batch = batches[s]
        image, boxes = batch["images"][0], batch["targets"][0]["boxes"]
        bright = (image[0] == 255).nonzero()
        (top, left), (bottom, right) = bright.min(dim=0).values, bright.max(dim=0).values + 1
        assert boxes[0].tolist() == [left, top, right, bottom]
        assert batch["proposals"][0][0].tolist() == boxes[0].tolist()
        assert batch["proposals"][0][1].tolist() == [0, 0, 60, 48]
        if boxes[0].tolist() == [35, 6, 55, 30]:
            turned += 1
            assert boxes[1].tolist() == [0, 2, 30, 20]
        else:
            assert boxes.tolist() == [BOX, [30, 2, 60, 20]]
    assert 10 < turned < 30
    # The data itself stays as it is.
    assert np.array_equal(data.train[0].boxes, before)


def test_masks_are_mirrored_with_their_boxes(toy_of: Make) -> None:
    data = toy_of([[BOX, [30, 2, 60, 20]]], [[1, 2]], [[]])
    # The left half of the first box; the upper half of the second.
    left, upper = [5.0, 6, 15, 6, 15, 30, 5, 30], [30.0, 2, 60, 2, 60, 11, 30, 11]
    outlines = ((np.array(left),), (np.array(upper),))
    batches = ImageBatches(
        [replace(data.train[0], segmentations=outlines)], np.arange(1), 1, True, 0, masks=True
    )
    seen = set()
    for s in range(12):
        target = batches[s]["targets"][0]
        expected = torch.zeros(2, 48, 60, dtype=torch.bool)
        mirrored = target["boxes"][0].tolist() == [35, 6, 55, 30]
        seen.add(mirrored)
        if mirrored:  # its right half, from 60 - 15 to 60 - 5
            expected[0, 6:30, 45:55] = expected[1, 2:11, 0:30] = True
        else:
            expected[0, 6:30, 5:15] = expected[1, 2:11, 30:60] = True
        assert torch.equal(target["masks"], expected)
    assert seen == {False, True}


def test_an_image_without_masks_among_others_gets_empty_ones(toy_of: Make) -> None:
    data = toy_of([[BOX, BOX], [BOX], []], [[1, 2], [1], []], [[]] * 3)
    box = np.array([5.0, 6, 25, 6, 25, 30, 5, 30])
    with_masks = replace(data.train[1], segmentations=((box,),))
    records = [data.train[0], with_masks, data.train[2]]
    batch = ImageBatches(records, np.arange(3), 3, False, 0, masks=True)[0]
    found = dict(zip(batch["image_ids"], batch["targets"], strict=True))
    assert found["000"]["masks"].shape == (2, 48, 60)
    assert not found["000"]["masks"].any()
    assert found["001"]["masks"].sum() == 20 * 24
    assert found["002"]["masks"].shape == (0, 48, 60)


def square(x1: float, y1: float, x2: float, y2: float) -> tuple[np.ndarray]:
    return (np.array([x1, y1, x2, y1, x2, y2, x1, y2]),)


def test_a_mask_beside_its_box_is_none_and_named_once(
    toy_of: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    data = toy_of([[BOX] * 4], [[1, 2, 1, 2]], [[]])
    outlines = (
        square(24, 29, 40, 40),  # a pixel of it is in the box, 5 6 25 30
        square(25, 6, 40, 30),  # right beside it
        (),
        square(26, 31, 40, 40),
    )
    record = replace(data.train[0], segmentations=outlines)
    record.iscrowd[3] = True
    batches = ImageBatches([record], np.arange(1), 1, False, 0, masks=True)
    for s in range(3):
        masks = batches[s]["targets"][0]["masks"]
        assert masks.any(dim=2).any(dim=1).tolist() == [True, False, False, False]
        assert masks[0].sum() == 16 * 11
    what = "no pixel of its mask is in its box, so that it teaches none"
    assert capsys.readouterr().err.splitlines() == [
        f"{what}: object {n} of {record.path}" for n in (2, 3)
    ]


def test_an_object_without_a_mask_gets_an_empty_one_and_is_not_named(
    toy_of: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    data = toy_of([[BOX, BOX]], [[1, 2]], [[]])
    record = replace(data.train[0], segmentations=(None, square(5, 6, 25, 30)))
    masks = ImageBatches([record], np.arange(1), 1, False, 0, masks=True)[0]["targets"][0]["masks"]
    assert masks.flatten(1).sum(dim=1).tolist() == [0, 20 * 24]
    assert capsys.readouterr().err == ""


def test_not_all_masks_beside_their_boxes_are_named(
    toy_of: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    data = toy_of([[BOX] * 9], [[1] * 9], [[]])
    record = replace(data.train[0], segmentations=((),) * 9)
    ImageBatches([record], np.arange(1), 1, False, 0, masks=True)[0]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert said[3].endswith(f"object 4 of {record.path}, and perhaps others after it")


def test_masks_that_cannot_be_read_are_said(toy_of: Make) -> None:
    data = toy_of([[BOX]], [[1]], [[]])
    mask = data.train[0].path.with_name("mask.png")
    Image.new("L", (48, 60)).save(mask)
    record = replace(data.train[0], mask_path=mask, mask_ids=np.array([1]))
    with pytest.raises(InputError, match=r"mask\.png: 48x60 pixels, but .* has 60x48$"):
        ImageBatches([record], np.arange(1), 1, False, 0, masks=True)[0]


def test_masks_are_not_read_where_nobody_asks(toy_of: Make) -> None:
    data = toy_of([[BOX]], [[1]], [[]])
    gone = data.train[0].path.with_name("gone.png")
    record = replace(data.train[0], mask_path=gone, mask_ids=np.array([1]))
    assert "masks" not in ImageBatches([record], np.arange(1), 1, True, 0)[0]["targets"][0]


def test_the_images_of_a_batch_are_mirrored_apart(toy: Any) -> None:
    batches = batches_of(toy, usable=[0, 1])
    seen = set()
    for s in range(40):
        batch = batches[s]
        plain = [image_tensor(toy.train[index]) for index in batches.choose(s)]
        seen.add(tuple(torch.equal(a, b) for a, b in zip(batch["images"], plain, strict=True)))
    assert len(seen) == 4


def test_without_mirroring_none_is(toy: Any) -> None:
    batches = batches_of(toy, usable=[0], images=1, mirror=False)
    plain = image_tensor(toy.train[0])
    assert all(torch.equal(batches[s]["images"][0], plain) for s in range(20))
