"""The harness's ratios: real rates of the real stages, in turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.rates import feature_rate, few, search_speedup
from stages.data.load import DataConfig, load_data
from stages.data.records import Dataset
from stages.data.shapes import ShapesConfig
from stages.store import Store


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    config = DataConfig(shapes=ShapesConfig(train=3, test=1, width=96, height=64))
    return load_data(config, Store(tmp_path_factory.mktemp("store")))


def test_so_many_images_of_few(data: Dataset) -> None:
    ids = [record.image_id for record in few(data, 7).train]
    first = [record.image_id for record in data.train]
    assert ids == [*first, *first, first[0]]


def test_features_are_held_against_the_bare_network(data: Dataset, tmp_path: Path) -> None:
    rate = feature_rate(data, "tiny", "cpu", 0, tmp_path / "scratch", seconds=0.02)
    assert rate["ratio"] == pytest.approx(rate["stage_rate"] / rate["bare_rate"])
    assert 0 < rate["ratio"] < 2
    assert rate["bare_rate"] > 10
    assert list(tmp_path.iterdir()) == []


def test_selective_search_by_one_and_by_two(data: Dataset) -> None:
    rate = search_speedup(data, seconds=0.1)
    assert rate["ratio"] == pytest.approx(rate["two"] / rate["one"])
    assert rate["one"] > 0
