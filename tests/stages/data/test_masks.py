"""Masks kept as run lengths: drawn, they are what a tensor of them would be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools import mask as coco

from stages.data.images import mask_runs_of, masks_of
from stages.data.masks import Masks, has_pixels
from stages.data.segmentation import (
    draw_run_lengths,
    draw_segmentations,
    encode_indices,
    encode_segmentation,
)
from stages.data.turning import METHODS
from stages.data.voc import VOCFolder
from tests.faults.fuzz.memory import limited

HEIGHT, WIDTH = 6, 9
DENSE = st.integers(0, 5).flatmap(lambda n: arrays.arrays(bool, (n, HEIGHT, WIDTH)))
SPARSE = DENSE.map(lambda masks: masks & (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, -1) % 7 == 3))
MASKS = st.one_of(DENSE, SPARSE)


def runs_of(dense: np.ndarray) -> Masks:
    encoded = [coco.encode(np.asfortranarray(mask, np.uint8))["counts"] for mask in dense]
    return Masks(tuple(encoded), HEIGHT, WIDTH)


@given(MASKS, st.data())
def test_as_a_tensor_of_them(dense: np.ndarray, data: st.DataObject) -> None:
    masks, tensor = runs_of(dense), torch.from_numpy(dense)
    assert len(masks) == len(dense)
    assert masks.shape == dense.shape
    count = len(dense)
    places = st.lists(st.integers(0, count - 1), max_size=8) if count else st.just([])
    some = torch.tensor(data.draw(places), dtype=torch.int64)
    kept = torch.from_numpy(data.draw(arrays.arrays(bool, count)))
    for chosen in (some, kept):
        assert masks[chosen].dtype == torch.bool
        assert torch.equal(masks[chosen], tensor[chosen])
        assert torch.equal(masks.mirrored()[chosen], tensor.flip(-1)[chosen])
    assert torch.equal(masks.mirrored().mirrored()[kept], tensor[kept])
    assert torch.equal(has_pixels(masks), has_pixels(tensor))
    assert torch.equal(has_pixels(tensor), tensor.flatten(1).any(dim=1))
    for place in range(count):
        assert np.array_equal(masks.pixels[place], dense[place])
        assert np.array_equal(masks.pixels[place - count], dense[place])
    assert len(list(masks.pixels)) == count


@given(MASKS, st.data())
def test_within_boxes(dense: np.ndarray, data: st.DataObject) -> None:
    """Whole pixels outwards of a box, as a slice of the mask tells."""
    boxes, kept = [], []
    for mask in dense:
        x1, x2 = sorted(data.draw(st.tuples(*[st.floats(0, WIDTH, width=32)] * 2)))
        y1, y2 = sorted(data.draw(st.tuples(*[st.floats(0, HEIGHT, width=32)] * 2)))
        inside = mask[int(np.floor(y1)) : int(np.ceil(y2)), int(np.floor(x1)) : int(np.ceil(x2))]
        boxes.append([x1, y1, x2, y2])
        kept.append(mask if inside.any() else np.zeros_like(mask))
    expected = np.array(kept, bool).reshape(dense.shape)
    found = runs_of(dense).within(np.array(boxes, np.float32).reshape(-1, 4))
    assert np.array_equal(np.array(list(found.pixels)).reshape(dense.shape), expected)


@given(MASKS)
def test_run_lengths_with_pauses_of_nothing(dense: np.ndarray) -> None:
    """Files may have zeros among them: pixel by pixel, say."""
    for mask in dense:
        lengths: list[int] = []
        for pixel in mask.T.ravel():
            lengths += [0, 1] if pixel else [1, 0]
        counts = coco.frPyObjects({"size": [HEIGHT, WIDTH], "counts": lengths}, HEIGHT, WIDTH)[
            "counts"
        ]
        drawn = np.zeros((HEIGHT, WIDTH), bool)
        draw_run_lengths(counts, drawn)
        assert np.array_equal(drawn, mask)


@given(
    arrays.arrays(np.uint8, (HEIGHT, WIDTH), elements=st.integers(0, 4)),
    st.lists(st.integers(0, 6), max_size=6),
)
def test_the_masks_of_numbers(indices: np.ndarray, numbers: list[int]) -> None:
    masks = encode_indices(indices, np.array(numbers, np.int64))
    assert len(masks) == len(numbers)
    for counts, number in zip(masks, numbers, strict=True):
        assert coco.encode(np.asfortranarray(indices == number, np.uint8))["counts"] == counts


polygons = st.lists(
    st.lists(st.floats(-3, 12, width=32), min_size=6, max_size=12).filter(
        lambda p: len(p) % 2 == 0
    ),
    max_size=3,
).map(lambda lists: tuple(np.array(points, np.float64) for points in lists))


@given(st.lists(st.one_of(st.none(), polygons), max_size=4))
def test_outlines_are_drawn_as_coco_draws_them(
    outlines: list[tuple[np.ndarray, ...] | None],
) -> None:
    drawn = draw_segmentations(outlines, WIDTH, HEIGHT)
    for outline, mask in zip(outlines, drawn, strict=True):
        expected = np.zeros((HEIGHT, WIDTH), bool)
        if outline:
            merged = coco.merge(coco.frPyObjects(list(outline), HEIGHT, WIDTH))
            expected[:] = coco.decode(merged)
        assert np.array_equal(mask, expected)


def test_of_no_objects() -> None:
    none = Masks.empty(0, HEIGHT, WIDTH)
    assert none.shape == (0, HEIGHT, WIDTH)
    assert none[torch.zeros(0, dtype=torch.int64)].shape == (0, HEIGHT, WIDTH)
    assert has_pixels(none).tolist() == []
    assert len(none.within(np.zeros((0, 4), np.float32))) == 0
    assert has_pixels(Masks.empty(3, HEIGHT, WIDTH)).tolist() == [False] * 3
    with pytest.raises(IndexError):
        Masks.empty(3, HEIGHT, WIDTH)[torch.tensor([3])]


def test_thousands_of_objects_in_a_large_image(make_voc: Callable[..., Path]) -> None:
    """Seven gigabytes if they were drawn; and each is where it was marked."""
    record = VOCFolder(make_voc({"one": [("cat", 3, 4, 20, 30)], "three": []}), "made").train[0]
    width, height, side = 2000, 1500, 24
    corners = [(x, y) for y in range(0, 1500, 30) for x in range(0, 2000, 40)]
    assert len(corners) == 2500
    boxes = np.array([[x, y, x + side, y + side] for x, y in corners], np.float32)
    outlines = tuple(
        (np.array([x, y, x + side, y, x + side, y + side, x, y + side], np.float64),)
        for x, y in corners
    )
    crowded = replace(
        record,
        width=width,
        height=height,
        boxes=boxes,
        labels=np.ones(2500, np.int64),
        iscrowd=np.zeros(2500, bool),
        difficult=np.zeros(2500, bool),
        segmentations=outlines,
    )
    with limited(2**28):
        masks = mask_runs_of(crowded).within(boxes)
        assert masks.has_pixels().all()
        some = torch.tensor([0, 777, 2499])
        for mask, place in zip(masks[some], some.tolist(), strict=True):
            x, y = corners[place]
            assert mask.sum() == side * side
            assert mask[y : y + side, x : x + side].all()
    assert sum(map(len, masks.runs)) < 2**20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_file_of_masks_that_is_turned_with_its_image(
    make_voc: Callable[..., Path], orientation: int
) -> None:
    record = VOCFolder(make_voc({"one": [("cat", 3, 4, 20, 30)], "three": []}), "made").train[0]
    stored = np.zeros((40, 48), np.uint8)
    stored[5:9, 30:45], stored[20:40, :7] = 1, 2
    path = record.path.with_name("masks.png")
    Image.fromarray(stored).save(path)
    upright = Image.fromarray(stored)
    if orientation in METHODS:
        upright = upright.transpose(METHODS[orientation])
    expected = np.asarray(upright)[None] == np.array([1, 2])[:, None, None]
    turned = replace(
        record,
        width=expected.shape[2],
        height=expected.shape[1],
        mask_path=path,
        mask_ids=np.array([1, 2]),
        mask_orientation=orientation,
    )
    assert (masks_of(turned).numpy() == expected).all()


def test_an_outline_of_nothing() -> None:
    for nothing in (None, ()):
        counts = encode_segmentation(nothing, WIDTH, HEIGHT)
        assert coco.area({"size": [HEIGHT, WIDTH], "counts": counts}) == 0
