"""The first images of a data set."""

from __future__ import annotations

import pytest

from stages.data.load import DataConfig, load_data
from stages.data.shapes import ShapesConfig
from stages.errors import InputError
from stages.store import Store

SHAPES = ShapesConfig(train=5, test=3, width=64, height=48)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"), "cpu", 0)


def test_the_first_of_each_split_and_all_classes(store: Store) -> None:
    whole = load_data(DataConfig(shapes=SHAPES), store)
    some = load_data(DataConfig(shapes=SHAPES, first=2), store)
    for part, all_of_it in ((some.train, whole.train), (some.test, whole.test)):
        assert [r.image_id for r in part] == [r.image_id for r in all_of_it[:2]]
    assert (some.classes, some.category_ids) == (whole.classes, whole.category_ids)


def test_more_than_there_are_is_all(store: Store) -> None:
    some = load_data(DataConfig(shapes=SHAPES, first=4), store)
    assert (len(some.train), len(some.test)) == (4, 3)


def test_another_number_is_another_data_set(store: Store) -> None:
    prints = {
        load_data(DataConfig(shapes=SHAPES, first=first), store).fingerprint
        for first in (None, 2, 3)
    }
    assert len(prints) == 3


@pytest.mark.parametrize("first", [0, -1])
def test_none_at_all_is_refused(store: Store, first: int) -> None:
    with pytest.raises(InputError, match=r"data\.first"):
        load_data(DataConfig(shapes=SHAPES, first=first), store)
