"""Which scale a window is taken from: by hand, and against a loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spp_net.scales import best_scale


def ratios(*factors: float) -> torch.Tensor:
    return torch.tensor([[factor] * 4 for factor in factors])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0.0, 0, 224, 224], 1),  # as it is
        ([100.0, 50, 212, 162], 2),  # 112 doubled
        ([0.0, 0, 448, 448], 0),  # 448 halved
        ([0.0, 0, 448, 112], 1),  # only the area counts
        ([5.0, 5, 6, 6], 2),  # too small for any: the largest
        ([0.0, 0, 5000, 5000], 0),
    ],
)
def test_the_area_nearest_to_224_squared(box: list[float], expected: int) -> None:
    assert best_scale(torch.tensor([box]), ratios(0.5, 1, 2), 224).tolist() == [expected]


def test_areas_are_compared_not_sides() -> None:
    # Sides 10 and 20 for 16: 16 - 10 > 20 - 16, but 256 - 100 > 400 - 256 by less: 156 and 144.
    box = torch.tensor([[0.0, 0, 10, 10]])
    assert best_scale(box, ratios(1, 2), 16).tolist() == [1]
    # Sides 11 and 20: 135 and 144.
    assert best_scale(box * 1.1, ratios(1, 20 / 11), 16).tolist() == [0]


def test_width_and_height_may_be_scaled_unlike() -> None:
    # A ratio is what rounding to whole pixels made of it.
    uneven = torch.tensor([[1.0, 1, 1, 1], [2.0, 1, 2, 1]])
    assert best_scale(torch.tensor([[0.0, 0, 10, 20]]), uneven, 20).tolist() == [1]


def test_no_windows() -> None:
    assert best_scale(torch.zeros(0, 4), ratios(1, 2), 224).shape == (0,)


Size = st.floats(1, 500)


@given(
    st.lists(st.tuples(Size, Size, Size, Size), max_size=8),
    st.lists(st.floats(0.25, 4), min_size=1, max_size=5),
    st.integers(16, 300),
)
def test_no_other_scale_is_nearer(
    windows: list[tuple[float, ...]], factors: list[float], side: int
) -> None:
    boxes = torch.tensor(windows).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    chosen = best_scale(boxes, ratios(*factors), side)
    assert chosen.dtype == torch.int64
    for (x1, y1, x2, y2), scale in zip(boxes.double().tolist(), chosen.tolist(), strict=True):
        off = [abs((x2 - x1) * (y2 - y1) * f * f - side**2) for f in factors]
        assert off[scale] <= min(off) * (1 + 1e-3) + 1
