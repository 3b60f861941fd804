"""Selective search's hierarchy: which regions become one, and in what order."""

from __future__ import annotations

import numpy as np
import pytest

from notebooks.hierarchy import Hierarchy, group, segment

RED, BLUE, DARK_BLUE, GREEN = (220, 40, 30), (40, 60, 200), (38, 40, 200), (40, 220, 60)


def stripes(*parts: tuple[tuple[int, int, int], int]) -> Hierarchy:
    """Of an image 30 pixels high, of upright stripes of (colour, width), each a region."""
    image = np.concatenate(
        [np.full((30, width, 3), colour, np.uint8) for colour, width in parts], 1
    )
    numbers = np.repeat(np.arange(len(parts)), [width for _, width in parts])
    return group(image, np.tile(numbers, (30, 1)))


@pytest.fixture(scope="module")
def blobs() -> Hierarchy:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(10, axis=0).repeat(10, axis=1)
    return group(image, segment(image))


def test_neighbours_alike_in_colour_merge_first() -> None:
    hierarchy = stripes((RED, 30), (BLUE, 30), (DARK_BLUE, 30), (RED, 30))
    assert hierarchy.merges[0].tolist() == [1, 2]
    left, middle, right, last = hierarchy.at(3)[0, [0, 40, 70, 100]]
    assert middle == right and len({left, middle, last}) == 3
    np.testing.assert_allclose(hierarchy.boxes[4], [30, 0, 90, 30])


def test_what_is_apart_does_not_merge_however_alike() -> None:
    hierarchy = stripes((RED, 30), (BLUE, 30), (RED, 30))
    assert 1 in hierarchy.merges[0]


def test_small_regions_merge_before_large_ones() -> None:
    hierarchy = stripes((RED, 60), (BLUE, 60), (GREEN, 6), ((0, 0, 0), 6))
    assert hierarchy.merges[0].tolist() == [2, 3]


def test_regions_that_fill_a_box_merge_before_those_that_do_not() -> None:
    segments = np.zeros((60, 60), int)
    # Three squares in a row, the last a little lower; all else is as far apart from them.
    segments[25:35, 30:40], segments[20:30, 20:30], segments[20:30, 10:20] = 1, 2, 3
    hierarchy = group(np.zeros((60, 60, 3), np.uint8), segments)
    assert hierarchy.merges[0].tolist() == [2, 3]


def test_every_merge_leaves_one_region_less(blobs: Hierarchy) -> None:
    n = len(blobs.merges) + 1
    assert n > 20
    for left in (n, n - 1, n // 2, 2, 1):
        assert len(np.unique(blobs.at(left))) == left


def test_levels_are_nested(blobs: Hierarchy) -> None:
    n = len(blobs.merges) + 1
    for left in range(n, 1, -5):
        fine, coarse = blobs.at(left), blobs.at(max(left - 5, 1))
        pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
        assert len(pairs.T) == left  # each of the finer regions lies in one of the coarser


def test_boxes_are_around_their_regions(blobs: Hierarchy) -> None:
    for left in (len(blobs.merges) + 1, 20, 7, 1):
        regions = blobs.at(left)
        for region in np.unique(regions):
            rows, columns = np.nonzero(regions == region)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(blobs.boxes[region], box)


def test_an_image_of_one_colour_is_one_region() -> None:
    image = np.full((30, 60, 3), BLUE, np.uint8)
    hierarchy = group(image, segment(image))
    assert hierarchy.merges.shape == (0, 2)
    assert not hierarchy.at(1).any()
    np.testing.assert_allclose(hierarchy.boxes, [[0, 0, 60, 30]])


def test_numbers_of_segments_may_have_gaps() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    hierarchy = group(image, np.repeat([[7] * 10 + [3] * 10], 10, axis=0))
    assert hierarchy.at(2)[0, [0, 19]].tolist() == [1, 0]
    assert len(hierarchy.boxes) == 3


def test_larger_scales_segment_more_coarsely() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(100, 156, (60, 80, 3), dtype=np.uint8)
    few, many = (len(np.unique(segment(image, scale))) for scale in (600.0, 20.0))
    assert 1 <= few < many
