"""A data set without its difficult objects: in training they are gone, in the test they are as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stages.data.difficult import WithoutDifficult
from stages.proposals.windows import training_windows
from stages.store import describe

LEFT, RIGHT = [0, 0, 10, 10], [20, 20, 40, 40]
Make = Callable[..., Any]


def make(toy_of: Make) -> Any:
    """Two images; the first's left object is difficult, the second's too, and its right one a crowd."""
    data = toy_of(
        [[LEFT, RIGHT]] * 2, [[1, 2]] * 2, [[LEFT, RIGHT]] * 2, crowd=[[False] * 2, [False, True]]
    )
    for record in data.train:
        record.difficult[0] = True
    return data


def test_difficult_objects_do_not_train(toy_of: Make) -> None:
    data = make(toy_of)
    without = WithoutDifficult(data)
    assert [record.iscrowd.tolist() for record in without.train] == [[True, False], [True, True]]
    windows = training_windows(without.train, data.reader, None)
    assert windows.boxes.tolist() == [RIGHT, LEFT, RIGHT, LEFT, RIGHT]
    assert windows.overlap.tolist() == [1, 0, 1, 0, 0]
    assert windows.label[windows.overlap > 0].tolist() == [2, 2]


def test_all_else_is_as_it_was(toy_of: Make) -> None:
    data = make(toy_of)
    without = WithoutDifficult(data)
    for one, other in zip(without.train, data.train, strict=True):
        assert (one.image_id, one.path, one.width) == (other.image_id, other.path, other.width)
        assert one.boxes is other.boxes
        assert one.labels is other.labels
        assert one.difficult.tolist() == [True, False]
    assert (without.name, without.classes) == (data.name, data.classes)
    assert without.category_ids == data.category_ids


def test_the_data_itself_is_not_changed(toy_of: Make) -> None:
    data = make(toy_of)
    assert len(WithoutDifficult(data).train) == 2
    assert [record.iscrowd.tolist() for record in data.train] == [[False] * 2, [False, True]]


def test_what_is_made_of_it_is_another_artifact(toy_of: Make) -> None:
    data = make(toy_of)
    assert describe(WithoutDifficult(data)) != describe(data)
    assert WithoutDifficult(data).fingerprint != data.fingerprint
