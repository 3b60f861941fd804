"""A grid of boxes: inside the image, of every size that fits, all over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fast_rcnn import dense
from fast_rcnn.dense import (
    ASPECTS,
    closest_of,
    dense_boxes,
    dense_of,
    mix_in_dense,
    replace_by_dense,
)
from stages.data.records import Record
from stages.proposals.cache import Proposals
from stages.store import Artifact, Job
from tests.conftest import make_record


def test_by_hand() -> None:
    boxes = dense_boxes(20, 20, 10.0, 0.5, 1)
    squares = boxes[np.isclose(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])]
    # Squares of 10 at every 5 pixels: 0, 5, 10 on each axis.
    corners = {(x, y) for x in (0.0, 5.0, 10.0) for y in (0.0, 5.0, 10.0)}
    assert {tuple(box[:2]) for box in squares.tolist()} == corners


@given(
    st.integers(8, 300), st.integers(8, 300), st.floats(4, 60), st.floats(0.2, 1), st.integers(1, 4)
)
def test_inside_and_of_the_aspects(
    width: int, height: int, smallest: float, step: float, sizes: int
) -> None:
    boxes = dense_boxes(width, height, smallest, step, sizes)
    assert boxes.dtype == np.float32
    assert boxes.shape[1:] == (4,)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= width + 1e-3).all()
    assert (boxes[:, 3] <= height + 1e-3).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    aspects = sides[:, 0] / sides[:, 1]
    assert (np.abs(aspects[:, None] - np.array(ASPECTS)).min(axis=1) < 0.05).all()


def test_nothing_fits() -> None:
    assert dense_boxes(10, 10, 50.0, 0.5, 3).shape == (0, 4)


def sized(width: int, height: int) -> Record:
    record = make_record(Path("a.jpg"), [], [])
    return Record(
        *(record.image_id, record.path, width, height, record.boxes, record.labels),
        record.difficult,
        record.iscrowd,
    )


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (128, 96), (4000, 3000)])
def test_as_many_as_the_papers_on_any_size(size: tuple[int, int]) -> None:
    grid = dense_of(sized(*size))
    assert len(grid) == pytest.approx(45_000, rel=0.05)
    assert len(np.unique(grid, axis=0)) == len(grid)


def test_the_closest_by_hand() -> None:
    grid = np.array([[0, 0, 10, 10], [0, 0, 20, 20], [10, 10, 30, 30]], np.float32)
    boxes = np.array([[0, 0, 10, 13], [0, 0, 10, 20.5], [12, 12, 28, 28]], np.float32)
    # IoU with the first 100 / 130, with the second 130 / 400; then 100 / 205, 200 / 405.
    assert closest_of(boxes, grid).tolist() == grid[[0, 1, 2]].tolist()
    assert closest_of(boxes[:0], grid).shape == closest_of(boxes, grid[:0]).shape == (0, 4)


def test_the_closest_of_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (100, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1)
    grid = dense_boxes(60, 48, 6.0, 0.5, 5)
    whole = closest_of(boxes, grid)
    monkeypatch.setattr(dense, "PART", 7)
    assert closest_of(boxes, grid).tolist() == whole.tolist()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coarse grid."""
    monkeypatch.setattr(dense, "STEP", 0.5)


def mixed(toy: Any, folder: Path, top: int | None, count: int | None) -> Proposals:
    folder.mkdir()
    mix_in_dense(Job(folder), toy, toy.proposals, top, count)
    assert (folder / "recall.json").exists()
    return Proposals(folder / "proposals.h5")


@pytest.mark.usefixtures("few")
def test_dense_boxes_are_added_by_chance(toy: Any, tmp_path: Path) -> None:
    one, two, again, alone = (
        mixed(toy, tmp_path / name, top, count)
        for name, top, count in (
            ("one", 4, 50),
            ("two", 4, 120),
            ("again", 4, 50),
            ("alone", 0, None),
        )
    )
    added = []
    for record in toy.train:
        own, grid = toy.reader.of(record, 4), dense_of(record)
        found = one.of(record)
        assert found[: len(own)].tolist() == own.tolist()
        drawn = found[len(own) :]
        assert len(drawn) == 50
        rows = {tuple(row) for row in grid.tolist()}
        assert {tuple(row) for row in drawn.tolist()} <= rows
        assert len({tuple(row) for row in drawn.tolist()}) == 50
        assert again.of(record).tolist() == found.tolist()
        # More are more of the same.
        assert two.of(record)[: len(found)].tolist() == found.tolist()
        assert len(two.of(record)) == len(own) + 120
        # All there are, where more are asked for.
        assert {tuple(row) for row in alone.of(record).tolist()} == rows
        assert len(alone.of(record)) == len(grid)
        added.append(drawn.tolist())
    assert added[0] != added[1]  # images of one size, each by its own chance


@pytest.mark.usefixtures("few")
def test_every_proposal_is_replaced(toy: Any, tmp_path: Path) -> None:
    replace_by_dense(Job(tmp_path), toy, toy.proposals, 6)
    found = Proposals(tmp_path / "proposals.h5")
    for record in toy.train:
        own = toy.reader.of(record, 6)
        assert found.of(record).tolist() == closest_of(own, dense_of(record)).tolist()
        assert len(found.of(record)) == len(own)


def test_an_image_without_proposals(toy_of: Callable[..., Any], tmp_path: Path) -> None:
    data = toy_of([[]], [[]], [[]])
    replace_by_dense(Job(tmp_path), data, data.proposals, None)
    assert Proposals(tmp_path / "proposals.h5").of(data.train[0]).shape == (0, 4)
    assert isinstance(data.proposals, Artifact)
