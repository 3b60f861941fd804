"""The box regressors against the plain ridge solution, and on windows whose way is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torchvision.ops import box_iou

from rcnn_v1.box_regression import choose_windows, fit, train_box_regressors
from rcnn_v1.config import BoxRegressionConfig
from rcnn_v1.extract import WindowNetwork
from stages.backbones.weights import Weights, build_backbone
from stages.boxes import decode
from stages.data.decode import image_of
from stages.proposals.windows import Windows, training_windows
from stages.stopwatch import OFF
from stages.store import Job

Make = Callable[..., Any]
CONTEXT = 16 / 227
RANDOM = Weights(None, "random")
CONFIG = BoxRegressionConfig(dtype="float32")
BOX = [5, 5, 25, 25]


def problem(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and targets that follow from them but for noise; the four are correlated."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0.3, 1, (rows, columns)).astype(np.float32)
    mixed = features @ rng.normal(0, 0.1, (columns, 4)) + rng.normal(0, 0.05, (rows, 4))
    targets = mixed @ rng.normal(0, 1, (4, 4)) + [0.2, -0.1, 0.05, 0.3]
    return features, targets.astype(np.float32)


def fit_all(
    features: np.ndarray, targets: np.ndarray, config: BoxRegressionConfig
) -> tuple[np.ndarray, np.ndarray]:
    """`fit`, the features handed over in parts of unlike size."""
    parts = (part for part in np.array_split(features, 3) if len(part))
    return fit(parts, targets, features.shape[1], config)


def primal(
    features: np.ndarray, targets: np.ndarray, config: BoxRegressionConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The released code's steps, one by one, in double precision."""
    x, y = features.astype(float), targets.astype(float)
    mean = y.mean(axis=0)
    covariance = (y - mean).T @ (y - mean) / len(y)
    root = scipy.linalg.sqrtm(covariance + config.whiten * np.eye(4)).real
    whitened = (y - mean) @ np.linalg.inv(root)
    with_ones = np.hstack([x, np.ones((len(x), 1))])
    # The ridge is on every column, the ones' too.
    gram = with_ones.T @ with_ones + config.ridge * np.eye(with_ones.shape[1])
    solution = np.linalg.solve(gram, with_ones.T @ whitened) @ root
    return solution[:-1].T, solution[-1] + mean


# The fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [1000.0, 10.0, 0.5])
@pytest.mark.parametrize(("rows", "columns"), [(80, 12), (12, 80), (30, 29), (30, 30)])
def test_it_is_the_primal_ridge_solution(rows: int, columns: int, ridge: float) -> None:
    features, targets = problem(rows, columns)
    config = replace(CONFIG, ridge=ridge)
    weights, bias = fit_all(features, targets, config)
    expected_weights, expected_bias = primal(features, targets, config)
    assert weights.dtype == bias.dtype == np.float32
    assert weights.shape == (4, columns)
    size = np.abs(expected_weights).max()
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-3, atol=1e-3 * size)
    np.testing.assert_allclose(bias, expected_bias, rtol=1e-3, atol=1e-4)


def test_the_ridge_holds_the_bias_too() -> None:
    # Targets that are centred but features that are not: a free bias would be far from nought.
    features, targets = problem(60, 3)
    targets -= targets.mean(axis=0)
    _, held = fit_all(features, targets, replace(CONFIG, ridge=1e7))
    assert np.abs(held).max() < 1e-4
    _, loose = fit_all(features, targets, replace(CONFIG, ridge=1e-3))
    assert np.abs(loose).max() > 1e-2


def test_whitening_and_back_is_no_change() -> None:
    # Ridge is linear in its targets, and holds all four alike.
    features, targets = problem(40, 5)
    one, other = (fit_all(features, targets, replace(CONFIG, whiten=w))[0] for w in (1e-3, 10.0))
    np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize(("rows", "columns"), [(200, 6), (20, 60)])
