"""RoIAlign by hand, against a loop of its definition, and against torchvision's operators.

R RoIs, C channels, S the side of a pooled map, p points along a bin's side.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mask_rcnn.config import PoolConfig
from mask_rcnn.roi_align import RoIPooling, interpolate
from stages.roi_pool import roi_pool

STRIDE = 4
Corner = st.floats(-30, 60, width=32)  # in pixels; the map below covers 28 x 20
Kind = Literal["align", "pool", "warp"]
Aggregate = Literal["average", "max"]

# Inside, over each edge, around the map, smaller than a cell, flat, without size; and far outside.
ROIS = torch.tensor(
    [
        [0, 2.0, 3.0, 21.0, 17.0],
        [1, -6.0, -5.0, 10.0, 9.0],
        [0, 15.0, 8.0, 40.0, 33.0],
        [1, -50.0, -50.0, 90.0, 80.0],
        [0, 9.0, 9.0, 10.5, 9.75],
        [1, 3.0, 10.0, 25.0, 10.5],
        [0, 12.0, 12.0, 12.0, 12.0],
        [1, 27.9, 19.9, 28.0, 20.0],
        [0, 300.0, 300.0, 340.0, 320.0],
        [1, -90.0, 3.0, -60.0, 17.0],
    ]
)
OUTSIDE = 2  # the last ones


def pooling(
    side: int = 3,
    points: int = 2,
    half_pixel: bool = True,
    kind: Kind = "align",
    strides: Sequence[int] = (STRIDE,),
    aggregate: Aggregate = "average",
) -> RoIPooling:
    config = PoolConfig(kind, points, half_pixel, aggregate=aggregate)
    return RoIPooling(tuple(strides), side, config)


def make_map(height: int = 5, width: int = 7, count: int = 2, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randn(count, channels, height, width, generator=generator)


def close(ours: Tensor, theirs: Tensor, within: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=0, atol=within, check_dtype=False)


# Against loops -------------------------------------------------------------------------------


def value_at(of_map: Tensor, y: float, x: float) -> Tensor:
    """[C], of a map [C, H, W] whose cells' values are at whole numbers."""
    _, height, width = of_map.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(len(of_map))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = (1 - across) * of_map[:, top, left] + across * of_map[:, top, right]
    lower = (1 - across) * of_map[:, bottom, left] + across * of_map[:, bottom, right]
    return (1 - down) * upper + down * lower


