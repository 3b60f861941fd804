"""The SVMs: who is a negative, what mining finds, and what the released code's numbers mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rcnn_v1.config import SVMConfig
from rcnn_v1.svm import ClassSVM, apart, mined_capacity, negatives_of, train_svms
from stages.errors import InputError
from stages.proposals.windows import windows_of
from stages.store import Artifact, Job

Make = Callable[..., Any]
LEFT, RIGHT = [0, 0, 10, 10], [20, 20, 40, 40]
FAR = [45, 30, 60, 48]


def train(folder: Path, data: Any, rows: list[np.ndarray], config: SVMConfig) -> dict[str, Any]:
    """Train on a cache that holds `rows` of each image."""
    cache = folder / "cache"
    (cache / "features").mkdir(parents=True, exist_ok=True)
    with h5py.File(cache / "features" / "0000000.h5", "w") as file:
        file["features"] = np.concatenate([r.reshape(-1, rows[0].shape[1]) for r in rows])
        file["offsets"] = np.cumsum([0, *map(len, rows)])
    train_svms(Job(folder), data, data.proposals, Artifact(cache, "cache"), None, config)
    with np.load(folder / "svms.npz") as svms:
        return dict(svms)


def objective(
    weights: np.ndarray, bias: float, positives: np.ndarray, negatives: np.ndarray, c: SVMConfig
) -> float:
    """What the SVM minimises, over all of the negatives."""
    lost = c.positive_weight * np.maximum(0, 1 - (positives @ weights + bias)).sum()
    lost += np.maximum(0, 1 + (negatives @ weights + bias)).sum()
    return float(0.5 * (weights @ weights + (bias / c.bias_scale) ** 2) + c.c * lost)


# Negatives -----------------------------------------------------------------------------------


def test_negatives_by_hand(toy_of: Make) -> None:
    data = toy_of([[LEFT, RIGHT]], [[1, 2]], [[]])
    windows = np.array(
        [
            LEFT,  # class 1's own
            RIGHT,  # class 2's own
            [0, 0, 10, 5],  # half of class 1's
            [0, 0, 10, 3],  # 0.3 of it: no longer a negative
            [0, 0, 10, 2.9],  # 0.29: a negative
            [20, 20, 40, 26.2],  # 0.31 of class 2's
            FAR,
        ],
        np.float32,
    )
    negative = negatives_of(data.train[0], windows, 3, 0.3)
    assert negative.dtype == bool
    assert negative.T.tolist() == [
        [False, True, False, False, True, True, True],
        [True, False, True, True, True, False, True],
        [True] * 7,  # of class 3 there is no object: all are negatives
    ]


def test_near_any_object_of_the_class_is_no_negative(toy_of: Make) -> None:
    data = toy_of([[LEFT, RIGHT, FAR]], [[1, 1, 2]], [[]])
    negative = negatives_of(data.train[0], np.array([LEFT, RIGHT, FAR], np.float32), 2, 0.3)
    assert negative[:, 0].tolist() == [False, False, True]
    assert negative[:, 1].tolist() == [True, True, False]


def test_an_image_without_objects_is_all_negatives(toy_of: Make) -> None:
    data = toy_of([[]], [[]], [[]])
    assert negatives_of(data.train[0], np.array([LEFT, FAR], np.float32), 2, 0.3).all()
    assert negatives_of(data.train[0], np.zeros((0, 4), np.float32), 2, 0.3).shape == (0, 2)


def test_the_crowd_is_no_negative(toy_of: Make) -> None:
    # A region of many of the class must not teach that the class is not there.
    data = toy_of([[LEFT]], [[1]], [[]], crowd=[[True]])
    assert not negatives_of(data.train[0], np.array([LEFT], np.float32), 1, 0.3)[0, 0]


# Negatives that lie on one another (SPPnet) ---------------------------------------------------

TEN = [0, 0, 10, 10]
ON_IT, UNDER_IT, BESIDE = [0, 0, 10, 8], [0, 2, 10, 10], [0, 5, 10, 15]  # 0.8, 0.8 and 1/3 of it


def test_of_negatives_that_overlap_the_hardest_stays() -> None:
    windows = np.array([TEN, FAR, ON_IT, BESIDE, UNDER_IT], np.float32)
    margins = np.array([0.5, -3, 0.7, 0.1, 0.6], np.float32)
    # The third rules the first out; the last overlaps the third by 6 / 10 only.
    assert apart(np.arange(5), windows, margins, 0.7).tolist() == [1, 2, 3, 4]
    assert apart(np.arange(5), windows, margins, 0.5).tolist() == [1, 2, 3]
    # Only those that join count.
    assert apart(np.array([0, 1, 4]), windows, margins, 0.7).tolist() == [1, 4]
    assert apart(np.array([], np.int64), windows, margins, 0.7).tolist() == []


def test_what_fell_out_rules_out_nothing() -> None:
    windows = np.array([ON_IT, TEN, UNDER_IT], np.float32)
    assert apart(np.arange(3), windows, np.array([3, 2, 1], np.float32), 0.7).tolist() == [0, 2]


def test_before_any_opinion_the_first_stays() -> None:
    windows = np.array([ON_IT, TEN, FAR, TEN], np.float32)
    assert apart(np.arange(4), windows, np.full(4, -1, np.float32), 0.7).tolist() == [0, 2]


def test_negatives_apart_are_an_images_and_a_classs_own(toy_of: Make, tmp_path: Path) -> None:
    # Two images alike: an object of classes 1 and 2, a pair of windows on one another far from both,
    # and a pair on class 1's object.
    pair, other = [[45, 0, 60, 15], [45, 0, 60, 14]], [[0, 0, 10, 10], [0, 0, 10, 9]]
    data = toy_of([[LEFT, RIGHT]] * 2, [[1, 2]] * 2, [pair + other] * 2)
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(6, 3)).astype(np.float16) for _ in range(2)]
    config = SVMConfig(hard_score=-1e9, easy_score=-1e9)  # all join, and stay
    every = train(tmp_path / "every", data, rows, config)
    # Class 1: class 2's object and the first pair. Class 2: class 1's and both pairs.
    assert every["negatives"].tolist() == [6, 10, 0]
    few = train(tmp_path / "few", data, rows, replace(config, negative_nms=0.7))
    # Of a pair one is left, and of those three on class 1's object.
    assert few["negatives"].tolist() == [4, 4, 0]


# One class -----------------------------------------------------------------------------------


def test_separable_classes_are_separated() -> None:
    rng = np.random.default_rng(0)
    direction = np.array([3.0, -2, 1, 0])
    positives, negatives = (
        (rng.normal(size=(60, 4)) + sign * 2 * direction).astype(np.float32) for sign in (1, -1)
    )
    svm = ClassSVM(positives, SVMConfig(c=1.0))
    svm.add(negatives)
    svm.train()
    assert ((positives @ svm.weights + svm.bias) > 0.9).all()
    assert ((negatives @ svm.weights + svm.bias) < -0.9).all()
    assert svm.trainings == 1


def test_a_training_minimises_what_the_released_code_does() -> None:
    # Not separable, and away from the origin, so that weight, bias and their prices matter.
    rng = np.random.default_rng(1)
    config = SVMConfig(c=0.05, easy_score=-1e9)
    positives = rng.normal((1.0, 0, 2), 1, (30, 3)).astype(np.float32)
    negatives = rng.normal((0, 0, 1.5), 1, (80, 3)).astype(np.float32)
    svm = ClassSVM(positives, config)
    svm.add(negatives)
    svm.train()
    best = objective(svm.weights, float(svm.bias), positives, negatives, config)
    for _ in range(200):
        step, shift = rng.normal(0, 0.02, 3), rng.normal(0, 0.02)
        other = objective(svm.weights + step, svm.bias + shift, positives, negatives, config)
        assert other > best * (1 - 1e-4)
    # Each of the prices shapes the solution.
    for changed in (
        replace(config, positive_weight=1.0),
        replace(config, bias_scale=0.1),
        replace(config, c=0.5),
    ):
        another = ClassSVM(positives, changed)
        another.add(negatives)
        another.train()
        assert objective(another.weights, another.bias, positives, negatives, config) > best * 1.001


def test_before_any_training_nothing_is_positive() -> None:
    svm = ClassSVM(np.ones((2, 3), np.float32), SVMConfig())
    assert (np.ones((5, 3), np.float32) @ svm.weights + svm.bias < 0).all()


def test_easy_negatives_leave_and_hard_ones_stay() -> None:
    positives = np.array([[2.0, 0]] * 4, np.float32)
    hard, easy = np.array([[0.0, 0]] * 4, np.float32), np.array([[-30.0, 0]] * 4, np.float32)
    svm = ClassSVM(positives, SVMConfig(c=1.0))
    svm.add(np.concatenate([hard, easy]))
    svm.train()
    assert svm.negatives.tolist() == hard.tolist()


def test_it_trains_anew_once_there_are_enough_new_ones() -> None:
    svm = ClassSVM(np.ones((2, 3), np.float32), SVMConfig(retrain_after=10, easy_score=-1e9))
    negatives = -np.ones((6, 3), np.float32)
    trainings = []
    for _ in range(5):
        svm.add(negatives)
        trainings.append(svm.trainings)
    assert trainings == [0, 1, 1, 2, 2]
    assert len(svm.negatives) == 30


# The stage -----------------------------------------------------------------------------------


def synthetic(toy_of: Make, n_images: int = 40) -> tuple[Any, list[np.ndarray]]:
    """Windows whose features tell class 1 from class 2 from nothing, not without mistakes."""
    rng = np.random.default_rng(2)
    objects = [[LEFT, RIGHT] if n % 2 else [LEFT] for n in range(n_images)]
    labels = [[1, 2] if n % 2 else [1 + n % 4 // 2] for n in range(n_images)]
    proposals = [[FAR] * 25] * n_images
    rows = []
    for of_image in labels:
        centres = np.zeros((len(of_image) + 25, 8))
        centres[: len(of_image), 0] = [2.5 if label == 1 else 0 for label in of_image]
        centres[: len(of_image), 1] = [2.5 if label == 2 else 0 for label in of_image]
        centres[:, 2] = 1.5
        rows.append((centres + rng.normal(0, 1, centres.shape)).astype(np.float16))
    return toy_of(objects, labels, proposals), rows


@pytest.mark.parametrize("retrain_after", [60, 300])
def test_mining_finds_what_all_negatives_at_once_would_teach(
    toy_of: Make, tmp_path: Path, retrain_after: int
) -> None:
    data, rows = synthetic(toy_of)
    config = SVMConfig(retrain_after=retrain_after)
    svms = train(tmp_path, data, rows, config)
    scale = float(svms["scale"])
    for k in range(2):
        positives, negatives = [], []
        for record, of_image in zip(data.train, rows, strict=True):
            scaled = of_image.astype(np.float32) * scale
            positives.append(scaled[: len(record.boxes)][record.labels == k + 1])
            negative = negatives_of(record, windows_of(record, data.reader, None), 3, 0.3)
            negatives.append(scaled[negative[:, k]])
        all_positives, all_negatives = np.concatenate(positives), np.concatenate(negatives)
        at_once = ClassSVM(all_positives, replace(config, retrain_after=10**9))
        at_once.add(all_negatives)
        at_once.train()

        assert svms["positives"][k] == len(all_positives)
        assert svms["negatives"][k] < len(all_negatives) / 2, "mined nearly all"
        assert svms["trainings"][k] > 1
        mined, best = (
            objective(w, float(b), all_positives, all_negatives, config)
            for w, b in ((svms["weights"][k], svms["bias"][k]), (at_once.weights, at_once.bias))
        )
        assert mined < best * 1.02
        cosine = svms["weights"][k] @ at_once.weights
        cosine /= np.linalg.norm(svms["weights"][k]) * np.linalg.norm(at_once.weights)
        assert cosine > 0.99
        # They find their class.
        scores = {
            name: rows @ svms["weights"][k] + svms["bias"][k]
            for name, rows in (("positive", all_positives), ("negative", all_negatives))
        }
        assert np.median(scores["positive"]) > np.quantile(scores["negative"], 0.95)


def test_features_are_scaled_to_a_mean_norm_of_20(toy_of: Make, tmp_path: Path) -> None:
    data, rows = synthetic(toy_of, 6)
    scale = float(train(tmp_path, data, rows, SVMConfig())["scale"])
    norms = np.linalg.norm(np.concatenate(rows).astype(np.float64), axis=1)
    assert scale * norms.mean() == pytest.approx(20, rel=1e-4)


def test_the_scale_of_the_cache_does_not_matter(toy_of: Make, tmp_path: Path) -> None:
    data, rows = synthetic(toy_of, 10)
    one = train(tmp_path / "one", data, rows, SVMConfig())
    four = train(tmp_path / "four", data, [4 * r for r in rows], SVMConfig())
    np.testing.assert_allclose(four["weights"], one["weights"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(four["scale"], one["scale"] / 4, rtol=1e-5)


def test_windows_in_between_teach_their_class_nothing(toy_of: Make, tmp_path: Path) -> None:
    # Image 0 has a window that half covers its object of class 1, and lies apart from class 2's.
    between = [0, 0, 10, 5]
    objects, labels = [[LEFT]] * 4 + [[LEFT]] * 4, [[1]] * 4 + [[2]] * 4
    proposals = [[between, FAR, FAR]] + [[FAR] * 3] * 7
    data = toy_of(objects, labels, proposals)
    rng = np.random.default_rng(3)
    rows = [rng.normal(size=(4, 5)).astype(np.float16) for _ in range(8)]
    other = [r.copy() for r in rows]
    other[0][1] *= -1  # the same norm, the opposite meaning
    config = SVMConfig(c=0.1)
    first, second = (
        train(tmp_path / name, data, r, config) for name, r in (("a", rows), ("b", other))
    )
    assert np.array_equal(first["weights"][0], second["weights"][0])
    assert not np.array_equal(first["weights"][1], second["weights"][1])


def test_a_class_without_objects_never_fires(toy_of: Make, tmp_path: Path) -> None:
    data, rows = synthetic(toy_of, 12)
    svms = train(tmp_path, data, rows, SVMConfig(retrain_after=20))
    assert np.array_equal(svms["weights"][2], np.zeros(8))
    assert svms["bias"][2] < 0
    assert svms["trainings"][2] == svms["positives"][2] == 0


def test_a_class_without_objects_gathers_no_negatives(toy_of: Make, tmp_path: Path) -> None:
    # It would hold every window of the training split in memory, for nothing.
    data, rows = synthetic(toy_of, 12)
    assert train(tmp_path, data, rows, SVMConfig())["negatives"][2] == 0


def test_images_without_windows_are_passed_over(toy_of: Make, tmp_path: Path) -> None:
    objects, labels = [[], [LEFT], [], [LEFT]], [[], [1], [], [2]]
    data = toy_of(objects, labels, [[], [FAR], [], [FAR]])
    nothing = np.zeros((0, 3), np.float16)
    rows = [
        nothing,
        np.array([[1, 0, 0], [0, 0, 1]], np.float16),
        nothing,
        np.array([[0, 1, 0], [0, 0, 1]], np.float16),
    ]
    svms = train(tmp_path, data, rows, SVMConfig(c=1.0))
    assert svms["positives"].tolist() == [1, 1, 0]
    for k in range(2):
        positive, negative = rows[1 + 2 * k][0], rows[1 + 2 * k][1]
        weights = svms["weights"][k] * svms["scale"]
        assert positive @ weights + svms["bias"][k] > 0 > negative @ weights + svms["bias"][k]


# Memory --------------------------------------------------------------------------------------


def test_a_negative_takes_two_bytes_a_class_and_twentyeight_a_value_that_is_not_0() -> None:
    # 100 features, 20 classes, half of the features 0: 100 * (40 + 14) bytes each.
    assert mined_capacity(54_000, 20, 100, 0.5) == 10
    assert mined_capacity(1, 20, 100, 0.5) == 1


def test_where_memory_is_short_the_hardest_stay() -> None:
    positives = np.array([[2.0, 0]] * 4, np.float32)
    negatives = np.array([[0.0, 1], [-0.5, 0], [0.2, 0], [-0.4, 2], [0.1, 0]], np.float32)
    config = SVMConfig(c=1.0, easy_score=-1e9)
    free, short = ClassSVM(positives, config), ClassSVM(positives, config, capacity=2)
    for svm in (free, short):
        svm.add(negatives)
        svm.train()
    assert np.array_equal(free.weights, short.weights)
    assert len(free.negatives) == 5
    hardest = np.sort(np.argsort(-free.scores(negatives))[:2])
    assert np.array_equal(short.negatives, negatives[hardest])


def test_half_precision_and_a_scale_are_as_scaled_rows() -> None:
    rng = np.random.default_rng(5)
    positives, negatives = (rng.normal(mean, 1, (30, 6)).astype(np.float16) for mean in (1, -0.5))
    one = ClassSVM(positives, SVMConfig(c=0.1), scale=3.0)
    other = ClassSVM(positives.astype(np.float32) * 3, SVMConfig(c=0.1))
    one.add(negatives)
    other.add(negatives.astype(np.float32) * 3)
    for svm in (one, other):
        svm.train()
    assert np.array_equal(one.weights, other.weights)
    assert one.negatives.dtype == np.float16


def test_nothing_to_learn_from_is_said(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[]], [[]], [[]])
    with pytest.raises(InputError, match="neither objects nor proposals"):
        train(tmp_path, data, [np.zeros((0, 3), np.float16)], SVMConfig())
