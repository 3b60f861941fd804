"""RoI pooling: torchvision's operator against loops, forward and back; the threads against one call."""

from __future__ import annotations

import concurrent.futures
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import stages.roi_pool
from stages.roi_pool import CHUNK, place, roi_pool

SCALE = 1 / 16
Corner = st.floats(-60, 220, width=32)  # in pixels; the map below covers 112 x 80


def slow_roi_pool(
    maps: np.ndarray, rois: np.ndarray, side: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """As Fast R-CNN's released code: maxima [R, C, S, S] and where in the map each is, -1 if nowhere."""
    _, channels, height, width = maps.shape
    pooled = np.zeros((len(rois), channels, side, side), np.float32)
    where = np.full((len(rois), channels, side, side), -1)
    for r, (number, *corners) in enumerate(rois):
        # Halves away from nought, as C's round.
        x1, y1, x2, y2 = (
            int(math.copysign(math.floor(abs(v) + 0.5), v))
            for v in np.array(corners, np.float32) * np.float32(scale)
        )
        bin_w = np.float32(max(x2 - x1 + 1, 1)) / np.float32(side)
        bin_h = np.float32(max(y2 - y1 + 1, 1)) / np.float32(side)
        for j in range(side):
            for i in range(side):
                top = y1 + math.floor(np.float32(j) * bin_h)
                bottom = y1 + math.ceil(np.float32(j + 1) * bin_h)
                left = x1 + math.floor(np.float32(i) * bin_w)
                right = x1 + math.ceil(np.float32(i + 1) * bin_w)
                cells = [
                    (y, x)
                    for y in range(max(top, 0), min(bottom, height))
                    for x in range(max(left, 0), min(right, width))
                ]
                for c in range(channels) if cells else ():
                    values = [maps[int(number), c, y, x] for y, x in cells]
                    best = int(np.argmax(values))
                    pooled[r, c, j, i] = values[best]
                    where[r, c, j, i] = cells[best][0] * width + cells[best][1]
    return pooled, where


def slow_gradient(
    shape: tuple[int, ...], rois: np.ndarray, where: np.ndarray, of_pooled: np.ndarray
) -> np.ndarray:
    """What comes back to the maps: each bin's, to the cell its maximum was in, summed over RoIs."""
    gradient = np.zeros((shape[0], shape[1], shape[2] * shape[3]), np.float32)
    for (r, c, j, i), cell in np.ndenumerate(where):
        if cell >= 0:
            gradient[int(rois[r, 0]), c, cell] += of_pooled[r, c, j, i]
    return gradient.reshape(shape)


def make_maps(height: int = 5, width: int = 7, count: int = 2, channels: int = 3) -> Tensor:
    """Maps whose values differ everywhere, many of them negative."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    total = count * channels * height * width
    order = torch.randperm(total, generator=generator) - total // 2
    return order.float().reshape(count, channels, height, width)


def assert_as_slow(maps: Tensor, rois: Tensor, side: int, scale: float = SCALE) -> None:
    maps = maps.clone().requires_grad_()
    pooled = roi_pool(maps, rois, side, scale)
    expected, where = slow_roi_pool(maps.detach().numpy(), rois.numpy(), side, scale)
    assert np.array_equal(pooled.detach().numpy(), expected)
    # Whole numbers: their sums do not depend on the order.
    of_pooled = torch.randint(-9, 10, pooled.shape, generator=torch.Generator().manual_seed(1))
    pooled.backward(of_pooled.float())  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    gradient = slow_gradient(tuple(maps.shape), rois.numpy(), where, of_pooled.numpy())
    assert np.array_equal(maps.grad.numpy(), gradient)


# Against loops -------------------------------------------------------------------------------


def test_by_hand() -> None:
    maps = torch.arange(16.0).reshape(1, 1, 4, 4).requires_grad_()
    # 24 / 16 = 1.5 rounds to 2; 40 / 16 = 2.5 to 3: cells 0..2 across and 0..3 down, ends included.
    rois = torch.tensor([[0.0, 0, 0, 24, 40]])
    pooled = roi_pool(maps, rois, 2, SCALE)
    # Three cells in two bins: 0..1 and 1..2, sharing the middle one.
    assert pooled.tolist() == [[[[5, 6], [13, 14]]]]
    # The same RoI twice: each gradient comes twice.
    roi_pool(maps, rois.repeat(2, 1), 2, SCALE).sum().backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    assert {
        int(cell): float(maps.grad.flatten()[cell]) for cell in maps.grad.flatten().nonzero()
    } == {
        5: 2,
        6: 2,
        13: 2,
        14: 2,
    }


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 1), Corner, Corner, Corner, Corner), min_size=1, max_size=6),
    st.integers(1, 7),
)
def test_any_roi(corners: list[tuple[float, ...]], side: int) -> None:
    # Also reversed ones, and such as lie outside.
    assert_as_slow(make_maps(), torch.tensor(corners, dtype=torch.float32), side)


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 4), *[st.floats(0, 64, width=32)] * 4)
def test_any_small_map(height: int, width: int, x1: float, y1: float, x2: float, y2: float) -> None:
    rois = torch.tensor([[0, x1, y1, x2, y2], [1, 0, 0, 16.0 * width, 16.0 * height]])
    assert_as_slow(make_maps(height, width), rois, 6)


def test_overlapping_rois_add_their_gradients() -> None:
    maps = make_maps()
    rois = torch.tensor([[0.0, 0, 0, 112, 80], [0, 16, 16, 96, 64], [0, 0, 0, 112, 80]])
    assert_as_slow(maps, rois, 3)
    learning = maps.clone().requires_grad_()
    roi_pool(learning, rois, 1, SCALE).sum().backward()  # type: ignore[no-untyped-call]
    assert learning.grad is not None
    assert float(learning.grad.max()) >= 2  # the largest value of the whole map is in two RoIs
    assert float(learning.grad.sum()) == 3 * 3  # a maximum for each RoI and channel


def test_smaller_than_a_cell_is_one_cell_repeated() -> None:
    maps = make_maps()
    rois = torch.tensor([[1.0, 50, 35, 50.5, 35.5]])  # about cell 3, 2
    pooled = roi_pool(maps, rois, 4, SCALE)
    assert torch.equal(pooled, maps[1, :, 2, 3][None, :, None, None].expand(1, 3, 4, 4))
    assert_as_slow(maps, rois, 4)


def test_outside_the_map_is_nothing_and_learns_nothing() -> None:
    maps = (make_maps() - 1000).requires_grad_()  # all negative: nought is no maximum of theirs
    rois = torch.tensor([[0.0, 500, 500, 600, 600], [1, -200, 0, -100, 80]])
    pooled = roi_pool(maps, rois, 3, SCALE)
    assert torch.equal(pooled, torch.zeros(2, 3, 3, 3))
    pooled.sum().backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    assert torch.equal(maps.grad, torch.zeros_like(maps))


def test_partly_outside() -> None:
    assert_as_slow(make_maps(), torch.tensor([[0.0, 80, 48, 200, 200], [1, -80, -80, 20, 20]]), 4)


def test_each_roi_is_pooled_from_its_own_map() -> None:
    maps = torch.stack([torch.full((1, 3, 3), float(n)) for n in range(4)])
    rois = torch.tensor([[n, 0, 0, 40, 40] for n in (3.0, 0, 2, 1)])
    assert roi_pool(maps, rois, 1, SCALE).flatten().tolist() == [3, 0, 2, 1]


def test_no_roi() -> None:
    maps = make_maps().requires_grad_()
    pooled = roi_pool(maps, torch.zeros(0, 5), 6, SCALE)
    assert pooled.shape == (0, 3, 6, 6)
    pooled.sum().backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    assert torch.equal(maps.grad, torch.zeros_like(maps))


# On all cores --------------------------------------------------------------------------------


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Three threads to share the work; how many each call asked for."""
    asked: list[int] = []

    class Executor(concurrent.futures.ThreadPoolExecutor):
        def __init__(self, workers: int) -> None:
            asked.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(stages.roi_pool, "ThreadPoolExecutor", Executor)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield asked
    torch.set_num_threads(before)


def many_rois(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    number = torch.randint(2, (count, 1), generator=generator)
    corners = torch.rand(count, 4, generator=generator) * 260 - 60
    return torch.cat([number, corners], dim=1)


def plainly(maps: Tensor, rois: Tensor, side: int = 4) -> Tensor:
    wide = maps.detach().to(torch.promote_types(maps.dtype, torch.float32))
    pooled: Tensor = torchvision.ops.roi_pool(wide, rois.to(wide.dtype), side, SCALE)
    return pooled.to(maps.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("count", [CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7])
def test_shared_out_it_is_the_same_to_the_bit(
    threads: list[int], dtype: torch.dtype, count: int
) -> None:
    maps, rois = torch.randn(2, 3, 5, 7).to(dtype), many_rois(count)
    pooled = roi_pool(maps, rois, 4, SCALE)
    assert threads == [3]
    assert pooled.dtype == dtype
    assert torch.equal(pooled, plainly(maps, rois))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("made_inside", [True, False])
def test_also_in_inference_mode(
    threads: list[int], dtype: torch.dtype, inside: bool, made_inside: bool
) -> None:
    rois = many_rois(300)
    with torch.inference_mode(made_inside):
        maps = torch.randn(2, 3, 5, 7).to(dtype)
    with torch.inference_mode(inside):
        pooled = roi_pool(maps, rois, 4, SCALE)
        doubled = 2 * pooled  # it can be worked with
    assert threads == [3]
    assert torch.equal(pooled, plainly(maps, rois))
    assert torch.equal(doubled, 2 * plainly(maps, rois))
    assert not pooled.requires_grad


def test_in_any_layout_of_memory(threads: list[int]) -> None:
    maps = torch.randn(2, 8, 5, 7).contiguous(memory_format=torch.channels_last)
    rois = many_rois(300)
    assert torch.equal(roi_pool(maps, rois, 4, SCALE), plainly(maps.contiguous(), rois))
    assert threads == [3]


def test_maps_that_could_learn_but_do_not(threads: list[int]) -> None:
    maps, rois = torch.randn(2, 3, 5, 7, requires_grad=True), many_rois(300)
    with torch.no_grad():
        pooled = roi_pool(maps, rois, 4, SCALE)
    assert threads == [3]
    assert not pooled.requires_grad
    assert torch.equal(pooled, plainly(maps, rois))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_it_learns_the_gradient_is_the_operators(
    threads: list[int], dtype: torch.dtype
) -> None:
    values, rois = torch.randn(2, 3, 5, 7).to(dtype), many_rois(300)
    ours, theirs = values.clone().requires_grad_(), values.float().requires_grad_()
    pooled = roi_pool(ours, rois, 4, SCALE)
    expected = torchvision.ops.roi_pool(theirs, rois, 4, SCALE)
    assert torch.equal(pooled.float(), expected)
    of_pooled = torch.randint(-3, 4, expected.shape).float()
    pooled.backward(of_pooled.to(dtype))  # type: ignore[no-untyped-call]
    expected.backward(of_pooled)
    assert threads == []
    assert ours.grad is not None and theirs.grad is not None
    assert ours.grad.abs().sum() > 0
    # Added up in float32, whatever the maps are in.
    assert torch.equal(ours.grad, theirs.grad.to(dtype))


# Cells that look further right and down ------------------------------------------------------


def test_boxes_are_placed_by_hand() -> None:
    boxes = torch.tensor([[20.0, 31, 52, 63], [0, 10, 9, 14], [3, 0, 90, 15]])
    assert place(boxes, 15).tolist() == [[5, 16, 37, 48], [-15, -5, 0, 0], [-12, -15, 75, 0]]
    assert place(boxes, 0) is boxes


def test_a_shift_is_taken_off_in_pixels() -> None:
    maps, rois = torch.randn(2, 3, 5, 7), many_rois(40)
    moved = rois - torch.tensor([0.0, 15, 15, 15, 15])
    inside = (moved[:, 3:] >= 0).all(dim=1)
    assert 10 < inside.sum() < 40
    pooled = roi_pool(maps, rois, 4, SCALE, 15.0)
    assert torch.equal(pooled[inside], plainly(maps, moved[inside]))
    assert not torch.equal(pooled, plainly(maps, rois))


@pytest.mark.parametrize("threads_asked", [False, True])
def test_shifted_and_shared_out(threads: list[int], threads_asked: bool) -> None:
    maps, rois = torch.randn(2, 3, 5, 7), many_rois(2 * CHUNK if threads_asked else CHUNK)
    expected = torch.cat([roi_pool(maps, roi[None], 4, SCALE, 15.0) for roi in rois])
    assert torch.equal(roi_pool(maps, rois, 4, SCALE, 15.0), expected)
    assert threads == ([3] if threads_asked else [])


@given(st.tuples(st.floats(0, 111, width=32), st.floats(0, 79, width=32)))
def test_no_box_of_the_image_is_left_of_all_cells_or_above(corner: tuple[float, float]) -> None:
    """It has something of the map in it, however small; at the far edges as without a shift."""
    maps = torch.rand(1, 2, 5, 7) + 1
    x, y = corner
    roi = torch.tensor([[0, x, y, x + 1, y + 1]])
    least = roi_pool(maps, roi, 2, SCALE, 15.0).amax(dim=(2, 3)).min()
    far = (x - 15) / 16 >= 6.5 or (y - 15) / 16 >= 4.5
    assert (least > 0) != far


def test_left_of_the_first_centre_is_the_first_cell() -> None:
    maps = torch.arange(1, 36).float().view(1, 1, 5, 7)
    roi = torch.tensor([[0.0, 0, 0, 6, 6]])
    assert roi_pool(maps, roi, 2, SCALE, 15.0).max() == 1
    assert roi_pool(maps, torch.tensor([[0.0, 0, 20, 6, 30]]), 2, SCALE, 15.0).max() == 8


def test_the_gradient_of_shifted_rois_is_the_operators() -> None:
    values = torch.randn(2, 3, 5, 7)
    rois = torch.tensor([[0, 20.0, 20, 60, 70], [1, 0, 0, 112, 80], [0, 0, 30, 40, 50]])
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    pooled = roi_pool(ours, rois, 4, SCALE, 15.0)
    expected = torchvision.ops.roi_pool(
        theirs, rois - torch.tensor([0.0, 15, 15, 15, 15]), 4, SCALE
    )
    assert torch.equal(pooled, expected)
    of_pooled = torch.randint(-3, 4, expected.shape).float()
    pooled.backward(of_pooled)  # type: ignore[no-untyped-call]
    expected.backward(of_pooled)
    assert ours.grad is not None and theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)