def slow_align(
    maps: Tensor,
    rois: Tensor,
    side: int,
    points: int,
    half_pixel: bool,
    aggregate: Aggregate = "average",
) -> Tensor:
    """Section 3: the RoI cut into S x S bins, of each the mean of p x p points spread evenly over it.

    Or their maximum (table 2c), which is never of no point.
    """
    pooled = torch.zeros(len(rois), maps.shape[1], side, side)
    for r, (number, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (corner / STRIDE for corner in corners)
        if half_pixel:
            x1, y1, x2, y2 = x1 - 0.5, y1 - 0.5, x2 - 0.5, y2 - 0.5
        else:
            x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
        high, wide = (y2 - y1) / side, (x2 - x1) / side
        down, across = points or math.ceil(high), points or math.ceil(wide)
        if aggregate == "max":
            down, across = max(down, 1), max(across, 1)
        for i in range(side):
            for j in range(side):
                values = []
                for k in range(down):
                    for n in range(across):
                        y = y1 + (i + (k + 0.5) / down) * high
                        x = x1 + (j + (n + 0.5) / across) * wide
                        values.append(value_at(maps[int(number)], y, x))
                if values:
                    every = torch.stack(values)
                    pooled[r, :, i, j] = every.mean(0) if aggregate == "average" else every.amax(0)
    return pooled


@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize(("side", "points"), [(1, 1), (3, 2), (2, 3), (7, 0), (1, 0)])
def test_as_defined(side: int, points: int, half_pixel: bool) -> None:
    maps = make_map()
    pooled = pooling(side, points, half_pixel)([maps])(ROIS)
    close(pooled, slow_align(maps, ROIS, side, points, half_pixel))
    assert pooled[:-OUTSIDE, :, 0, 0].abs().sum() > 0
    assert (pooled[-OUTSIDE:] == 0).all()


@settings(max_examples=60)
@given(
    st.tuples(Corner, Corner),
    st.tuples(st.floats(0, 50, width=32), st.floats(0, 50, width=32)),
    st.integers(1, 4),
    st.integers(0, 3),
    st.booleans(),
)
def test_any_roi(
    corner: tuple[float, float],
    sides: tuple[float, float],
    side: int,
    points: int,
    half_pixel: bool,
) -> None:
    x, y = corner
    rois = torch.tensor([[1.0, x, y, x + sides[0], y + sides[1]]])
    maps = make_map()
    theirs = torchvision.ops.roi_align(
        maps, rois, side, 1 / STRIDE, points or -1, aligned=half_pixel
    )
    # What is a cell outside counts for nothing at once, and for how many points may be chance.
    if not at_a_jump(rois, side, points, half_pixel):
        close(pooling(side, points, half_pixel)([maps])(rois), theirs, 1e-4)


def at_a_jump(rois: Tensor, side: int, points: int, half_pixel: bool) -> bool:
    """Whether a point lies within a hair of where the map ends, or of one point more a bin."""
    (_, *edges) = (rois[0] / STRIDE).tolist()
    shift = 0.5 if half_pixel else 0.0
    for low, high, length in ((edges[0], edges[2], 7), (edges[1], edges[3], 5)):
        size = high - low if half_pixel else max(high - low, 1.0)
        if points == 0 and abs(size / side - round(size / side)) < 1e-4:
            return True
        count = side * (points or math.ceil(size / side))
        for k in range(count):
            at = low - shift + (k + 0.5) * size / count
            if abs(at + 1) < 1e-4 or abs(at - length) < 1e-4:
                return True
    return False


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (4, 1), (2, 2)])
@pytest.mark.parametrize("points", [0, 2])
def test_small_maps(height: int, width: int, points: int) -> None:
    maps = make_map(height, width)
    close(pooling(2, points)([maps])(ROIS), slow_align(maps, ROIS, 2, points, True))


def test_a_map_of_one_cell_is_its_value_wherever_the_roi_lies_in_it() -> None:
    maps = torch.full((1, 1, 1, 1), 7.0)
    rois = torch.tensor([[0, 0.0, 0, 4, 4], [0, 1, 1, 2, 3], [0, -1, 0, 3, 5]])
    close(pooling(2)([maps])(rois), torch.full((3, 1, 2, 2), 7.0))


def test_points_of_a_bin_and_the_cells_between_which_they_are() -> None:
    # From 0.5 to 4.5 in two bins of two points: at 1, 2, 3 and 4, of a map of four cells.
    one = torch.ones(1)
    cells, weights = interpolate(0.5 * one, 4.5 * one, 4 * one, 2, 2)
    # Lower neighbours, each beside its upper one; beyond the last cell's middle, that one alone.
    assert cells.tolist() == [[[1, 2, 2, 3], [3, 3, 3, 3]]]
    assert weights.tolist() == [[[0.5, 0, 0.5, 0], [0.5, 0, 0.5, 0]]]
    # At -1.5, more than a cell outside, and at 0.5.
    cells, weights = interpolate(-2.5 * one, 1.5 * one, 4 * one, 1, 2)
    assert cells.tolist() == [[[0, 1, 0, 1]]]
    assert weights.tolist() == [[[0, 0, 0.25, 0.25]]]


def test_by_hand() -> None:
    # Cells of 4 pixels; the value of each is its number, at its middle: 2, 6, 10, 14.
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    # From the middle of cell 0 to that of cell 10, in two bins: points at 1/4 and 3/4 of a bin.
    rois = torch.tensor([[0.0, 2, 2, 10, 10]])
    # The mean of a bin is the value at its middle, a half cell down and across: 2.5, and so on.
    assert pooling(2)([maps])(rois).tolist() == [[[[2.5, 3.5], [6.5, 7.5]]]]
    # As long as cells stood at their corners, the same RoI began half a cell further in.
    assert pooling(2, half_pixel=False)([maps])(rois).tolist() == [[[[5, 6], [9, 10]]]]


# What RoIAlign is for ------------------------------------------------------------------------


