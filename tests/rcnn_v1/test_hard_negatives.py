"""The hardest negatives: what is kept, from whatever is in the cache, an image at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rcnn_v1.hard_negatives import KEPT, HardNegatives, find_hard_negatives
from rcnn_v1.svm import negatives_of
from stages.proposals.windows import windows_of
from stages.store import Artifact, Job

Make = Callable[..., Any]
LEFT, RIGHT, FAR = [0, 0, 10, 10], [20, 20, 40, 40], [45, 30, 60, 48]


def find(
    folder: Path, data: Any, rows: Sequence[np.ndarray], weights: Any, bias: Any, scale: float = 1
) -> HardNegatives:
    """What is found in a cache that holds `rows` of each image."""
    cache = folder / "cache"
    (cache / "features").mkdir(parents=True)
    width = np.shape(weights)[1]
    with h5py.File(cache / "features" / "0000000.h5", "w") as file:
        file["features"] = np.concatenate([r.reshape(-1, width) for r in rows]).astype(np.float16)
        file["offsets"] = np.cumsum([0, *map(len, rows)])
    svms = folder / "svms.npz"
    np.savez(svms, weights=np.array(weights), bias=np.array(bias), scale=np.float32(scale))
    stages = Artifact(cache, "cache"), Artifact(folder, "svms")
    find_hard_negatives(Job(folder), data, data.proposals, *stages, None, 0.3)
    return HardNegatives.load(folder)


def test_by_hand(toy_of: Make, tmp_path: Path) -> None:
    # Image 0: a cat at LEFT, and two proposals elsewhere; image 1: nothing but a proposal.
    data = toy_of([[LEFT], []], [[1], []], [[RIGHT, FAR], [FAR]])
    # One feature. The cats' SVM likes it, the dogs' does not, the third has a bias alone.
    rows = [np.array([[9.0], [2], [3]]), np.array([[5.0]])]
    found = find(tmp_path, data, rows, [[1.0], [-1], [0]], [0.0, 0, 7], scale=2)
    # Of cats: the cat itself is no negative; image 1's window, then the better of image 0's.
    assert found.scores[:3, 0].tolist() == [10, 6, -np.inf]
    assert found.images[:2, 0].tolist() == [1, 0]
    assert found.boxes[:2, 0].tolist() == [FAR, FAR]
    # Of dogs the cat is a negative, but the other window scores higher: -4, not -6 or -18.
    assert found.scores[:2, 1].tolist() == [-4, -10]
    assert found.boxes[:2, 1].tolist() == [RIGHT, FAR]
    # Equal ones in the order of images, then of windows.
    assert found.scores[:2, 2].tolist() == [7, 7]
    assert found.boxes[:2, 2].tolist() == [LEFT, FAR]


def test_as_all_at_once(toy: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    windows = [windows_of(record, toy.reader, None) for record in toy.train]
    rows = [rng.normal(size=(len(boxes), 4)).astype(np.float16) for boxes in windows]
    weights, bias = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=3)
    found = find(tmp_path, toy, rows, weights, bias.astype(np.float32))
    assert found.scores.shape == (KEPT, 3)
    for k in range(3):
        best = []
        for record, boxes, features in zip(toy.train, windows, rows, strict=True):
            scores = features.astype(np.float64) @ weights[k] + bias[k]
            negative = np.flatnonzero(negatives_of(record, boxes, 3, 0.3)[:, k])
            if len(negative):
                best.append((*max((scores[i], i) for i in negative), boxes, record))
        best.sort(key=lambda item: -item[0])
        np.testing.assert_allclose(found.scores[:, k], [s for s, *_ in best][:KEPT], rtol=1e-5)
        for n, (_, i, boxes, record) in enumerate(best[:KEPT]):
            assert found.boxes[n, k].tolist() == boxes[i].tolist()
            assert toy.train[found.images[n, k]] is record


@pytest.mark.parametrize("images", [0, 1])
def test_without_any_window(toy_of: Make, tmp_path: Path, images: int) -> None:
    data = toy_of([[LEFT], *[[]] * images], [[1], *[[]] * images], [[]] * (1 + images))
    rows = [np.ones((1, 2)), *[np.zeros((0, 2))] * images]
    found = find(tmp_path, data, rows, np.ones((3, 2)), np.zeros(3))
    # Of cats there is no negative; of the others, the cat.
    assert np.isfinite(found.scores).sum(axis=0).tolist() == [0, 1, 1]