def test_a_linear_map_is_found_with_next_to_no_ridge(rows: int, columns: int) -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(rows, columns)).astype(np.float32)
    true_weights, true_bias = rng.normal(size=(4, columns)), np.array([0.5, -1, 2, 0])
    targets = (features @ true_weights.T + true_bias).astype(np.float32)
    weights, bias = fit_all(features, targets, replace(CONFIG, ridge=1e-3))
    np.testing.assert_allclose(features @ weights.T + bias, targets, atol=5e-3)
    if rows > columns:
        np.testing.assert_allclose(weights, true_weights, atol=5e-3)
        np.testing.assert_allclose(bias, true_bias, atol=5e-3)


def test_no_window_teaches_nothing() -> None:
    weights, bias = fit([], np.zeros((0, 4), np.float32), 7, CONFIG)
    assert np.array_equal(weights, np.zeros((4, 7)))
    assert np.array_equal(bias, np.zeros(4))


@pytest.mark.parametrize("rows", [1, 5])
def test_targets_that_are_all_the_same(rows: int) -> None:
    # Nothing varies: the covariance is nought, and its inverse must not be taken.
    target = np.array([0.1, -0.2, 0.3, 0.0], np.float32)
    features = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    weights, bias = fit_all(features, np.tile(target, (rows, 1)), CONFIG)
    np.testing.assert_allclose(features @ weights.T + bias, np.tile(target, (rows, 1)), atol=1e-5)


# Which windows -------------------------------------------------------------------------------


def windows(overlap: list[float], label: list[int]) -> Windows:
    n = len(overlap)
    return Windows(
        np.zeros((n, 4), np.float32),
        np.zeros(n, np.int64),
        np.array(overlap, np.float32),
        np.array(label, np.int64),
        np.zeros(n, np.int64),
    )


def test_windows_near_enough_by_hand() -> None:
    made = windows([1, 0.61, 0.6, 0.59, 1, 0.9, 0], [2, 1, 1, 1, 1, 3, 1])
    # Float32's 0.6 is a little more than 0.6 itself; compare with the value that is stored.
    config = replace(CONFIG, min_iou=float(np.float32(0.6)))
    assert choose_windows(made, 2, config).tolist() == [0, 1, 4]


def test_no_more_windows_of_a_class_than_configured() -> None:
    made = windows([0.9] * 50, [1] * 40 + [2] * 10)
    config = replace(CONFIG, max_windows=15)
    chosen = choose_windows(made, 2, config)
    assert (np.diff(chosen) > 0).all()
    assert [(chosen < 40).sum(), (chosen >= 40).sum()] == [15, 10]
    assert np.array_equal(choose_windows(made, 2, config), chosen)
    assert not np.array_equal(choose_windows(made, 2, replace(config, seed=1)), chosen)


def test_no_windows_at_all() -> None:
    assert choose_windows(windows([], []), 2, CONFIG).tolist() == []


# The stage -----------------------------------------------------------------------------------


def train(
    folder: Path, data: Any, config: BoxRegressionConfig = CONFIG, workers: int = 0
) -> dict[str, np.ndarray]:
    folder.mkdir(exist_ok=True)
    job = Job(folder, workers=workers)
    train_box_regressors(job, data, data.proposals, RANDOM, "tiny", None, CONTEXT, config)
    with np.load(folder / "regressors.npz") as arrays:
        return dict(arrays)


def pool5(data: Any, made: Windows, rows: np.ndarray) -> np.ndarray:
    """float16 [R, D], a window at a time."""
    network = WindowNetwork(build_backbone("tiny", RANDOM), "cpu", "float32", CONTEXT, 1)
    features = []
    with torch.inference_mode():
        for row in rows:
            image = torch.from_numpy(image_of(data.train[made.image[row]])).permute(2, 0, 1)
            box = torch.from_numpy(made.boxes[row : row + 1])
            (pooled,) = network.pooled(image, box, OFF)
            features.append(pooled.flatten(1).half().numpy())
    return np.concatenate(features)