def ramp(height: int = 20, width: int = 24) -> Tensor:
    """[1, 2, H, W]: at each cell the x and the y of its middle, in pixels."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return STRIDE * torch.stack([x, y])[None]


Inside = st.floats(4, 40, width=32)


@settings(max_examples=50)
@given(Inside, Inside, st.floats(0, 32, width=32), st.floats(0, 32, width=32), st.integers(0, 3))
def test_a_ramp_comes_out_as_it_is(
    x: float, y: float, wide: float, high: float, points: int
) -> None:
    """Nothing is rounded: each bin is the place of its own middle. RoIPool is off by up to a cell."""
    side = 4
    if points == 0:
        wide, high = max(wide, 0.5), max(high, 0.5)  # else no point is asked for
    (pooled,) = pooling(side, points)([ramp()])(torch.tensor([[0, x, y, x + wide, y + high]]))
    middle = (torch.arange(side) + 0.5) / side
    close(pooled[0], (x + wide * middle).expand(side, side), 1e-3)
    close(pooled[1], (y + high * middle)[:, None].expand(side, side), 1e-3)


def test_roi_pool_moves_a_ramp() -> None:
    rois = torch.tensor([[0, 13.0, 13.0, 29.0, 29.0]])
    aligned, pooled = (pooling(2, kind=kind)([ramp()])(rois)[0] for kind in ("align", "pool"))
    assert aligned[0, 0].tolist() == pytest.approx([17, 25])
    assert (pooled[0, 0] - aligned[0, 0]).abs().min() > 1


@settings(max_examples=50)
@given(
    st.tuples(st.floats(8, 30, width=32), st.floats(8, 30, width=32)),
    st.tuples(st.floats(0.5, 20, width=32), st.floats(0.5, 20, width=32)),
    st.integers(-1, 4),
    st.integers(-1, 4),
    st.sampled_from(["align", "pool", "warp"]),
    st.integers(1, 3),
)
def test_moved_by_whole_cells_it_is_the_same(
    corner: tuple[float, float],
    sides: tuple[float, float],
    right: int,
    down: int,
    kind: Kind,
    points: int,
) -> None:
    inner = make_map(16, 16)
    there, here = torch.zeros(2, 3, 24, 24), torch.zeros(2, 3, 24, 24)
    there[:, :, 2:18, 2:18] = inner
    here[:, :, 2 + down : 18 + down, 2 + right : 18 + right] = inner
    # On quarters of a pixel, so that the moved corners are exact, too.
    x, y, wide, high = (round(4 * value) / 4 for value in (*corner, *sides))
    rois = torch.tensor([[1, x, y, x + wide, y + high]])
    moved = rois + STRIDE * torch.tensor([[0, right, down, right, down]])
    pool = pooling(3, points, kind=kind)
    close(pool([here])(moved), pool([there])(rois))


# Against torchvision -------------------------------------------------------------------------


@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("points", [0, 1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_as_torchvision(dtype: torch.dtype, points: int, half_pixel: bool) -> None:
    values, rois = make_map().to(dtype), ROIS.to(dtype)
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    pooled = pooling(4, points, half_pixel)([ours])(rois)
    expected = torchvision.ops.roi_align(
        theirs, rois, 4, 1 / STRIDE, points or -1, aligned=half_pixel
    )
    assert pooled.dtype == dtype
    close(pooled, expected)
    of_pooled = torch.arange(expected.numel(), dtype=dtype).view_as(expected).cos()
    pooled.backward(of_pooled)  # type: ignore[no-untyped-call]
    expected.backward(of_pooled)
    assert ours.grad is not None and theirs.grad is not None
    close(ours.grad, theirs.grad, 1e-4)
    assert ours.grad.abs().sum() > 0


@pytest.mark.parametrize("points", [0, 2])
def test_in_bfloat16(points: int) -> None:
    maps = make_map(channels=8).to(torch.bfloat16)
    with torch.no_grad():
        pooled = pooling(3, points)([maps])(ROIS)
    assert pooled.dtype == torch.bfloat16
    close(pooled, pooling(3, points)([maps.float()])(ROIS), 0.05)


STRIDES = (4, 8, 16, 32)
SIZES = ((200, 300), (256, 250))  # of two images in a frame of 256 x 320


def pyramid_of(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(0)
    maps = [torch.randn(2, 5, 256 // stride, 320 // stride, dtype=dtype) for stride in STRIDES]
    return [*maps, torch.full((2, 5, 4, 5), torch.nan, dtype=dtype)]  # the RPN's own


def boxes_of_all_sizes(count: int = 60) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(2):
        sides = torch.exp(torch.rand(count, 2, generator=generator) * math.log(500)) * 2
        middles = torch.rand(count, 2, generator=generator) * 260
        found.append(torch.cat([middles - sides / 2, middles + sides / 2], dim=1))
    return found


def numbered(boxes: Sequence[Tensor]) -> Tensor:
    rows = [
        torch.cat([torch.full((len(some), 1), float(n)), some], dim=1)
        for n, some in enumerate(boxes)
    ]
    return torch.cat(rows)


@pytest.mark.parametrize("points", [0, 2])
def test_levels_as_torchvisions_multi_scale_roi_align(points: int) -> None:
    maps, boxes = pyramid_of(), boxes_of_all_sizes()
    by_name = OrderedDict((str(n), of_map) for n, of_map in enumerate(maps))
    theirs = torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, points or -1)
    expected = theirs(by_name, boxes, list(SIZES))
    rois = numbered(boxes)
    pool = pooling(7, points, half_pixel=False, strides=STRIDES)
    close(pool(maps)(rois), expected, 1e-4)
    assert set(pool.levels(rois).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("kind", ["align", "warp"])
def test_a_cpus_way_is_a_gpus(kind: Kind, half_pixel: bool) -> None:
    """With a gradient: of all maps at once, and of each with torchvision's operator."""
    rois = torch.cat([numbered(boxes_of_all_sizes()), ROIS])
    pool = pooling(3, 2, half_pixel, kind, STRIDES)
    outcomes = []
    for each in (False, True):
        maps = [of_map.requires_grad_() for of_map in pyramid_of()[:4]]
        pooled = pool.by_operator(maps, rois) if each else pool(maps)(rois)
        pooled.backward(torch.arange(pooled.numel()).view_as(pooled).cos())  # type: ignore[no-untyped-call]
        outcomes.append([pooled, *(of_map.grad for of_map in maps)])
    for ours, other in zip(*outcomes, strict=True):
        assert ours is not None and other is not None
        close(ours, other, 1e-4)


