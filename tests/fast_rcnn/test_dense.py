"""A grid of boxes: inside the image, of every size that fits, all over it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fast_rcnn.dense import ASPECTS, dense_boxes


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
