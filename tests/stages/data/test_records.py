"""Records: what has a mask, what is evaluated, and some of the objects alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.data.records import Record

OUTLINES = tuple((np.full(6, value, np.float64),) for value in range(4))


def record(n: int = 4, **more: Any) -> Record:
    return Record(
        image_id="a",
        path=Path("a.png"),
        width=9,
        height=9,
        boxes=np.arange(4 * n, dtype=np.float32).reshape(n, 4),
        labels=np.arange(1, n + 1),
        difficult=np.arange(n) == 0,
        iscrowd=np.arange(n) == 1,
        **more,
    )


@pytest.mark.parametrize(
    ("n", "more", "has_masks", "with_mask"),
    [
        (2, {}, False, [False, False]),
        (2, {"segmentations": OUTLINES[:2]}, True, [True, True]),
        (2, {"segmentations": (None, OUTLINES[1])}, True, [False, True]),
        (2, {"segmentations": (None, ())}, True, [False, True]),  # an empty mask is one
        (2, {"segmentations": (None, None)}, False, [False, False]),
        (0, {"segmentations": ()}, True, []),
        (0, {}, False, []),
        (2, {"mask_path": Path("m.png"), "mask_ids": np.array([1, 2])}, True, [True, True]),
    ],
)
def test_which_objects_have_a_mask(
    n: int, more: dict[str, Any], has_masks: bool, with_mask: list[bool]
) -> None:
    made = record(n, **more)
    assert made.has_masks is has_masks
    assert made.with_mask.dtype == bool
    assert made.with_mask.tolist() == with_mask


def test_evaluated_boxes_are_the_files_where_there_are_any() -> None:
    plain = record(1)
    assert plain.evaluated_boxes.dtype == np.float64
    assert plain.evaluated_boxes.tolist() == [[0, 1, 2, 3]]
    true = np.array([[-0.1, 1, 2, 3]])
    assert record(1, true_boxes=true).evaluated_boxes.tolist() == true.tolist()


@pytest.mark.parametrize("keep", [np.array([0, 2]), np.array([True, False, True, False])])
def test_some_of_the_objects_with_all_that_is_theirs(keep: np.ndarray) -> None:
    whole = record(
        mask_path=Path("m.png"),
        mask_ids=np.array([4, 5, 6, 7]),
        segmentations=(OUTLINES[0], OUTLINES[1], None, OUTLINES[3]),
        true_boxes=np.arange(16.0).reshape(4, 4) - 1,
        xywh=np.arange(16.0).reshape(4, 4) + 1,
        areas=np.array([1.0, 2, np.nan, 4]),
    )
    some = whole.only(keep)
    assert some.segmentations == (OUTLINES[0], None)
    apart = {"image_id", "path", "width", "height", "mask_path", "segmentations"}
    for name in {field.name for field in dataclasses.fields(Record)} - apart:
        expected = getattr(whole, name)[[0, 2]]
        assert np.array_equal(getattr(some, name), expected, equal_nan=name == "areas")
    for name in apart - {"segmentations"}:
        assert getattr(some, name) == getattr(whole, name)


def test_of_none_of_the_objects_nothing_is_left() -> None:
    bare = record(4, segmentations=OUTLINES).only(np.zeros(0, np.int64))
    assert bare.boxes.shape == (0, 4)
    assert bare.segmentations == ()
    assert record(2).only(np.array([1])).true_boxes is None