# Cells that look further right and down ------------------------------------------------------


@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("kind", ["align", "pool", "warp"])
@pytest.mark.parametrize("by_operator", [True, False])
def test_a_shift_is_taken_off_in_pixels(kind: Kind, half_pixel: bool, by_operator: bool) -> None:
    maps, config = make_map(), PoolConfig(kind, 2, half_pixel)
    shifted = RoIPooling((STRIDE,), 3, config, shift=3.0)
    plain = RoIPooling((STRIDE,), 3, config)
    rois = ROIS[(ROIS[:, 3:] >= 3).all(dim=1)]
    moved = rois - torch.tensor([0.0, 3, 3, 3, 3])
    if by_operator:
        found, expected = shifted.by_operator([maps], rois), plain.by_operator([maps], moved)
    else:
        found, expected = shifted([maps])(rois), plain([maps])(moved)
    assert torch.equal(found, expected)
    assert not torch.equal(found, plain([maps])(rois))


@pytest.mark.parametrize(
    ("kind", "half_pixel", "off"),
    [
        # Interpolated where the cells look, but for the half pixel of the padded network's first one.
        ("align", False, 0.5),
        # As far off as with ResNet, whose cells look at 16 i: to the left by half a cell.
        ("align", True, -7.5),
        ("warp", True, 0.5),
    ],
)
def test_where_squeezenets_map_is_interpolated(kind: Kind, half_pixel: bool, off: float) -> None:
    """Cell i looks at 16 i + 15.5, and so it says."""
    maps = (16 * torch.arange(30) + 15.5).expand(1, 1, 30, 30)
    pool = RoIPooling((16,), 7, PoolConfig(kind, 2, half_pixel), shift=15.0)
    left = torch.arange(100, 260, 0.5)  # of every phase as many
    rois = torch.stack([left * 0, left, left * 0 + 150, left + 112, left * 0 + 250], dim=1)
    found = pool([maps])(rois)[:, 0].mean(dim=(1, 2)) - (left + 56)
    assert float(found.mean()) == pytest.approx(off, abs=0.3)
    assert float((found - off).abs().max()) < (8.5 if kind == "warp" else 1e-3)


