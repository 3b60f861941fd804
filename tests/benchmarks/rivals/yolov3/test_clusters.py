"""The priors' shapes: clusters made by hand are found, by overlap and not by length."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rivals.yolov3.clusters import cluster, distances


def around(width: float, height: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Sizes whose mean is this one to the digit."""
    apart = rng.uniform(-0.05, 0.05, (count, 2))
    return np.array([width, height]) * (1 + apart - apart.mean(axis=0))


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_found_smallest_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # The second and third have one area, the last is ten times the first.
    middles = [(10, 12), (40, 20), (20, 40), (100, 120)]
    sizes = np.concatenate([around(*middle, 30, rng) for middle in middles[::-1]])
    found = cluster(rng.permutation(sizes), 4, seed)
    assert np.all(np.diff(found.prod(axis=1)) > -1e-6)
    assert sorted(found.tolist()) == pytest.approx(
        [pytest.approx(middle) for middle in sorted(middles)]
    )


def test_one_cluster_is_the_mean() -> None:
    assert cluster(np.array([[2.0, 4], [4, 2], [6, 6]]), 1).tolist() == [[4, 4]]


def test_the_distance_is_1_less_the_overlap() -> None:
    sizes, centres = np.array([[2.0, 4], [3, 3]]), np.array([[4.0, 2], [2, 4], [6, 6]])
    # 2x4 and 4x2 share 2x2 of 8 + 8 - 4; 2x4 lies in 6x6.
    assert distances(sizes, centres)[0] == pytest.approx([1 - 4 / 12, 0, 1 - 8 / 36])
    assert distances(sizes, centres)[1] == pytest.approx([1 - 6 / 11, 1 - 6 / 11, 1 - 9 / 36])


def test_large_boxes_do_not_err_more_than_small_ones() -> None:
    # By length the two large ones, ten apart, would be two clusters and the small ones one.
    sizes = np.array([[2.0, 2]] * 5 + [[4.0, 4]] * 5 + [[95.0, 95]] * 5 + [[105.0, 105]] * 5)
    assert cluster(sizes, 3).tolist() == [[2, 2], [4, 4], [100, 100]]


def test_the_unit_does_not_matter_nor_does_chance() -> None:
    sizes = np.random.default_rng(0).uniform(5, 200, (300, 2))
    found = cluster(sizes, 9)
    assert found.shape == (9, 2)
    np.testing.assert_allclose(cluster(sizes * 8, 9), found * 8)
    assert (cluster(sizes, 9) == found).all()
    # Nine fit better than five, these better than one, and each of them is some boxes' nearest.
    errors = [distances(sizes, cluster(sizes, k)).min(axis=1).mean() for k in (1, 5, 9)]
    assert errors[0] > 1.2 * errors[1] > 1.2**2 * errors[2]
    assert set(distances(sizes, found).argmin(axis=1)) == set(range(9))


def test_fewer_different_boxes_than_clusters() -> None:
    sizes = np.array([[10.0, 20], [30, 30], [10, 20]])
    found = cluster(sizes, 9)
    assert {tuple(size) for size in found.tolist()} == {(10, 20), (30, 30)}
    assert len(found) == 9
