"""Box arithmetic: by hand, against its own inverse, and at the edges of what floats can hold."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stages.boxes import MAX_LOG_SCALE, centres, clip, decode, encode

PLACE = st.floats(-2000, 2000, width=32)
SIDE = st.floats(0.5, 1500, width=32)
# Within what decoding lets a box grow by.
GROWTH = st.floats(-0.99 * MAX_LOG_SCALE, 0.99 * MAX_LOG_SCALE)
ANY = st.floats(allow_nan=False, allow_infinity=False, width=32)


def box(x: float, y: float, w: float, h: float) -> Tensor:
    return torch.tensor([[x, y, x + w, y + h]], dtype=torch.float64)


# By hand -------------------------------------------------------------------------------------


def test_offsets_by_hand() -> None:
    # Centres (5, 10) and (10, 25); 10x20 becomes 10x40.
    boxes, gt = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 5, 15, 45]])
    expected = torch.tensor([[0.5, 0.75, 0, math.log(2)]])
    torch.testing.assert_close(encode(boxes, gt), expected)
    torch.testing.assert_close(decode(boxes, expected), gt)


def test_x_and_y_are_not_exchanged() -> None:
    wide, moved = torch.tensor([[0.0, 0, 40, 10]]), torch.tensor([[4.0, 0, 44, 10]])
    torch.testing.assert_close(encode(wide, moved), torch.tensor([[0.1, 0, 0, 0]]))
    tall, moved = torch.tensor([[0.0, 0, 10, 40]]), torch.tensor([[0.0, 4, 10, 44]])
    torch.testing.assert_close(encode(tall, moved), torch.tensor([[0, 0.1, 0, 0]]))


def test_sizes_are_continuous_not_inclusive() -> None:
    # With inclusive pixels 0..10 to 0..20 would be a factor of 21 / 11.
    offsets = encode(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 20, 10]]))
    assert offsets[0, 2].item() == pytest.approx(math.log(2), abs=1e-6)
    assert offsets[0, 0].item() == pytest.approx(0.5, abs=1e-6)


def test_no_offset_moves_nothing() -> None:
    boxes = torch.tensor([[3.0, 4, 50, 60], [-7.0, 0, 1, 2]])
    assert torch.equal(decode(boxes, torch.zeros(2, 4)), boxes)
    assert torch.equal(encode(boxes, boxes), torch.zeros(2, 4))


def test_each_box_with_each_class_offsets() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 20], [5.0, 5, 25, 15]])
    offsets = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    together = decode(boxes[:, None], offsets)
    assert together.shape == (2, 3, 4)
    for r in range(2):
        for k in range(3):
            one = decode(boxes[r : r + 1], offsets[r, k : k + 1])
            torch.testing.assert_close(together[r, k], one[0])


def test_none_at_all() -> None:
    nothing = torch.zeros(0, 4)
    assert encode(nothing, nothing).shape == (0, 4)
    assert decode(nothing, nothing).shape == (0, 4)
    assert decode(nothing[:, None], torch.zeros(0, 3, 4)).shape == (0, 3, 4)
    assert clip(nothing, 5, 5).shape == (0, 4)


def test_centres_by_hand() -> None:
    values = [value.item() for value in centres(torch.tensor([2.0, 4, 12, 10]))]
    assert values == [7, 7, 10, 6]


def test_clip_by_hand() -> None:
    boxes = torch.tensor([[-5.0, -6, 7, 8], [90.0, 40, 120, 70], [10.0, 10, 20, 20]])
    expected = torch.tensor([[0.0, 0, 7, 8], [90.0, 40, 100, 50], [10.0, 10, 20, 20]])
    before = boxes.clone()
    assert torch.equal(clip(boxes, height=50, width=100), expected)
    assert torch.equal(boxes, before)


def test_clip_keeps_any_leading_shape() -> None:
    boxes = torch.tensor([[[-5.0, 0, 500, 500], [1.0, 2, 3, 4]]])
    expected = torch.tensor([[[0.0, 0, 100, 50], [1.0, 2, 3, 4]]])
    assert torch.equal(clip(boxes, 50, 100), expected)


# Properties ----------------------------------------------------------------------------------


@given(PLACE, PLACE, SIDE, SIDE, PLACE, PLACE, GROWTH, GROWTH)
def test_decoding_undoes_encoding(
    x: float, y: float, w: float, h: float, gx: float, gy: float, grow_w: float, grow_h: float
) -> None:
    boxes, gt = box(x, y, w, h), box(gx, gy, w * math.exp(grow_w), h * math.exp(grow_h))
    torch.testing.assert_close(decode(boxes, encode(boxes, gt)), gt, rtol=1e-9, atol=1e-7)
    # Single precision: to a hundredth of a pixel at these sizes.
    single = decode(boxes.float(), encode(boxes.float(), gt.float()))
    torch.testing.assert_close(
        single, gt.float(), rtol=1e-4, atol=1e-2 + 1e-5 * float(gt.abs().max())
    )


@given(PLACE, PLACE, SIDE, SIDE, *[st.floats(-3, 3)] * 4)
def test_encoding_undoes_decoding(
    x: float, y: float, w: float, h: float, dx: float, dy: float, dw: float, dh: float
) -> None:
    boxes = box(x, y, w, h)
    offsets = torch.tensor([[dx, dy, dw, dh]], dtype=torch.float64)
    torch.testing.assert_close(encode(boxes, decode(boxes, offsets)), offsets, rtol=0, atol=1e-7)


@given(PLACE, PLACE, SIDE, SIDE, *[st.floats(-1e6, 1e6, width=32)] * 4)
def test_wild_offsets_stay_finite(
    x: float, y: float, w: float, h: float, dx: float, dy: float, dw: float, dh: float
) -> None:
    moved = decode(box(x, y, w, h).float(), torch.tensor([[dx, dy, dw, dh]]))
    assert torch.isfinite(moved).all()
    assert (moved[:, 2:] >= moved[:, :2]).all()
    inside = clip(moved, 300, 400)
    assert torch.isfinite(inside).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_wildest_size_is_held(sign: int) -> None:
    boxes = torch.tensor([[100.0, 100, 110, 120]])
    moved = decode(boxes, torch.tensor([[0.0, 0, sign * 1e38, sign * 1e38]]))
    width, height = (moved[0, 2:] - moved[0, :2]).tolist()
    if sign > 0:
        assert width == pytest.approx(10 * 1000 / 16, rel=1e-4)
        assert height == pytest.approx(20 * 1000 / 16, rel=1e-4)
    else:
        assert (width, height) == (0, 0)


@given(ANY, ANY, ANY, ANY, st.integers(1, 3000), st.integers(1, 3000))
def test_clipped_is_inside_and_clipping_again_changes_nothing(
    x1: float, y1: float, x2: float, y2: float, height: int, width: int
) -> None:
    once = clip(torch.tensor([[x1, y1, x2, y2]]), height, width)
    assert torch.equal(clip(once, height, width), once)
    assert (once >= 0).all()
    assert (once[:, 0::2] <= width).all()
    assert (once[:, 1::2] <= height).all()


@given(st.integers(1, 500), st.integers(1, 500), *[st.floats(0, 1)] * 4)
def test_what_is_inside_is_not_touched(
    height: int, width: int, a: float, b: float, c: float, d: float
) -> None:
    boxes = torch.tensor([[a * width, b * height, c * width, d * height]])
    boxes = torch.minimum(boxes, boxes.new_tensor([width, height, width, height]))
    assert torch.equal(clip(boxes, height, width), boxes)
