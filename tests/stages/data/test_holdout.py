"""Which images of the only split are held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.holdout import hold_out
from stages.data.records import Record
from stages.errors import InputError


def records_of(count: int) -> list[Record]:
    none = np.zeros(0, bool)
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return [
        Record(f"{n:04d}", Path(f"{n:04d}.jpg"), 9, 9, boxes, labels, none, none)
        for n in range(count)
    ]


def ids(records: Sequence[Record]) -> set[object]:
    return {record.image_id for record in records}


@given(
    st.integers(2, 60),
    st.lists(st.integers(0, 12), min_size=60, max_size=60),
    st.floats(0.05, 0.95),
    st.integers(0, 5),
)
def test_no_twin_is_on_both_sides(count: int, of_group: list[int], share: float, seed: int) -> None:
    records = records_of(count)
    groups = [[n for n in range(count) if of_group[n] == g] for g in range(12)]  # 12: alone
    twins = [group for group in groups if len(group) > 1]
    if len(twins) == 1 and len(twins[0]) == count:
        with pytest.raises(InputError, match="nothing can be held out"):
            hold_out(records, twins, share, seed)
        return
    train, test = hold_out(records, twins, share, seed)
    assert train and test
    assert [r.image_id for r in [*train, *test]] != [] and ids(train).isdisjoint(ids(test))
    assert ids(train) | ids(test) == ids(records)
    assert [r.image_id for r in train] == sorted(r.image_id for r in train)
    for group in twins:
        sides = {records[place].image_id in ids(test) for place in group}
        assert len(sides) == 1


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_about_the_share_is_held_out(share: float) -> None:
    train, test = hold_out(records_of(1000), [], share, 0)
    assert len(test) == 1000 * share
    assert len(train) == 1000 - len(test)


def test_an_image_that_comes_later_moves_none_of_many() -> None:
    before = ids(hold_out(records_of(100), [], 0.2, 0)[1])
    after = ids(hold_out(records_of(101), [], 0.2, 0)[1])
    assert len(before & after) >= 19


def test_a_scene_of_most_images_is_not_held_out() -> None:
    """A camera that never moves: its frames are one group."""
    train, test = hold_out(records_of(20), [range(15)], 0.2, 0)
    assert len(test) == 4
    assert len(train) == 16


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_divide(count: int) -> None:
    with pytest.raises(InputError, match="nothing can be held out"):
        hold_out(records_of(count), [], 0.2, 0)
