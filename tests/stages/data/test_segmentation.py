"""Outlines: drawn as COCO's own code draws them, and refused where that code would trust them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from stages.data.segmentation import (
    draw_segmentations,
    polygons_of,
    run_lengths_of,
    uncompressed,
)

# Four columns of three: down the first column, then down the next.
MASK = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]], bool)
COUNTS = [3, 2, 1, 3, 3]


def runs(counts: Any, height: int = 3, width: int = 4) -> dict[str, Any]:
    return {"size": [height, width], "counts": counts}


# ------------------------------------------------------------------ drawing


def test_a_rectangle_covers_its_pixels() -> None:
    (polygon,) = polygons_of([[2, 1, 5, 1, 5, 3, 2, 3]], 8, 6)
    (mask,) = draw_segmentations([(polygon,)], 8, 6)
    expected = np.zeros((6, 8), bool)
    expected[1:3, 2:5] = True
    assert (mask == expected).all()


def test_parts_of_an_object_are_one_mask() -> None:
    polygons = polygons_of([[0, 0, 2, 0, 2, 2, 0, 2], [5, 3, 8, 3, 8, 6, 5, 6]], 8, 6)
    (mask,) = draw_segmentations([polygons], 8, 6)
    expected = np.zeros((6, 8), bool)
    expected[:2, :2] = expected[3:, 5:] = True
    assert (mask == expected).all()


def test_run_lengths_by_hand() -> None:
    (mask,) = draw_segmentations([run_lengths_of(runs(COUNTS), 4, 3)], 4, 3)
    assert mask.dtype == bool
    assert (mask == MASK).all()


def test_outlines_of_all_kinds_together() -> None:
    outlines = [
        run_lengths_of(runs(COUNTS), 4, 3),
        (),
        polygons_of([[0, 0, 4, 0, 4, 3, 0, 3]], 4, 3),
    ]
    masks = draw_segmentations(outlines, 4, 3)
    assert masks.shape == (3, 3, 4)
    assert (masks[0] == MASK).all()
    assert not masks[1].any()
    assert masks[2].all()
    assert draw_segmentations([], 4, 3).shape == (0, 3, 4)


@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_run_lengths_come_back_as_the_mask(mask: np.ndarray) -> None:
    height, width = mask.shape
    compressed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    # A plain reference for the reader of the compressed string.
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    lengths = np.diff([0, *edges, flat.size]).tolist()
    assert uncompressed(compressed) == lengths
    for counts in (compressed, lengths):
        outline = run_lengths_of(runs(counts, height, width), width, height)
        assert (draw_segmentations([outline], width, height)[0] == mask).all()


@given(st.lists(st.floats(-8, 56, allow_nan=False), min_size=6, max_size=30))
def test_polygons_are_drawn_as_coco_draws_them(numbers: list[float]) -> None:
    polygon = numbers[: len(numbers) // 2 * 2]
    expected = coco.decode(coco.merge(coco.frPyObjects([polygon], 40, 48))).astype(bool)
    assert (draw_segmentations([polygons_of([polygon], 48, 40)], 48, 40)[0] == expected).all()


# ------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("polygons", "fault"),
    [
        (["a"], "not a list of numbers"),
        ([[0, 0, 1, 0, 1, "1"]], "not a list of numbers"),
        ([[0, 0, 1, 0, 1, None]], "not a list of numbers"),
        ([[0, 0, 1, 0, 1, True]], "not a list of numbers"),
        ([1, 2, 3, 4, 5, 6], "not a list of numbers"),  # one polygon, not a list of them
        ([[0, 0, 1, 0, 1, 1, 0]], "7 numbers"),
        ([[0, 0, 1, 0, float("nan"), 1]], "far outside"),
        ([[0, 0, 1, 0, float("inf"), 1]], "far outside"),
        ([[0, 0, 1, 0, 1e9, 1]], "far outside"),
        ([[0, 0, 1, 0, -17, 1]], "far outside"),
        ([[0, 0, 1, 0, 10**400, 1]], "too large"),
    ],
)
def test_what_is_no_polygon(polygons: list[Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        polygons_of(polygons, 8, 6)


def test_an_outline_that_goes_to_and_fro_for_ever_is_refused() -> None:
    """pycocotools would keep every fifth of a pixel of it: gigabytes."""
    zigzag = [0, 0, 1000, 500]
    assert len(polygons_of([zigzag * 400], 1000, 500)) == 1
    with pytest.raises(ValueError, match="an outline of 2000000 pixels' length"):
        polygons_of([zigzag * 1000], 1000, 500)
    with pytest.raises(ValueError, match="an outline of"):
        polygons_of([zigzag * 400] * 3, 1000, 500)
    # Long, but each of its many lines is short.
    circle = np.stack([np.cos(angles := np.linspace(0, 6.28, 5000)), np.sin(angles)], 1)
    assert len(polygons_of([(400 * circle + 450).ravel().tolist()], 1000, 1000)) == 1


def test_less_than_three_points_are_no_polygon() -> None:
    assert polygons_of([[1, 1], [1, 1, 5, 5], []], 8, 6) == ()
    kept = polygons_of([[1, 1, 5, 5], [0, 0, 4, 0, 4, 4]], 8, 6)
    assert [polygon.tolist() for polygon in kept] == [[0, 0, 4, 0, 4, 4]]


def test_run_lengths_of_more_pixels_than_pycocotools_counts() -> None:
    runs_of_all = {"size": [2**16, 2**16], "counts": [2**32]}
    with pytest.raises(ValueError, match="more than pycocotools counts"):
        run_lengths_of(runs_of_all, 2**16, 2**16)


@pytest.mark.parametrize(
    ("given_runs", "fault"),
    [
        ({}, "of size None"),
        (runs(COUNTS, 4, 3), "of size"),
        (runs([12], 2, 6), "of size"),
        (runs(None), "neither a string nor"),
        (runs([3, 2.0, 7]), "neither a string nor"),
        (runs([3, True, 8]), "neither a string nor"),
        (runs([]), "of 0 pixels"),
        (runs([3, 2, 1, 3, 4]), "of 13 pixels"),
        (runs([3, 2, 1, 3]), "of 9 pixels"),
        (runs([15, -3]), "of 12 pixels"),
        (runs([2**40]), "pixels"),
        (runs(""), "damaged"),
        (runs(" ;"), "damaged"),
        (runs("~~"), "damaged"),
        (runs("é"), "damaged"),
        (runs("\ud800"), "damaged"),
        (runs("3P"), "damaged"),  # the last number goes on, beyond the end
        (runs("PPPPPPPPPPPPPPPP0"), "damaged"),  # a number of eighty bits
        (runs("oooo0"), "pixels"),
        (runs("@"), "of -16 pixels"),
    ],
)
def test_what_are_no_run_lengths(given_runs: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        run_lengths_of(given_runs, 4, 3)


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12))
def test_any_string_is_refused_or_is_a_mask_of_that_size(counts: str) -> None:
    try:
        outline = run_lengths_of(runs(counts), 4, 3)
    except ValueError:
        return
    assert draw_segmentations([outline], 4, 3).shape == (1, 3, 4)


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5])
def test_an_object_of_many_parts(parts: int) -> None:
    """Seen behind bars: its mask is all of them, where two overlap once."""
    apart = [[10 * i, 5, 10 * i + 6, 5, 10 * i + 6, 11, 10 * i, 11] for i in range(parts)]
    (mask,) = draw_segmentations([polygons_of(apart, 60, 20)], 60, 20)
    assert mask.sum() == 36 * parts
    again = [*apart, apart[0]]
    assert (draw_segmentations([polygons_of(again, 60, 20)], 60, 20)[0] == mask).all()
