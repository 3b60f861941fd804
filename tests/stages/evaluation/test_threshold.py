"""From which score on detections are shown: by counts, worked by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.data.records import Record
from stages.evaluation.threshold import objects_of, usual_scores


def record(name: str, labels: list[int]) -> Record:
    n = len(labels)
    no = np.zeros(n, bool)
    boxes = np.tile(np.array([0, 0, 9, 9], np.float32), (n, 1))
    return Record(name, Path(name), 10, 10, boxes, np.array(labels, np.int64), no, no)


@dataclass
class Data:
    train: list[Record]
    test: list[Record]
    classes: tuple[str, ...] = ("a", "b", "c")
    category_ids: tuple[int, ...] = (1, 2, 3)
    name: str = "data"
    fingerprint: str = "data"
    extra: dict[str, Any] = field(default_factory=dict)


def detections(labels: list[int], scores: list[float]) -> dict[str, np.ndarray]:
    boxes = np.tile(np.array([0.0, 0, 9, 9]), (len(labels), 1))
    return {"boxes": boxes, "labels": np.array(labels), "scores": np.array(scores)}


def test_objects_of() -> None:
    assert objects_of([record("x", [3, 1]), record("y", [3])], 4).tolist() == [1, 0, 2, 0]
    assert objects_of([], 2).tolist() == [0, 0]


def test_as_many_an_image_as_in_training() -> None:
    # In training 1.5 objects of a and half of one of b to an image; never one of c.
    data = Data([record("t", [1, 1, 1, 2]), record("u", [])], [record("0", []), record("1", [])])
    found = {
        "0": detections([1, 1, 2, 3], [0.9, 0.1, -0.5, 1.0]),
        "1": detections([1, 1, 2], [0.7, 0.4, -0.2]),
    }
    # Two test images: three of a, one of b.
    assert usual_scores(data, found).tolist() == [0.4, -0.2, np.inf]


def test_fewer_detections_than_that_are_all_shown_and_none_is_no_error() -> None:
    data = Data([record("t", [1, 1, 1, 2])], [record("0", [])])
    assert usual_scores(data, {"0": detections([1], [0.3])}).tolist() == [0.3, np.inf, np.inf]
    assert usual_scores(data, {}).tolist() == [np.inf] * 3