# Of other kinds ------------------------------------------------------------------------------


def test_kind_pool_is_roi_pool_of_each_level() -> None:
    maps, rois = pyramid_of(), numbered(boxes_of_all_sizes())
    pool = pooling(3, kind="pool", strides=STRIDES)
    pooled, levels = pool(maps)(rois), pool.levels(rois)
    for number, stride in enumerate(STRIDES):
        rows = levels == number
        assert torch.equal(pooled[rows], roi_pool(maps[number], rois[rows], 3, 1 / stride))


def test_warp_by_hand() -> None:
    """Rounded as RoIPool does it, ends included; then interpolated."""
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    # 5 / 4 and 9 / 4: cells 1 to 2, that is from 1 to 3, halved: their values themselves.
    rois = torch.tensor([[0, 5.0, 5, 9, 9]])
    assert pooling(2, 1, kind="warp")([maps])(rois).tolist() == [[[[5, 6], [9, 10]]]]
    # Whatever cells' values stand for, and wherever in them the corners are.
    for half_pixel, corner in ((False, 5.0), (True, 3.0), (True, 4.5)):
        rois = torch.tensor([[0, corner, corner, corner + 4, corner + 4]])
        found = pooling(1, 2, half_pixel, "warp")([maps])(rois)
        assert found.tolist() == [[[[7.5]]]]
    # Within one cell it is that cell.
    rois = torch.tensor([[0, 8.5, 4.5, 9, 5]])
    assert pooling(1, 1, kind="warp")([maps])(rois).tolist() == [[[[6]]]]
    # Three bins of two cells: middles at 1/3, 1 and 5/3 cells, values at a half and one and a half.
    rois = torch.tensor([[0, 4.0, 4, 8, 8]])
    (((_, middle, _),),) = pooling(3, 1, kind="warp")([maps])(rois).tolist()
    assert middle == pytest.approx([7.5 - 2 / 3, 7.5, 7.5 + 2 / 3])


def test_warp_rounds_halves_as_roi_pool() -> None:
    """Away from nought: 1.5 to 2 and 2.5 to 3."""
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    rois = torch.tensor([[0, 6.0, 6, 10, 10]])
    pooled = roi_pool(maps, rois, 2, 1 / STRIDE)
    assert pooled.tolist() == [[[[10, 11], [14, 15]]]]
    assert torch.equal(pooling(2, 1, kind="warp")([maps])(rois), pooled)


