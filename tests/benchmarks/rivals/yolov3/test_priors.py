"""Where the priors are, and what offsets from them mean."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchmarks.rivals.yolov3.priors import Priors, place

SIZES = torch.tensor([[2.0 * n, 3.0 * n] for n in range(1, 10)])


@pytest.fixture
def priors() -> Priors:
    """Of an image of 32 by 64: 4 x 8, 2 x 4 and 1 x 2 cells."""
    return place(SIZES, [(4, 8), (2, 4), (1, 2)])


def test_map_by_map_row_by_row_three_a_cell(priors: Priors) -> None:
    assert len(priors.corners) == 3 * (32 + 8 + 2)
    for level, row, column, which, number in [
        (0, 0, 0, 0, 0),
        (0, 0, 1, 2, 5),
        (0, 3, 7, 2, 95),
        (1, 1, 2, 1, 96 + (4 + 2) * 3 + 1),
        (2, 0, 1, 2, 125),
    ]:
        stride = (8, 16, 32)[level]
        assert priors.corners[number].tolist() == [column * stride, row * stride]
        assert priors.strides[number].tolist() == [stride]
        assert priors.sizes[number].tolist() == SIZES[level * 3 + which].tolist()


def test_offsets_of_nought_are_the_prior_in_the_middle_of_its_cell(priors: Priors) -> None:
    # The cell of 16 in the second row and third column: its middle is at 40, 24; 10 by 15.
    assert priors.boxes()[96 + (4 + 2) * 3 + 1].tolist() == [35, 16.5, 45, 31.5]


def test_decoded_by_hand(priors: Priors) -> None:
    offsets = torch.tensor([[math.log(3), -math.log(3), math.log(2), 0.0]])
    # Cell 1, 2 of the second map: at 32 + 0.75 * 16 and 16 + 0.25 * 16; 20 by 15.
    (box,) = priors.decode(offsets, torch.tensor([96 + (4 + 2) * 3 + 1]))
    assert box.tolist() == pytest.approx([44 - 10, 20 - 7.5, 44 + 10, 20 + 7.5])


def test_decoding_is_encodings_inverse(priors: Priors) -> None:
    generator = torch.Generator().manual_seed(0)
    offsets = torch.randn(len(priors.sizes), 4, generator=generator)
    boxes = priors.decode(offsets)
    everywhere = torch.arange(len(boxes))
    found = priors.encode(boxes, everywhere)
    torch.testing.assert_close(found[:, :2], offsets[:, :2].sigmoid(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[:, 2:], offsets[:, 2:], rtol=1e-4, atol=1e-4)
    some = torch.tensor([3, 100, 7])
    torch.testing.assert_close(priors.encode(boxes[some], some), found[some])
    torch.testing.assert_close(priors.decode(offsets[some], some), boxes[some])


def test_a_box_stays_in_its_cell_and_finite(priors: Priors) -> None:
    for wild in (-1e4, 1e4):
        boxes: Tensor = priors.decode(torch.full((len(priors.sizes), 4), wild))
        assert bool(torch.isfinite(boxes).all())
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = (middles - priors.corners) / priors.strides
        assert float(inside.min()) >= -1e-2 and float(inside.max()) <= 1 + 1e-2
