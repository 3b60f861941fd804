"""The training windows of small images, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.proposals.windows import training_windows, windows_of

LEFT, RIGHT = [0, 0, 10, 10], [20, 20, 40, 40]
Make = Callable[..., Any]


def test_by_hand(toy_of: Make) -> None:
    half_of_left, half_of_right, nowhere = [0, 0, 10, 5], [20, 20, 40, 30], [45, 0, 55, 10]
    across = [5, 0, 15, 10]  # a third of its union with the left one
    data = toy_of([[LEFT, RIGHT]], [[2, 1]], [[half_of_right, nowhere, across, half_of_left]])
    windows = training_windows(data.train, data.reader, None)
    # Ground truth first, then proposals as they are ranked.
    expected = [LEFT, RIGHT, half_of_right, nowhere, across, half_of_left]
    assert windows.boxes.tolist() == expected
    assert windows.overlap.tolist() == pytest.approx([1, 1, 0.5, 0, 1 / 3, 0.5])
    met = windows.overlap > 0
    assert windows.label[met].tolist() == [2, 1, 1, 2, 2]
    assert windows.gt[met].tolist() == [0, 1, 1, 0, 0]
    assert windows.image.tolist() == [0] * 6
    assert windows.boxes.dtype == windows.overlap.dtype == np.float32
    assert windows.image.dtype == windows.label.dtype == windows.gt.dtype == np.int64


def test_the_best_of_two_objects_counts(toy_of: Make) -> None:
    data = toy_of([[LEFT, [0, 0, 10, 8]]], [[1, 2]], [[[0, 0, 10, 7]]])
    windows = training_windows(data.train, data.reader, None)
    assert windows.overlap[2] == pytest.approx(7 / 8)
    assert (windows.label[2], windows.gt[2]) == (2, 1)
    # An object's own box is its own, however near another is.
    assert windows.gt[:2].tolist() == [0, 1]


def test_only_the_best_ranked(toy_of: Make) -> None:
    proposals = [[0, 0, 20, 20 + n] for n in range(5)]
    data = toy_of([[LEFT]], [[1]], [proposals])
    windows = training_windows(data.train, data.reader, 2)
    assert windows.boxes.tolist() == [LEFT, *proposals[:2]]
    assert windows_of(data.train[0], data.reader, 2).tolist() == windows.boxes.tolist()
    assert windows_of(data.train[0], data.reader, None).tolist() == [LEFT, *proposals]


def test_a_crowd_is_no_object(toy_of: Make) -> None:
    data = toy_of([[LEFT, RIGHT]], [[1, 2]], [[LEFT, RIGHT]], crowd=[[True, False]])
    windows = training_windows(data.train, data.reader, None)
    assert windows.boxes.tolist() == [RIGHT, LEFT, RIGHT]
    assert windows.overlap.tolist() == [1, 0, 1]
    # Indices are the record's own, crowds counted.
    assert windows.gt[[0, 2]].tolist() == [1, 1]
    assert windows.label[[0, 2]].tolist() == [2, 2]


def test_only_a_crowd_is_an_image_without_objects(toy_of: Make) -> None:
    data = toy_of([[LEFT]], [[1]], [[LEFT]], crowd=[[True]])
    windows = training_windows(data.train, data.reader, None)
    assert windows.boxes.tolist() == [LEFT]
    assert (windows.overlap[0], windows.label[0]) == (0, 0)


def test_difficult_objects_are_objects(toy_of: Make) -> None:
    data = toy_of([[LEFT]], [[1]], [[]])
    data.train[0].difficult[:] = True
    assert training_windows(data.train, data.reader, None).overlap.tolist() == [1]


def test_images_without_objects_or_proposals(toy_of: Make) -> None:
    data = toy_of([[], [LEFT], [], [RIGHT]], [[], [1], [], [2]], [[RIGHT], [], [], [LEFT]])
    windows = training_windows(data.train, data.reader, None)
    assert windows.image.tolist() == [0, 1, 3, 3]
    assert windows.boxes.tolist() == [RIGHT, LEFT, RIGHT, LEFT]
    assert windows.overlap.tolist() == [0, 1, 1, 0]
    assert windows.label[:3].tolist() == [0, 1, 2]
    assert windows_of(data.train[2], data.reader, None).shape == (0, 4)


def test_every_window_of_a_larger_set(toy: Any) -> None:
    windows = training_windows(toy.train, toy.reader, 5)
    assert (np.diff(windows.image) >= 0).all()
    for n, record in enumerate(toy.train):
        own = windows.image == n
        boxes = windows.boxes[own]
        objects = np.flatnonzero(~record.iscrowd)
        assert boxes[: len(objects)].tolist() == record.boxes[objects].tolist()
        assert len(boxes) == len(objects) + len(toy.reader.of(record, 5))
        for box, overlap, label, gt in zip(
            boxes, windows.overlap[own], windows.label[own], windows.gt[own], strict=True
        ):
            ious = [iou(box, record.boxes[i]) for i in objects]
            assert overlap == pytest.approx(max(ious, default=0), abs=1e-5)
            if overlap > 0:
                assert ious[list(objects).index(gt)] == pytest.approx(overlap, abs=1e-5)
                assert label == record.labels[gt]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, float(width)) * max(0.0, float(height))
    areas = sum(float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b))
    return both / (areas - both)