@pytest.mark.parametrize("kind", ["align", "pool", "warp"])
@pytest.mark.parametrize("points", [0, 2])
@pytest.mark.parametrize("strides", [(4,), (4, 8)])
@pytest.mark.parametrize("aggregate", ["average", "max"])
def test_no_roi(kind: Kind, points: int, strides: tuple[int, ...], aggregate: Aggregate) -> None:
    maps = [make_map(20 // stride, 28 // stride).requires_grad_() for stride in strides]
    pool = pooling(6, points, kind=kind, strides=strides, aggregate=aggregate)
    pooled = pool(maps)(torch.zeros(0, 5))
    assert pooled.shape == (0, 3, 6, 6)
    pooled.sum().backward()  # type: ignore[no-untyped-call]
    for of_map in maps:
        assert of_map.grad is not None
        assert (of_map.grad == 0).all()


def test_an_image_without_rois() -> None:
    maps, rois = make_map(count=3), ROIS[ROIS[:, 0] == 1]
    close(pooling()([maps])(rois), pooling()([maps[1:2]])(rois - torch.eye(5)[0]))


# The largest instead of the mean --------------------------------------------------------------


@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize(("side", "points"), [(1, 1), (3, 2), (2, 3), (7, 0), (1, 0), (2, 0)])
def test_maxima_as_defined(side: int, points: int, half_pixel: bool) -> None:
    maps = make_map()
    pool = pooling(side, points, half_pixel, aggregate="max")
    expected = slow_align(maps, ROIS, side, points, half_pixel, "max")
    close(pool([maps])(ROIS), expected)
    close(pool.by_operator([maps], ROIS), expected)  # a GPU's way
    assert (expected[-OUTSIDE:] == 0).all()


def test_maxima_by_hand() -> None:
    # As `test_by_hand`: bins of 1 cell, of which the points are at 1/4 and 3/4, down and across.
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    rois = torch.tensor([[0.0, 2, 2, 10, 10]])
    # A quarter further right than the middle is 0.25 more, and further down 4 times that.
    found = pooling(2, aggregate="max")([maps])(rois)
    assert found.tolist() == [[[[3.75, 4.75], [7.75, 8.75]]]]
    # Of a falling map they are the points up and to the left.
    found = pooling(2, aggregate="max")([-maps])(rois)
    assert found.tolist() == [[[[-1.25, -2.25], [-5.25, -6.25]]]]


@pytest.mark.parametrize("points", [0, 1, 2])
def test_the_largest_is_of_each_channel(points: int) -> None:
    maps = make_map()
    pool = pooling(3, points, aggregate="max")
    together = pool([maps])(ROIS)
    for channel in range(3):
        alone = pool([maps[:, channel : channel + 1]])(ROIS)
        close(together[:, channel : channel + 1], alone)


@settings(max_examples=60)
@given(
    st.tuples(st.floats(0, 28, width=32), st.floats(0, 20, width=32)),
    st.tuples(st.floats(0.25, 30, width=32), st.floats(0.25, 30, width=32)),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(["align", "warp"]),
)
def test_no_mean_is_above_the_largest(
    corner: tuple[float, float], sides: tuple[float, float], side: int, points: int, kind: Kind
) -> None:
    x, y = corner
    maps, rois = make_map(), torch.tensor([[1.0, x, y, x + sides[0], y + sides[1]]])
    mean = pooling(side, points, kind=kind)([maps])(rois)
    largest = pooling(side, points, kind=kind, aggregate="max")([maps])(rois)
    assert (largest >= mean - 1e-5).all()
    if points == 1:
        close(largest, mean)
    # The largest of what is turned upside down is the smallest.
    smallest = -pooling(side, points, kind=kind, aggregate="max")([-maps])(rois)
    assert (smallest <= mean + 1e-5).all()


def test_warp_takes_its_maxima_from_the_rounded_roi() -> None:
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    # Cells 1 to 2, as in `test_warp_by_hand`; points of a single bin at 1/2 and 3/2 of a cell: its values.
    rois = torch.tensor([[0, 5.0, 5, 9, 9]])
    found = pooling(1, 2, kind="warp", aggregate="max")([maps])(rois)
    assert found.tolist() == [[[[10]]]]


def test_roi_pool_takes_maxima_whatever_is_asked_for() -> None:
    maps = make_map()
    found = [pooling(3, kind="pool", aggregate=each)([maps])(ROIS) for each in ("average", "max")]
    assert torch.equal(*found)


@pytest.mark.parametrize("points", [0, 2])
@pytest.mark.parametrize("by_operator", [True, False])
def test_gradient_of_maxima(points: int, by_operator: bool) -> None:
    """Against differences: a hair's change of any cell changes what comes out as the gradient says."""
    maps = make_map(channels=2).double().requires_grad_()
    pool = pooling(2, points, aggregate="max")
    rois = ROIS.double()

    def pooled(values: Tensor) -> Tensor:
        return pool.by_operator([values], rois) if by_operator else pool([values])(rois)

    assert torch.autograd.gradcheck(pooled, (maps,), eps=1e-7, atol=1e-5)


def test_the_gradient_goes_to_the_largest_points_cells() -> None:
    maps = torch.arange(16.0).reshape(1, 1, 4, 4).requires_grad_()
    # One bin from the middle of cell 0 to that of cell 10: its largest point is at 1.5, 1.5.
    pooled = pooling(1, aggregate="max")([maps])(torch.tensor([[0.0, 2, 2, 10, 10]]))
    assert pooled.item() == 7.5
    pooled.backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    assert (maps.grad == maps.grad.new_tensor(0.25)).nonzero()[:, 2:].tolist() == [
        [1, 1],
        [1, 2],
        [2, 1],
        [2, 2],
    ]
    assert maps.grad.sum() == 1


@pytest.mark.parametrize("points", [0, 2])
def test_maxima_of_each_level(points: int) -> None:
    maps, rois = pyramid_of(), numbered(boxes_of_all_sizes())
    pool = pooling(3, points, strides=STRIDES, aggregate="max")
    pooled, levels = pool(maps)(rois), pool.levels(rois)
    for number, stride in enumerate(STRIDES):
        rows = levels == number
        alone = pooling(3, points, strides=(stride,), aggregate="max")
        close(pooled[rows], alone([maps[number]])(rois[rows]))
        assert rows.any()


@pytest.mark.parametrize("points", [0, 2])
def test_maxima_in_bfloat16(points: int) -> None:
    maps = make_map(channels=8).to(torch.bfloat16)
    pool = pooling(3, points, aggregate="max")
    with torch.no_grad():
        pooled = pool([maps])(ROIS)
    assert pooled.dtype == torch.bfloat16
    close(pooled, pool([maps.float()])(ROIS), 0.05)


# Levels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wide", "high", "stride"),
    [
        (224, 224, 16),  # FPN: of this side, from the map of stride 16
        (223, 223, 8),
        (447, 447, 16),
        (448, 448, 32),
        (112, 112, 8),
        (111, 111, 4),
        (56, 56, 4),
        (56, 896, 16),  # its area counts
        (14, 14, 4),
        (0.1, 0.1, 4),
        (0, 0, 4),
        (0, 100, 4),
        (900, 900, 32),
        (9000, 9000, 32),
    ],
)
def test_level_of_a_roi(wide: float, high: float, stride: int) -> None:
    rois = torch.tensor([[3.0, 11.0, 12.0, 11.0 + wide, 12.0 + high]])
    level = pooling(strides=STRIDES).levels(rois)
    assert level.dtype == torch.int64
    assert STRIDES[int(level)] == stride


def test_levels_of_other_pyramids() -> None:
    rois = torch.tensor([[0, 0, 0, side, side] for side in (47.0, 48, 95, 96, 191, 192, 1000)])
    # With 96 as 224: stride 16 from there on.
    small = RoIPooling((8, 16), 7, PoolConfig(), canonical_side=96.0)
    assert small.levels(rois).tolist() == [0, 0, 0, 1, 1, 1, 1]
    whole = RoIPooling((4, 8, 16, 32), 7, PoolConfig(), canonical_side=96.0)
    assert whole.levels(rois).tolist() == [0, 1, 1, 2, 2, 3, 3]
    # A single map is every RoI's.
    for stride in (16, 32):
        assert RoIPooling((stride,), 7, PoolConfig()).levels(rois).tolist() == [0] * 7


@pytest.mark.parametrize("kind", ["align", "pool"])
def test_further_maps_are_not_looked_at(kind: Kind) -> None:
    maps, rois = pyramid_of(), torch.tensor([[0, 0.0, 0, 3000, 3000], [1, 0, 0, 20, 20]])
    pool = pooling(2, kind=kind, strides=STRIDES)
    assert maps[4].isnan().all()
    assert pool(maps)(rois).isfinite().all()
    assert torch.equal(pool(maps)(rois), pool(maps[:4])(rois))


# Training ------------------------------------------------------------------------------------


def test_gradients_of_bfloat16_maps_are_added_up_in_float32() -> None:
    """The sum of what a thousand RoIs say: in bfloat16 it would stay at 256, being added 1 to."""
    maps = torch.zeros(1, 2, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    rois = torch.tensor([[0, 0.0, 0, 12, 12]]).repeat(1000, 1)
    pooled = pooling(1, 1)([maps])(rois)  # of each the middle cell
    pooled.sum().backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    assert maps.grad.dtype == torch.bfloat16
    assert maps.grad[0, :, 1, 1].tolist() == [1000, 1000]
    assert maps.grad.sum() == 2000


def test_without_a_gradient_bfloat16_maps_are_not_copied_as_float32() -> None:
    maps = make_map().to(torch.bfloat16).requires_grad_()
    with torch.no_grad():
        assert pooling()([maps])(ROIS).dtype == torch.bfloat16
    assert pooling()([maps.detach()])(ROIS).dtype == torch.bfloat16