def test_a_class_is_fitted_on_its_own_windows(toy: Any, tmp_path: Path) -> None:
    regressors = train(tmp_path, toy)
    assert regressors["weights"].shape == (3, 4, 2048)
    assert regressors["bias"].shape == (3, 4)
    made = training_windows(toy.train, toy.reader, None)
    rows = np.flatnonzero(made.overlap > 0.6)
    features = pool5(toy, made, rows).astype(np.float32)
    scale = 20 / np.linalg.norm(features, axis=1).mean()
    for k in range(2):
        own = made.label[rows] == k + 1
        assert regressors["windows"][k] == own.sum() > 5
        x, y, w, h = sizes(made.boxes[rows[own]])
        gt = np.stack([toy.train[made.image[r]].boxes[made.gt[r]] for r in rows[own]])
        gt_x, gt_y, gt_w, gt_h = sizes(gt)
        targets = np.stack(
            [(gt_x - x) / w, (gt_y - y) / h, np.log(gt_w / w), np.log(gt_h / h)], axis=1
        )
        weights, bias = primal(features[own] * scale, targets, CONFIG)
        # Saved for pool5 as the network gives it.
        size = np.abs(weights * scale).max()
        np.testing.assert_allclose(
            regressors["weights"][k], weights * scale, rtol=0.01, atol=0.01 * size
        )
        np.testing.assert_allclose(regressors["bias"][k], bias, atol=1e-4)
    # Nothing was seen of the third class: its boxes stay where they are.
    assert np.array_equal(regressors["weights"][2], np.zeros((4, 2048)))
    assert np.array_equal(regressors["bias"][2], np.zeros(4))
    assert regressors["windows"][2] == 0


def sizes(boxes: np.ndarray) -> tuple[np.ndarray, ...]:
    x1, y1, x2, y2 = boxes.astype(float).T
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def test_boxes_it_was_fitted_on_come_nearer(toy: Any, tmp_path: Path) -> None:
    regressors = train(tmp_path, toy, replace(CONFIG, ridge=1.0))
    made = training_windows(toy.train, toy.reader, None)
    rows = np.flatnonzero((made.overlap > 0.6) & (made.overlap < 1))
    features = pool5(toy, made, rows).astype(np.float32)
    before, after = [], []
    for feature, row in zip(features, rows, strict=True):
        k = made.label[row] - 1
        offsets = regressors["weights"][k] @ feature + regressors["bias"][k]
        box = torch.from_numpy(made.boxes[row])
        gt = torch.from_numpy(toy.train[made.image[row]].boxes[made.gt[row]])
        moved = decode(box, torch.from_numpy(offsets))
        before.append(float(box_iou(box[None], gt[None])))
        after.append(float(box_iou(moved[None], gt[None])))
    assert np.mean(after) > np.mean(before) + 0.03


def test_workers_do_not_shape_it(toy: Any, tmp_path: Path) -> None:
    one, two = train(tmp_path / "0", toy), train(tmp_path / "2", toy, workers=2)
    assert all(np.array_equal(one[key], two[key]) for key in one)


def test_without_any_object_all_boxes_stay(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[]], [[]], [[BOX]])
    regressors = train(tmp_path / "out", data)
    assert np.array_equal(regressors["weights"], np.zeros((3, 4, 2048)))
    assert np.array_equal(regressors["bias"], np.zeros((3, 4)))


def test_images_without_windows_are_passed_over(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[], [BOX], []], [[], [1], []], [[], [], [BOX]])
    regressors = train(tmp_path / "out", data)
    assert regressors["windows"].tolist() == [1, 0, 0]
    # Its one window is the object itself: there is nothing to move.
    np.testing.assert_allclose(regressors["weights"], 0, atol=1e-9)
    np.testing.assert_allclose(regressors["bias"], 0, atol=1e-9)
