"""The box targets' mean and deviation, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fast_rcnn.targets import statistics
from stages.boxes import encode
from stages.proposals.windows import training_windows

Make = Callable[..., Any]
# 20 x 10 about (20, 15).
OBJECT = [10, 10, 30, 20]
FAR = [40, 30, 60, 48]


def of(data: Any, positive_iou: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    windows = training_windows(data.train, data.reader, None)
    return statistics(data.train, windows, len(data.classes), positive_iou)


def test_by_hand(toy_of: Make) -> None:
    # Its own box (0, 0, 0, 0); moved left by a tenth of its width; half as high again, from the top.
    moved, higher = [8, 10, 28, 20], [10, 10, 30, 25]
    data = toy_of([[OBJECT]], [[2]], [[moved, higher]])
    mean, std = of(data)
    x, y, h = [0, 0.1, 0], [0, 0, -2.5 / 15], [0, 0, -math.log(1.5)]
    assert mean.shape == std.shape == (3, 4)
    assert mean[1].tolist() == pytest.approx([sum(x) / 3, sum(y) / 3, 0, sum(h) / 3], abs=1e-6)
    for i, values in ((0, x), (1, y), (3, h)):
        centre = sum(values) / 3
        expected = math.sqrt(sum((v - centre) ** 2 for v in values) / 2)
        assert float(std[1, i]) == pytest.approx(expected, rel=1e-4)
    # No window changes its width: a deviation of nought would divide by nought.
    assert float(std[1, 2]) == pytest.approx(0.01)


def test_a_class_that_is_not_there_stays_as_it_is(toy_of: Make) -> None:
    data = toy_of([[OBJECT]], [[2]], [[[8, 10, 28, 20]]])
    mean, std = of(data)
    for k in (0, 2):
        assert mean[k].tolist() == [0] * 4
        assert std[k].tolist() == [1] * 4


def test_a_class_with_one_window_stays_as_it_is(toy_of: Make) -> None:
    mean, std = of(toy_of([[OBJECT]], [[1]], [[]]))
    assert mean[0].tolist() == [0] * 4
    assert std[0].tolist() == [1] * 4


def test_no_image_and_no_object(toy_of: Make) -> None:
    mean, std = of(toy_of([[]], [[]], [[FAR]]))
    assert mean.tolist() == [[0] * 4] * 3
    assert std.tolist() == [[1] * 4] * 3


def test_only_positives_count(toy_of: Make) -> None:
    half, less = [10, 10, 30, 15], [10, 10, 30, 14.9]
    data = toy_of([[OBJECT]], [[1]], [[half, less, FAR]])
    mean, _ = of(data)
    assert float(mean[0, 3]) == pytest.approx(math.log(2) / 2)
    # Another line, another mean.
    mean, _ = of(data, 0.4)
    assert float(mean[0, 3]) == pytest.approx((math.log(2) + math.log(10 / 4.9)) / 3)


def test_a_crowd_does_not_count(toy_of: Make) -> None:
    data = toy_of([[OBJECT, FAR]], [[1, 2]], [[[8, 10, 28, 20], FAR]], crowd=[[True, False]])
    mean, std = of(data)
    assert mean[0].tolist() == [0] * 4
    assert std[0].tolist() == [1] * 4
    # The record's own index is kept, crowds counted.
    assert mean[1].tolist() == [0] * 4
    assert std[1].tolist() == pytest.approx([0.01] * 4)


def test_each_class_and_each_image_has_its_own(toy_of: Make) -> None:
    left, right = [5, 10, 25, 20], [15, 10, 35, 20]
    data = toy_of([[OBJECT], [FAR], [OBJECT]], [[1], [3], [2]], [[left], [FAR], [right]])
    mean, std = of(data)
    assert mean[:, 0].tolist() == pytest.approx([0.125, -0.125, 0])
    assert std[2].tolist() == pytest.approx([0.01] * 4)


def test_normalised_by_them_the_targets_are_mean_0_and_variance_1(toy: Any) -> None:
    windows = training_windows(toy.train, toy.reader, None)
    mean, std = statistics(toy.train, windows, 3, 0.5)
    for k in (0, 1):
        rows = ((windows.label == k + 1) & (windows.overlap >= 0.5)).nonzero()[0]
        assert len(rows) > 20
        gt = torch.stack(
            [torch.from_numpy(toy.train[windows.image[r]].boxes[windows.gt[r]]) for r in rows]
        )
        targets = (encode(torch.from_numpy(windows.boxes[rows]), gt) - mean[k]) / std[k]
        torch.testing.assert_close(targets.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-4)
        torch.testing.assert_close(targets.var(dim=0), torch.ones(4), rtol=1e-3, atol=0)
    assert mean[2].tolist() == [0] * 4
