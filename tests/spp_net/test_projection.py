"""From windows to cells: by hand, and against a loop over the cells' centres."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spp_net.projection import project

SIZE = torch.tensor([10, 20])  # height and width in cells


def cells(box: list[float], first: float = 0.0, size: torch.Tensor = SIZE) -> list[int]:
    return project(torch.tensor([box]), size, first, 16)[0].tolist()  # type: ignore[no-any-return]


# By hand -------------------------------------------------------------------------------------


def test_the_papers_formula() -> None:
    # floor(37 / 16) + 1, floor(20 / 16) + 1, ceil(100 / 16) - 1, ceil(90 / 16) - 1.
    assert cells([37.0, 20, 100, 90]) == [3, 2, 6, 5]
    # A window from centre to centre does not hold them.
    assert cells([32.0, 16, 96, 64]) == [3, 2, 5, 3]


def test_the_cells_centres_are_where_the_network_has_them() -> None:
    # Cell i at 16 i + 8: centres 40, 56, 72, 88 are inside, 24 and 104 are not.
    assert cells([37.0, 37, 100, 100], first=8.0) == [2, 2, 5, 5]


def test_a_window_from_the_images_edge_has_the_first_cell() -> None:
    assert cells([0.0, 0, 64, 64], first=0.5) == [0, 0, 3, 3]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([33.0, 33, 40, 40], [2, 2, 2, 2]),  # between 32 and 48: nearer to 32
        ([41.0, 41, 47, 47], [3, 3, 3, 3]),
        ([33.0, 16, 47, 90], [2, 2, 2, 5]),  # too narrow in one direction only; 40 / 16 to even
        ([50.0, 50, 50, 50], [3, 3, 3, 3]),  # without area
    ],
)
def test_smaller_than_a_cell_gets_the_nearest(box: list[float], expected: list[int]) -> None:
    assert cells(box) == expected


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([-50.0, -50, -20, -20], [0, 0, 0, 0]),
        ([900.0, 900, 990, 990], [19, 9, 19, 9]),
        ([-50.0, 20, 900, 900], [0, 2, 19, 9]),
    ],
)
def test_outside_the_map_is_its_edge(box: list[float], expected: list[int]) -> None:
    assert cells(box) == expected


def test_each_window_has_its_own_map() -> None:
    boxes = torch.tensor([[0.0, 0, 500, 500]] * 2)
    sizes = torch.tensor([[3, 5], [7, 2]])
    assert project(boxes, sizes, 0.5, 16).tolist() == [[0, 0, 4, 2], [0, 0, 1, 6]]


def test_no_windows() -> None:
    assert project(torch.zeros(0, 4), SIZE, 0.0, 16).shape == (0, 4)


# Any window ----------------------------------------------------------------------------------

Corner = st.floats(-100, 400, width=32)


@given(st.tuples(Corner, Corner, Corner, Corner), st.floats(0, 16, width=32))
def test_exactly_the_centres_inside(corners: tuple[float, ...], first: float) -> None:
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    found = cells([x1, y1, x2, y2], first)
    for low, high, count, near, far in (
        (x1, x2, 20, found[0], found[2]),
        (y1, y2, 10, found[1], found[3]),
    ):
        assert 0 <= near <= far < count
        # Away from the borders, where the last digit decides.
        inside = [i for i in range(count) if low + 1e-3 < first + 16 * i < high - 1e-3]
        outside = [i for i in range(count) if not low - 1e-3 < first + 16 * i < high + 1e-3]
        got = set(range(near, far + 1))
        if len(got) > 1:
            assert not got & set(outside)
        if inside:
            assert set(inside) <= got
        else:
            assert len(got) <= 2
