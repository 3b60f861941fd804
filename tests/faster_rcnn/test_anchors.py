"""Anchors by hand, against loops, and against torchvision's."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from faster_rcnn.anchors import base_anchors, grid_anchors, inside
from faster_rcnn.config import AnchorConfig

PAPER = AnchorConfig()


def test_one_positions_anchors_by_hand() -> None:
    # Sides of 8 and 16; four times as high as wide, square, a quarter as high as wide.
    found = base_anchors([8, 16], [4.0, 1.0, 0.25])
    assert found.tolist() == [
        [-2, -8, 2, 8],  # 4 wide, 16 high: 64 = 8 * 8
        [-4, -16, 4, 16],
        [-4, -4, 4, 4],
        [-8, -8, 8, 8],
        [-8, -2, 8, 2],
        [-16, -4, 16, 4],
    ]


def test_the_papers_nine() -> None:
    found = base_anchors(PAPER.sizes, PAPER.ratios)
    assert found.shape == (9, 4)
    assert found.dtype == torch.float32
    wide, high = (found[:, 2] - found[:, 0]).tolist(), (found[:, 3] - found[:, 1]).tolist()
    # Section 3.1.1: areas of 128^2, 256^2, 512^2; 2:1, 1:1 and 1:2.
    areas = [w * h for w, h in zip(wide, high, strict=True)]
    assert areas == pytest.approx([128**2, 256**2, 512**2] * 3)
    shapes = [h / w for w, h in zip(wide, high, strict=True)]
    assert shapes == pytest.approx([0.5] * 3 + [1.0] * 3 + [2.0] * 3)
    assert found.sum(dim=1).abs().max() < 1e-4


@given(
    st.lists(st.floats(1, 1000), min_size=1, max_size=4),
    st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
)
def test_every_size_with_every_ratio(sizes: list[float], ratios: list[float]) -> None:
    found = base_anchors(sizes, ratios).tolist()
    expected = [(size, ratio) for ratio in ratios for size in sizes]
    assert len(found) == len(expected)
    for (x1, y1, x2, y2), (size, ratio) in zip(found, expected, strict=True):
        assert (x2 - x1) * (y2 - y1) == pytest.approx(size**2, rel=1e-5)
        assert (y2 - y1) / (x2 - x1) == pytest.approx(ratio, rel=1e-5)
        assert (x1 + x2, y1 + y2) == (0, 0)


def test_a_grid_by_hand() -> None:
    # Two rows of three cells of 16 pixels; a small and a tall anchor at each.
    base = torch.tensor([[-1.0, -1, 1, 1], [-2, -4, 2, 4]])
    found = grid_anchors(base, 2, 3, 16, 0.5)
    centres = [(8, 8), (24, 8), (40, 8), (8, 24), (24, 24), (40, 24)]  # x, y: row by row
    assert found.tolist() == [
        anchor
        for x, y in centres
        for anchor in ([x - 1, y - 1, x + 1, y + 1], [x - 2, y - 4, x + 2, y + 4])
    ]


def slow_grid(base: Tensor, h: int, w: int, stride: int, centre: float) -> list[list[float]]:
    return [
        [x1 + x, y1 + y, x2 + x, y2 + y]
        for row in range(h)
        for column in range(w)
        for y, x in [((row + centre) * stride, (column + centre) * stride)]
        for x1, y1, x2, y2 in base.tolist()
    ]


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([1, 4, 8, 16, 32]),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_any_grid(h: int, w: int, stride: int, centre: float, sizes: int, ratios: int) -> None:
    base = base_anchors([8.0, 32.0, 128.0][:sizes], [1.0, 4.0, 0.25][:ratios])
    found = grid_anchors(base, h, w, stride, centre)
    assert found.shape == (h * w * sizes * ratios, 4)
    assert found.tolist() == slow_grid(base, h, w, stride, centre)


def test_a_map_without_cells() -> None:
    assert grid_anchors(base_anchors([8], [1.0]), 0, 3, 16, 0.5).shape == (0, 4)


def test_on_the_edge_they_are_there_too() -> None:
    # "Anchors that cross image boundaries" are left to whoever learns from them.
    found = grid_anchors(base_anchors([512], [1.0]), 1, 2, 16, 0.5)
    assert found.tolist() == [[-248, -248, 264, 264], [-232, -248, 280, 264]]


# torchvision's -------------------------------------------------------------------------------


def theirs(base: list[Tensor], grids: list[tuple[int, int]], strides: list[int]) -> list[Tensor]:
    generator = AnchorGenerator(((8,),) * len(base), ((1.0,),) * len(base))
    generator.cell_anchors = base
    return generator.grid_anchors(
        [list(grid) for grid in grids],
        [[torch.tensor(stride), torch.tensor(stride)] for stride in strides],
    )


def test_torchvision_rounds_the_same_base() -> None:
    for sizes, ratios in (
        ((128, 256, 512), (0.5, 1.0, 2.0)),
        ((32, 64, 128, 256, 512), (0.5, 1.0, 2.0)),
        ((17, 40), (0.3, 1.0, 3.0, 5.0)),
    ):
        generator = AnchorGenerator((sizes,), (ratios,))
        assert torch.equal(base_anchors(sizes, ratios).round(), generator.cell_anchors[0])


def test_torchvisions_whole_grid_where_nothing_is_rounded() -> None:
    # Sides that are whole and even: torchvision's rounding leaves them as they are.
    generator = AnchorGenerator(((8, 32, 64),), ((0.25, 1.0, 4.0),))
    maps = torch.zeros(1, 5, 6, 9)
    images = ImageList(torch.zeros(1, 3, 96, 144), [(96, 144)])
    (expected,) = generator(images, [maps])
    ours = grid_anchors(base_anchors([8, 32, 64], [0.25, 1.0, 4.0]), 6, 9, 16, 0.0)
    assert torch.equal(ours, expected)


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([4, 8, 16]))
def test_torchvisions_grid_around_our_base(h: int, w: int, stride: int) -> None:
    bases = [base_anchors((20.0, 41.0), (0.5, 1.0, 2.0)), base_anchors((77.0,), (0.7,))]
    grids, strides = [(h, w), (-(-h // 2), -(-w // 2))], [stride, 2 * stride]
    for base, (rows, columns), step, expected in zip(
        bases, grids, strides, theirs(bases, grids, strides), strict=True
    ):
        assert torch.equal(grid_anchors(base, rows, columns, step, 0.0), expected)


# The image's edge ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0, 0, 100, 60], True),  # the whole image
        ([0, 0, 10, 10], True),
        ([90, 50, 100, 60], True),
        ([-0.5, 0, 10, 10], False),
        ([0, -0.5, 10, 10], False),
        ([90, 50, 100.5, 60], False),
        ([90, 50, 100, 60.5], False),
        ([0, 0, 60, 100], False),  # upright, in an image that is not
        ([-9, -9, 200, 200], False),
        ([200, 200, 210, 210], False),
    ],
)
def test_what_lies_inside(box: list[float], expected: bool) -> None:
    assert inside(torch.tensor([box]), 60, 100).tolist() == [expected]


def test_most_of_the_papers_anchors_cross_the_edge() -> None:
    # Section 3.1.3: "For a typical 1000 x 600 image, there will be roughly 20000 anchors in total."
    # Of those inside it says "about 6000"; the sizes it gives leave (1000 - w) (600 - h) / 16^2 of
    # each shape: 8,000.
    h, w = math.ceil(600 / 16), math.ceil(1000 / 16)
    base = base_anchors(PAPER.sizes, PAPER.ratios)
    every = grid_anchors(base, h, w, 16, PAPER.centre)
    assert 20_000 < len(every) < 22_000
    room = (torch.tensor([1000.0, 600]) - (base[:, 2:] - base[:, :2])).clamp(min=0)
    expected = float((room / 16).prod(dim=1).sum())
    assert int(inside(every, 600, 1000).sum()) == pytest.approx(expected, rel=0.02)
