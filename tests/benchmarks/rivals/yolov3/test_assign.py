"""Which prior learns which object: by hand, and against a plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchmarks.rivals.yolov3.assign import Assignment, assign
from benchmarks.rivals.yolov3.priors import place

# Squares; an image of 64 by 96 pixels.
SIDES = (4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 28.0, 40.0, 60.0)
SIZES = torch.tensor([[side, side] for side in SIDES])
SHAPES = [(8, 12), (4, 6), (2, 3)]
PRIORS = place(SIZES, SHAPES)
BEFORE = (0, 288, 360)  # each map's first prior


def assigned(boxes: list[list[float]], predicted: Tensor | None = None) -> Assignment:
    return assign(
        PRIORS,
        SIZES,
        torch.tensor(boxes).reshape(-1, 4),
        PRIORS.boxes() if predicted is None else predicted,
        0.5,
    )


def ignored(found: Assignment) -> list[int]:
    return found.ignored.nonzero()[:, 0].tolist()


def test_the_best_shape_in_the_cell_of_the_centre() -> None:
    # 16 x 16 around 28, 40: the fifth prior, second of the middle map, third row, second column.
    found = assigned([[20, 32, 36, 48]])
    assert found.places.tolist() == [288 + (2 * 6 + 1) * 3 + 1]
    assert found.wins.tolist() == [True]


def test_near_ones_that_are_not_the_best_are_ignored() -> None:
    # Right in the middle of a cell of 16: of 12 x 12 it holds 144 / 256, of 20 x 20 it fills 256 / 400,
    # of 8 x 8 and 28 x 28 too little; neighbours of either are 16 pixels off.
    found = assigned([[16, 32, 32, 48]])
    (place,) = found.places.tolist()
    assert ignored(found) == [place - 1, place + 1]


def test_what_is_ignored_may_go_by_the_predictions() -> None:
    predicted = torch.zeros(len(PRIORS.sizes), 4)
    predicted[7] = torch.tensor([16.0, 32, 32, 44])  # 192 / 256
    predicted[8] = torch.tensor([16.0, 32, 32, 40])  # just half of it
    found = assigned([[16, 32, 32, 48]], predicted)
    assert ignored(found) == [7]
    # An object's best learns whatever it predicts.
    predicted[found.places] = torch.tensor([16.0, 32, 32, 48])
    assert ignored(assigned([[16, 32, 32, 48]], predicted)) == [7]


def test_another_objects_best_is_not_ignored() -> None:
    # 20 x 20 and 16 x 16 around one point.
    found = assigned([[14, 30, 34, 50], [16, 32, 32, 48]])
    large, small = found.places.tolist()
    assert large == small + 1
    assert found.wins.tolist() == [True, True]
    # Around it too, 12 x 12 of the small one, and 28 x 28 of the large one (400 / 784) in a coarse
    # cell whose middle is elsewhere: not.
    assert ignored(found) == [small - 1]


def test_of_two_with_the_same_prior_the_last_wins() -> None:
    found = assigned([[16, 32, 32, 48], [60, 8, 64, 12], [17, 33, 33, 49]])
    assert found.places[0] == found.places[2] != found.places[1]
    assert found.wins.tolist() == [False, True, True]


def test_without_objects_nothing_is_ignored() -> None:
    found = assigned([])
    assert len(found.places) == len(found.wins) == 0
    assert ignored(found) == []


def test_an_object_at_the_edge_has_the_last_cell() -> None:
    found = assigned([[94, 62, 98, 66], [-2, -2, 2, 2]])
    assert found.places.tolist() == [(7 * 12 + 11) * 3, 0]


def slow(boxes: list[list[float]]) -> tuple[list[int], list[int]]:
    """Each object's prior, and the ignored ones."""
    places = []
    for x1, y1, x2, y2 in boxes:
        width, height = x2 - x1, y2 - y1
        overlaps = []
        for side in SIDES:
            both = min(width, side) * min(height, side)
            overlaps.append(both / (width * height + side * side - both))
        best = overlaps.index(max(overlaps))
        level, stride = best // 3, 8 * 2 ** (best // 3)
        row, column = int((y1 + y2) / 2 // stride), int((x1 + x2) / 2 // stride)
        places.append(BEFORE[level] + (row * SHAPES[level][1] + column) * 3 + best % 3)
    near = []
    for level, (rows, columns) in enumerate(SHAPES):
        stride = 8 * 2**level
        for row in range(rows):
            for column in range(columns):
                for which in range(3):
                    half = SIDES[level * 3 + which] / 2
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    prior = [x - half, y - half, x + half, y + half]
                    number = BEFORE[level] + (row * columns + column) * 3 + which
                    if number not in places and any(iou(prior, box) > 0.5 for box in boxes):
                        near.append(number)
    return places, near


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("seed", range(20))
def test_as_a_plain_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    where = torch.rand(6, 4, generator=generator)
    # Sides from 3 to 60, spread evenly over their logarithms.
    sides = 3 * torch.exp(where[:, 2:] * math.log(20))
    middles = where[:, :2] * torch.tensor([96.0, 64.0])
    boxes = torch.cat([middles - sides / 2, middles + sides / 2], dim=1).tolist()
    places, near = slow(boxes)
    found = assigned(boxes)
    assert found.places.tolist() == places
    assert ignored(found) == near
    last = {place: number for number, place in enumerate(places)}
    assert found.wins.tolist() == [last[place] == n for n, place in enumerate(places)]
