"""Warping against a loop over pixels, and by what a picture must show afterwards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcnn_v1.warp import crop_windows, surroundings

PAPER = 16 / 227


def reference(image: np.ndarray, box: np.ndarray, side: int, context: float) -> np.ndarray:
    """One crop, a pixel at a time: where its centre lies in the image, and what is there."""
    _, height, width = image.shape
    x1, y1, x2, y2 = box.astype(float)
    crop = np.zeros((3, side, side))
    for i in range(side):
        for j in range(side):
            # 0..1 in the box, beyond that in the context.
            across = ((j + 0.5) / side - context) / (1 - 2 * context)
            down = ((i + 0.5) / side - context) / (1 - 2 * context)
            # The first pixel's centre is at 0.5.
            x, y = x1 + across * (x2 - x1) - 0.5, y1 + down * (y2 - y1) - 0.5
            left, top = math.floor(x), math.floor(y)
            for column, row in ((c, r) for c in (left, left + 1) for r in (top, top + 1)):
                if 0 <= column < width and 0 <= row < height:
                    share = (1 - abs(x - column)) * (1 - abs(y - row))
                    crop[:, i, j] += share * image[:, row, column]
    return crop


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))


def crop(image: Tensor, box: list[float], side: int, context: float = 0.0) -> Tensor:
    return crop_windows(image, torch.tensor([box]), side, context)[0]


# Against the loop ----------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.floats(-10, 20),
    st.floats(-10, 20),
    st.floats(1, 30),
    st.floats(1, 30),
    st.sampled_from([0.0, PAPER, 0.25]),
    st.integers(1, 9),
)
def test_it_is_the_reference(
    x: float, y: float, w: float, h: float, context: float, side: int
) -> None:
    image = noise(11, 17)
    box = [x, y, x + w, y + h]
    expected = reference(image.double().numpy(), np.array(box, np.float32), side, context)
    np.testing.assert_allclose(crop(image, box, side, context).numpy(), expected, atol=2e-4)


def test_at_the_networks_own_size() -> None:
    image = noise(37, 50)
    box = [3.2, -4.0, 41.7, 20.5]
    expected = reference(image.double().numpy(), np.array(box, np.float32), 64, PAPER)
    np.testing.assert_allclose(crop(image, box, 64, PAPER).numpy(), expected, atol=2e-4)


# What must be seen ---------------------------------------------------------------------------


def test_the_whole_image_at_its_own_size_is_the_image() -> None:
    image = noise(12, 12)
    torch.testing.assert_close(crop(image, [0, 0, 12, 12], 12), image, rtol=0, atol=1e-5)


def test_a_part_at_its_own_size_is_that_part() -> None:
    image = noise(20, 30)
    torch.testing.assert_close(
        crop(image, [7, 3, 17, 13], 10), image[:, 3:13, 7:17], rtol=0, atol=1e-5
    )


def test_context_is_what_lies_around_the_box() -> None:
    # A quarter of the frame on each side: the box's 10 pixels are half of 20.
    image = noise(40, 40)
    torch.testing.assert_close(
        crop(image, [15, 15, 25, 25], 20, 0.25), image[:, 10:30, 10:30], rtol=0, atol=1e-5
    )


def test_the_box_fills_the_middle() -> None:
    # A white box on black, warped from 20x30 to 32x32 in the middle of 40x40.
    image = torch.zeros(3, 60, 50)
    image[:, 20:50, 10:30] = 1
    warped = crop(image, [10, 20, 30, 50], 40, 0.1)
    # Bilinear edges are two pixels wide here.
    torch.testing.assert_close(warped[:, 6:34, 6:34], torch.ones(3, 28, 28))
    frame = warped.clone()
    frame[:, 3:37, 3:37] = 0
    assert torch.equal(frame, torch.zeros(3, 40, 40))


def test_outside_the_image_is_nought() -> None:
    # Left half and upper quarter lie outside.
    warped = crop(torch.ones(3, 30, 40), [-20, -5, 20, 15], 40)
    expected = torch.zeros(40, 40)
    expected[10:, 20:] = 1
    inner = torch.ones(40, 40, dtype=torch.bool)
    inner[9:11] = inner[:, 19:21] = False  # the edge itself is blended
    for channel in warped:
        torch.testing.assert_close(channel[inner], expected[inner])


def test_beyond_the_far_edges_is_nought_too() -> None:
    warped = crop(torch.ones(3, 30, 40), [30, 20, 50, 40], 20)
    torch.testing.assert_close(warped[:, :9, :9], torch.ones(3, 9, 9))
    assert torch.equal(warped[:, 11:, :], torch.zeros(3, 9, 20))
    assert torch.equal(warped[:, :, 11:], torch.zeros(3, 20, 9))


def test_wholly_outside_is_nought() -> None:
    assert torch.equal(crop(torch.ones(3, 8, 8), [20, 20, 30, 30], 6), torch.zeros(3, 6, 6))


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_ramp_keeps_its_direction(axis: str) -> None:
    height, width = 20, 50
    columns = torch.arange(width) + 0.5
    rows = torch.arange(height) + 0.5
    ramp = columns.expand(height, -1) if axis == "x" else rows[:, None].expand(-1, width)
    warped = crop(ramp.expand(3, -1, -1), [10, 4, 40, 16], 6)
    start, end = (10, 40) if axis == "x" else (4, 16)
    # Each of six pixels shows what lies at its centre.
    expected = start + (torch.arange(6) + 0.5) / 6 * (end - start)
    along = warped[0] if axis == "x" else warped[0].T
    torch.testing.assert_close(along, expected.expand(6, -1), rtol=1e-4, atol=1e-3)


def test_channels_stay_apart() -> None:
    image = torch.tensor([1.0, 2, 3])[:, None, None].expand(3, 9, 9)
    warped = crop(image, [2, 2, 7, 7], 4)
    assert [channel.unique().tolist() for channel in warped.round(decimals=4)] == [[1], [2], [3]]


# Many at once --------------------------------------------------------------------------------


def test_each_of_a_batch_is_as_if_alone() -> None:
    image = noise(20, 30)
    boxes = torch.tensor([[0.0, 0, 30, 20], [5.5, 3, 12, 19], [-4.0, 10, 8, 30], [29.0, 0, 31, 5]])
    together = crop_windows(image, boxes, 8, PAPER)
    assert together.shape == (4, 3, 8, 8)
    for n in range(4):
        assert torch.equal(together[n], crop_windows(image, boxes[n : n + 1], 8, PAPER)[0])


def test_no_window_gives_no_crop() -> None:
    assert crop_windows(noise(8, 8), torch.zeros(0, 4), 16, PAPER).shape == (0, 3, 16, 16)


@settings(max_examples=60)
@given(
    st.tuples(st.floats(0, 55), st.floats(0, 40), st.floats(0.5, 60), st.floats(0.5, 48)),
    st.sampled_from([0.0, PAPER, 0.25]),
)
def test_what_surrounds_a_box_gives_the_crop_of_the_whole_image(
    box: tuple[float, float, float, float], context: float
) -> None:
    x, y, width, height = box
    xyxy = np.array([x, y, min(x + width, 60), min(y + height, 48)], np.float32)
    image = np.random.default_rng(0).normal(size=(48, 60, 3)).astype(np.float32)
    part, within = surroundings(image, xyxy, context)
    whole, cut = (
        crop_windows(
            torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(b)[None], 9, context
        )
        for pixels, b in ((image, xyxy), (part, within))
    )
    torch.testing.assert_close(cut, whole, rtol=0, atol=2e-4)


def test_what_surrounds_a_small_box_is_small() -> None:
    part, within = surroundings(
        np.zeros((480, 640, 3), np.uint8), np.array([100.0, 200, 127, 227]), 16 / 59
    )
    assert within.tolist() == [18, 18, 45, 45]
    assert part.shape == (63, 63, 3)
