"""From which score on detections are shown: by counts, worked by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

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


def test_a_class_rarer_than_one_in_the_test_split_shows_its_best() -> None:
    # One b in 100 training images: of two test images, a fiftieth. Rounded, it never was shown.
    train = [record(str(i), [1] * 3) for i in range(99)] + [record("b", [2])]
    data = Data(train, [record("0", []), record("1", [])])
    found = {"0": detections([2, 2], [0.75, 0.5]), "1": detections([2, 1], [0.875, 0.25])}
    assert usual_scores(data, found).tolist() == [0.25, 0.875, np.inf]


@pytest.mark.parametrize(
    ("objects", "images", "shown"), [(3, 10, 3), (1, 3, 4), (1, 10, 1), (7, 5, 14)]
)
def test_rates_are_counted_exactly(objects: int, images: int, shown: int) -> None:
    # In floats 3 / 10 * 10 is 3, but 0.1 * 3 * 10 is more.
    train = [record(str(i), []) for i in range(images - 1)] + [record("x", [1] * objects)]
    data = Data(train, [record(str(i), []) for i in range(10)])
    scores = np.arange(20, dtype=float)
    assert usual_scores(data, {"0": detections([1] * 20, scores.tolist())})[0] == 20 - shown


# Margins of SVMs and probabilities alike, with equal ones among them.
SCORES = st.lists(st.sampled_from([-2.5, -1.0, -0.25, 0.0, 0.125, 0.5, 0.75, 1.0, 3.0]), max_size=6)


@st.composite
def splits(draw: st.DrawFn) -> tuple[Data, dict[str | int, dict[str, np.ndarray]]]:
    train = draw(st.lists(st.integers(0, 3), min_size=1, max_size=12))
    test = draw(st.lists(SCORES, min_size=1, max_size=8))
    data = Data(
        [record(f"t{i}", [1] * n) for i, n in enumerate(train)],
        [record(str(i), []) for i in range(len(test))],
        ("a",),
        (1,),
    )
    return data, {str(i): detections([1] * len(s), s) for i, s in enumerate(test) if s}


def part(data: Data, found: Any, places: range) -> tuple[Data, Any]:
    names = [str(i) for i in places]
    kept = {name: found[name] for name in names if name in found}
    return Data(data.train, [data.test[i] for i in places], ("a",), (1,)), kept


def count(found: Any, least: float) -> int:
    return sum(int((of_image["scores"] >= least).sum()) for of_image in found.values())


@settings(max_examples=200, deadline=None)
@given(splits(), st.integers(2, 4))
def test_the_same_split_several_times_over_has_the_same_scores(made: Any, times: int) -> None:
    data, found = made
    n = len(data.test)
    many = Data(data.train, [record(str(i), []) for i in range(times * n)], ("a",), (1,))
    again = {
        str(i + n * k): found[str(i)] for i in range(n) for k in range(times) if str(i) in found
    }
    assert usual_scores(many, again).tolist() == usual_scores(data, found).tolist()


@settings(max_examples=200, deadline=None)
@given(splits())
def test_it_is_the_highest_score_that_shows_the_rate(made: Any) -> None:
    data, found = made
    (least,) = usual_scores(data, found)
    rate = sum(len(r.labels) for r in data.train) / len(data.train)
    images, total = len(data.test), count(found, -np.inf)
    if rate == 0 or total == 0:
        assert least == np.inf
        return
    shown, surer = count(found, least), count(found, np.nextafter(least, np.inf))
    assert shown >= 1
    assert shown >= rate * images - 1e-9 or shown == total
    assert surer < rate * images - 1e-9 or surer == 0


@settings(max_examples=200, deadline=None)
@given(splits())
def test_that_of_a_split_lies_between_those_of_its_halves(made: Any) -> None:
    data, found = made
    n = len(data.test)
    assume(n % 2 == 0)
    halves = [part(data, found, places) for places in (range(n // 2), range(n // 2, n))]
    rate = sum(len(r.labels) for r in data.train) / len(data.train)
    # A half that reports less than the rate shows all that it has.
    assume(all(count(of_half, -np.inf) >= rate * n / 2 for _, of_half in halves))
    low, high = sorted(float(usual_scores(*half)[0]) for half in halves)
    assert low <= usual_scores(data, found)[0] <= high
