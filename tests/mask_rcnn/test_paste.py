"""Masks pasted into an image: by hand, against a loop, and against torchvision's.

n boxes, H and W of the image in pixels, m of a mask.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from mask_rcnn.paste import paste, paste_by_image

HEIGHT, WIDTH = 20, 28

# In the image, over each edge, around it, of less than a pixel, thin, on whole and half pixels.
BOXES = torch.tensor(
    [
        [3.3, 4.2, 17.9, 15.1],
        [-6.4, -3.7, 9.1, 8.8],
        [15.2, 11.6, 40.3, 31.9],
        [-11.3, -8.1, 45.7, 33.2],
        [7.1, 8.2, 7.6, 8.9],
        [5.8, 3.1, 6.3, 17.4],
        [2.2, 9.7, 25.5, 9.9],
        [0.0, 0.0, 28.0, 20.0],
        [4.0, 5.0, 14.0, 12.0],
        [4.5, 5.5, 14.5, 12.5],
        [27.3, 19.2, 28.0, 20.0],
        [0.0, 0.0, 0.4, 0.3],
    ],
    dtype=torch.float64,
)


def random_masks(count: int, side: int = 7, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, side, side, dtype=torch.float64, generator=generator)


# In the box ----------------------------------------------------------------------------------


def slow_paste(mask: Tensor, box: Tensor, height: int, width: int) -> Tensor:
    """The mask's value at the middle of each pixel in the box, [H, W]; elsewhere -1."""
    x1, y1, x2, y2 = box.tolist()
    m = len(mask)
    values = torch.full((height, width), -1.0, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            y, x = row + 0.5, column + 0.5
            if y1 <= y < y2 and x1 <= x < x2:
                # The mask's own values are at its cells' middles; beyond the outermost, that one.
                at = [(y - y1) / (y2 - y1) * m - 0.5, (x - x1) / (x2 - x1) * m - 0.5]
                i, j = (min(max(place, 0.0), m - 1.0) for place in at)
                values[row, column] = sum(
                    float(mask[a, b]) * (1 - abs(i - a)) * (1 - abs(j - b))
                    for a in {math.floor(i), math.ceil(i)}
                    for b in {math.floor(j), math.ceil(j)}
                )
    return values


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
@pytest.mark.parametrize("side", [1, 2, 7])
def test_as_defined(side: int, threshold: float) -> None:
    masks = random_masks(len(BOXES), side)
    found = paste(masks, BOXES, HEIGHT, WIDTH, threshold)
    assert found.shape == (len(BOXES), HEIGHT, WIDTH)
    assert found.dtype == torch.bool
    for mask, box, of_box in zip(masks, BOXES, found, strict=True):
        assert torch.equal(of_box, slow_paste(mask, box, HEIGHT, WIDTH) >= threshold)


def test_a_gpus_way_is_the_same() -> None:
    many = BOXES.repeat(2, 1)  # more than it does at a time
    masks = random_masks(len(many))
    found = paste_by_image(masks, many, HEIGHT, WIDTH, 0.5)
    assert torch.equal(found, paste(masks, many, HEIGHT, WIDTH))


def test_boxes_of_many_blocks() -> None:
    """Boxes of more pixels than are made at a time, one wider than a block."""
    masks = random_masks(3)
    boxes = torch.tensor([[2.3, 1.1, 130.9, 170.2], [0.0, 0, 9000, 3], [40, 0, 41, 180]])
    found = paste(masks, boxes, 180, 9000)
    assert torch.equal(found, paste_by_image(masks, boxes.double(), 180, 9000, 0.5))
    assert found[:, 170:].any(dim=(1, 2)).tolist() == [False, False, True]


Corner = st.floats(-12, 26, width=32)
Side = st.floats(0, 40, width=32)


@settings(max_examples=40)
@given(st.integers(0, 10**6), Corner, Corner, Side, Side, st.integers(1, 9))
def test_any_box(seed: int, x: float, y: float, wide: float, high: float, side: int) -> None:
    masks = random_masks(1, side, seed)
    boxes = torch.tensor([[x, y, x + wide, y + high]], dtype=torch.float64)
    found = paste(masks, boxes, HEIGHT, WIDTH)[0]
    values = slow_paste(masks[0], boxes[0], HEIGHT, WIDTH)
    sure = (values - 0.5).abs() > 1e-9
    assert torch.equal(found[sure], (values >= 0.5)[sure])


def test_of_as_many_pixels_it_is_the_mask_itself() -> None:
    masks = random_masks(2, 8)
    boxes = torch.tensor([[3.0, 5, 11, 13], [20, 12, 28, 20]])
    found = paste(masks, boxes, HEIGHT, WIDTH)
    expected = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    expected[0, 5:13, 3:11] = masks[0] >= 0.5
    expected[1, 12:20, 20:28] = masks[1] >= 0.5
    assert torch.equal(found, expected)


def test_by_hand() -> None:
    # Of two values, 0 and 1, over six pixels: at 1/6, 1/2, 5/6 .. of a half; the third has 1/3.
    masks = torch.tensor([[[0.0, 1.0]] * 2])
    boxes = torch.tensor([[1.0, 1, 7, 3]])
    found = paste(masks, boxes, 4, 8)
    assert found.int().tolist() == [
        [[0] * 8, [0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1, 0], [0] * 8]
    ]
    # The third pixel's value is 1/3 and the second's 0.
    for threshold, first in ((0.3, 3), (0.34, 4)):
        assert int(paste(masks, boxes, 4, 8, threshold)[0, 1].int().argmax()) == first


@pytest.mark.parametrize(
    ("edge", "first"), [(3.0, 3), (3.49, 3), (3.5, 3), (3.51, 4), (4.0, 4), (-2.0, 0)]
)
def test_a_pixel_belongs_to_the_box_if_its_middle_does(edge: float, first: int) -> None:
    full = torch.ones(1, 4, 4)
    along = paste(full, torch.tensor([[edge, 0, 10, HEIGHT]]), HEIGHT, WIDTH)[0]
    assert along.all(dim=0).nonzero()[:, 0].tolist() == list(range(first, 10))
    # So that of two boxes side by side each pixel belongs to one.
    beside = paste(full, torch.tensor([[-8, 0, edge, HEIGHT]]), HEIGHT, WIDTH)[0]
    assert beside.all(dim=0).nonzero()[:, 0].tolist() == list(range(first))


def test_less_than_a_pixel() -> None:
    full = torch.ones(3, 4, 4)
    boxes = torch.tensor([[5.4, 6.4, 5.6, 6.6], [5.6, 6.4, 5.9, 6.6], [5.5, 6.5, 5.5, 6.5]])
    found = paste(full, boxes, HEIGHT, WIDTH)
    assert found[0].nonzero().tolist() == [[6, 5]]
    assert not found[1:].any()


def test_outside_the_image() -> None:
    boxes = torch.tensor([[-30.0, -30, -10, -10], [40, 3, 60, 9], [3, 25, 9, 60]])
    assert not paste(torch.ones(3, 4, 4), boxes, HEIGHT, WIDTH).any()


@pytest.mark.parametrize("rounded", [True, False])
def test_none(rounded: bool) -> None:
    found = paste(torch.zeros(0, 28, 28), torch.zeros(0, 4), HEIGHT, WIDTH, rounded=rounded)
    assert (found.shape, found.dtype) == ((0, HEIGHT, WIDTH), torch.bool)


# On whole pixels -----------------------------------------------------------------------------


def theirs(masks: Tensor, boxes: Tensor) -> Tensor:
    """torchvision's probabilities, [n, H, W]."""
    return paste_masks_in_image(masks[:, None], boxes, (HEIGHT, WIDTH))[:, 0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
@pytest.mark.parametrize("side", [1, 7, 28])
def test_rounded_as_torchvision(side: int, threshold: float) -> None:
    masks = random_masks(len(BOXES), side)
    found = paste(masks, BOXES, HEIGHT, WIDTH, threshold, rounded=True)
    assert torch.equal(found, theirs(masks, BOXES) >= threshold)
    assert found.any()


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.floats(-12, 27, width=32),
    st.floats(-12, 19, width=32),
    Side,
    Side,
    st.integers(1, 9),
)
def test_any_box_rounded(
    seed: int, x: float, y: float, wide: float, high: float, side: int
) -> None:
    boxes = torch.tensor([[x, y, x + wide, y + high]], dtype=torch.float64)
    if boxes[0, 2] < 0 or boxes[0, 3] < 0:
        return  # torchvision's fails on what is outside
    masks = random_masks(1, side, seed)
    probabilities = theirs(masks, boxes)
    found = paste(masks, boxes, HEIGHT, WIDTH, rounded=True)
    sure = (probabilities - 0.5).abs() > 1e-9
    assert torch.equal(found[sure], (probabilities >= 0.5)[sure])


def test_rounding_moves_a_mask_by_up_to_a_pixel() -> None:
    """Which is why it is not the default: of a full mask each box's own pixels, and others."""
    full, boxes = torch.ones(1, 28, 28), torch.tensor([[4.0, 5, 14, 12]])
    exact = paste(full, boxes, HEIGHT, WIDTH)
    assert int(exact.sum()) == 10 * 7
    rounded = paste(full, boxes, HEIGHT, WIDTH, rounded=True)
    assert int((exact ^ rounded).sum()) > 0
    near = torch.nn.functional.max_pool2d(exact[None].float(), 3, 1, 1)[0].bool()
    assert (near | ~rounded).all()
