"""What a stage is named by: what it reads of a data set, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stages.data.difficult import training_split
from stages.data.parts import Images, TrainingSplit, fingerprint_of
from stages.data.records import Record

LEFT, RIGHT = [2.0, 2.0, 20.0, 20.0], [30.0, 20.0, 50.0, 44.0]
Make = Callable[..., Any]


@pytest.fixture
def record(toy_of: Make) -> Record:
    made: Record = toy_of([[LEFT, RIGHT]], [[1, 2]], [[LEFT]]).train[0]
    return made


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": "other"},
        {"content": "other"},
        {"width": 61},
        {"boxes": np.array([LEFT, [30.0, 20.0, 50.0, 45.0]], np.float32)},
        {"labels": np.array([1, 1])},
        {"difficult": np.array([True, False])},
        {"iscrowd": np.array([False, True])},
        {"mask_ids": np.array([1, 2])},
        {"segmentations": ((np.array(LEFT + RIGHT),), b"runs")},
        {"segmentations": (b"runs", b"more")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_a_training_reads_changes_its_name(record: Record, change: dict[str, Any]) -> None:
    changed = replace(record, **change)
    assert fingerprint_of([changed], ["a"]) != fingerprint_of([record], ["a"])
    assert fingerprint_of([replace(record)], ["a"]) == fingerprint_of([record], ["a"])


def test_order_number_and_classes_count(record: Record) -> None:
    other = replace(record, image_id="other")
    prints = {
        fingerprint_of(records, classes)
        for records in ([record], [record, other], [other, record])
        for classes in ([], ["a"], ["b"])
    }
    assert len(prints) == 9


def test_searches_are_of_pixels_alone(record: Record) -> None:
    corrected = replace(record, labels=np.array([2, 2]), difficult=np.array([True, False]))
    assert Images([corrected]).fingerprint == Images([record]).fingerprint
    edited = replace(record, content="edited")
    assert Images([edited]).fingerprint != Images([record]).fingerprint


def test_a_training_split_is_named_by_itself(toy_of: Make) -> None:
    data = toy_of([[LEFT, RIGHT]], [[1, 2]], [[LEFT]])
    split = TrainingSplit(data)
    assert (split.name, split.classes, split.category_ids) == ("toy", data.classes, (1, 2, 3))
    assert split.train is data.train
    assert not hasattr(split, "test")
    assert split.fingerprint == fingerprint_of(data.train, data.classes)


def test_difficult_objects_train_where_asked(toy_of: Make) -> None:
    data = toy_of([[LEFT, RIGHT]], [[1, 2]], [[LEFT]])
    data.train[0].difficult[0] = True
    with_them, without = training_split(data, True), training_split(data, False)
    assert with_them.train[0].iscrowd.tolist() == [False, False]
    assert without.train[0].iscrowd.tolist() == [True, False]
    assert with_them.fingerprint != without.fingerprint
