"""Class-specific box regressors: ridge regression from pool5 (R-CNN, section 2.4 and appendix C).

R windows of a class, D values of pool5, K classes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TypeVar

import h5py
import numpy as np
import torch
from scipy.linalg import blas, cho_factor, cho_solve

from rcnn_v1.config import BoxRegressionConfig
from rcnn_v1.extract import Extractor, WindowNetwork
from stages.backbones.config import Name
from stages.backbones.weights import Weights
from stages.boxes import encode
from stages.data.images import image_tensor
from stages.data.records import Record, TrainingData
from stages.proposals.cache import Proposals
from stages.proposals.windows import Windows, training_windows
from stages.reading import damage_named, dataset
from stages.shards import Shard, shards
from stages.stopwatch import OFF
from stages.store import Artifact, Job, stage
from stages.sweep import sweep
from stages.writing import hdf5, write_rows

T = TypeVar("T")
SHARD = 16  # images


@stage(version=4)
def train_box_regressors(
    job: Job,
    data: TrainingData,
    proposals: Artifact,
    weights: Weights,
    name: Name,
    top: int | None,
    context: float,
    config: BoxRegressionConfig,
) -> None:
    """Fit every class's regressor.

    Writes `regressors.npz`: `weights` float32 [K, 4, D] and `bias` [K, 4], from pool5 as the
    network gives it to the offsets of `stages.boxes.decode`. pool5 of the windows lies on disk
    meanwhile, so that their number does not matter.
    """
    network = WindowNetwork.load(name, weights, job.device, config.dtype, context, config.batch)
    fit_regressors(job, data, proposals, top, network, config, image_tensor)


def fit_regressors(
    job: Job,
    data: TrainingData,
    proposals: Artifact,
    top: int | None,
    network: Extractor[T],
    config: BoxRegressionConfig,
    load: Callable[[Record], T],
) -> None:
    """`train_box_regressors` from any network's pooled maps; `load`: what it looks at for a record."""
    windows = training_windows(data.train, Proposals(proposals.path / "proposals.h5"), top)
    chosen = choose_windows(windows, len(data.classes), config)
    size = network.pooled_size
    every = shards(job.folder / "pool5", len(data.train), SHARD, ".h5")
    _cache_pool5(job, data, windows, chosen, network, every, load)

    scale = np.float32(config.norm / max(_mean_norm(every), 1e-12))
    all_weights, all_bias = [], []
    for k in range(len(data.classes)):
        rows = chosen[windows.label[chosen] == k + 1]
        gt = np.zeros((len(rows), 4), np.float32)
        for i, row in enumerate(rows):
            gt[i] = data.train[windows.image[row]].boxes[windows.gt[row]]
        targets = encode(torch.from_numpy(windows.boxes[rows]), torch.from_numpy(gt)).numpy()
        of_class = _rows_of_class(every, size, k + 1)
        fitted, bias = fit((part * scale for part in of_class), targets, size, config)
        all_weights.append(fitted * scale)
        all_bias.append(bias)
    np.savez(
        job.folder / "regressors.npz",
        weights=np.stack(all_weights).astype(np.float32),
        bias=np.stack(all_bias).astype(np.float32),
        windows=np.bincount(windows.label[chosen], minlength=len(data.classes) + 1)[1:],
    )
    shutil.rmtree(job.folder / "pool5")


def choose_windows(windows: Windows, classes: int, config: BoxRegressionConfig) -> np.ndarray:
    """Rows of the windows to learn from, sorted: int64 [R of all classes]."""
    rng = np.random.default_rng(config.seed)
    chosen = []
    for k in range(classes):
        rows = np.flatnonzero((windows.label == k + 1) & (windows.overlap > config.min_iou))
        if config.max_windows is not None and len(rows) > config.max_windows:
            rows = rng.choice(rows, config.max_windows, replace=False)
        chosen.append(rows)
    return np.sort(np.concatenate(chosen))


def fit(
    features: Iterable[np.ndarray], targets: np.ndarray, size: int, config: BoxRegressionConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression onto whitened targets, un-whitened again: offsets = W f + b.

    Args:
        features: float32 [R, D], in parts of any number of rows.
        targets: float32 [R, 4].
        size: D.

    Returns:
        W [4, D] and b [4]; zeros, which move nothing, where no window teaches anything.
    """
    if len(targets) == 0:
        return np.zeros((4, size), np.float32), np.zeros(4, np.float32)
    mean = targets.mean(axis=0)
    centred = (targets - mean).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    values = np.maximum(values, 0) + config.whiten
    whiten = vectors @ np.diag(values**-0.5) @ vectors.T
    colour = vectors @ np.diag(values**0.5) @ vectors.T
    # The bias as a column of ones, so that the ridge holds it too, as in the released code.
    with_ones = (np.pad(part, ((0, 0), (0, 1)), constant_values=1) for part in features)
    solution = colour @ ridge(with_ones, (centred @ whiten).astype(np.float32), config.ridge).T
    return solution[:, :-1].astype(np.float32), (solution[:, -1] + mean).astype(np.float32)


def ridge(features: Iterable[np.ndarray], targets: np.ndarray, penalty: float) -> np.ndarray:
    """The W [D, T] that minimises |X W - Y|^2 + penalty |W|^2.

    Solved in the smaller of its two forms, so that memory is that of one square matrix, of the
    lesser of R and D, and of X if R is the lesser: (X'X + penalty) W = X'Y, of X a part at a time,
    or W = X' (XX' + penalty)^-1 Y. scikit-learn's Ridge wants all of X.

    Args:
        features: X, float32 [R, D], in parts; targets: Y, float32 [R, T].
    """
    parts = iter(features)
    first = next(parts)
    parts, width = chain([first], parts), first.shape[1]
    if len(targets) <= width:
        x, done = np.empty((len(targets), width), np.float32), 0
        for part in parts:
            x[done : done + len(part)] = part
            done += len(part)
        gram = x @ x.T
        gram.flat[:: len(x) + 1] += penalty
        # Transposed, which is the same, it lies as LAPACK wants it and is solved in place.
        return x.T @ _solve(gram.T, targets)  # type: ignore[no-any-return]
    gram = np.zeros((width, width), np.float32, order="F")
    gram.flat[:: width + 1] = penalty
    moment, done = np.zeros((width, targets.shape[1]), np.float32), 0
    for part in parts:
        # In place and one triangle only: a second matrix of this size would double the memory.
        gram = blas.ssyrk(1.0, part.T, beta=1.0, c=gram, overwrite_c=True)
        moment += part.T @ targets[done : done + len(part)]
        done += len(part)
    return _solve(gram, moment)


def _solve(gram: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """A positive definite system; `gram` is used up."""
    factor = cho_factor(gram, overwrite_a=True, check_finite=False)
    return cho_solve(factor, targets, check_finite=False)  # type: ignore[no-any-return]


def _cache_pool5(
    job: Job,
    data: TrainingData,
    windows: Windows,
    chosen: np.ndarray,
    network: Extractor[T],
    every: list[Shard],
    load: Callable[[Record], T],
) -> None:
    """float16 [., D] of each shard's chosen windows, in their order, an array a class: `<label>`."""
    bounds = np.searchsorted(windows.image[chosen], np.arange(len(data.train) + 1))
    with torch.inference_mode():
        for shard, looks in sweep(data.train, every, job.workers, "pool5 for box regression", load):
            rows = [np.zeros((0, network.pooled_size), np.float16)]
            for index, (_, look) in enumerate(looks, start=shard.start):
                boxes = windows.boxes[chosen[bounds[index] : bounds[index + 1]]]
                if len(boxes):
                    on_device = torch.from_numpy(boxes).to(job.device)
                    for pooled in network.pooled(look, on_device, OFF):
                        rows.append(pooled.flatten(1).half().cpu().numpy())
            of_shard = np.concatenate(rows)
            labels = windows.label[chosen[bounds[shard.start] : bounds[shard.stop]]]
            with hdf5(shard.path) as file:
                for label in np.unique(labels):
                    write_rows(file, str(label), of_shard[labels == label])


def _mean_norm(every: list[Shard]) -> float:
    norms = [np.zeros(0, np.float32)]
    for shard in every:
        with damage_named(shard.path), h5py.File(shard.path) as file:
            for label in file:
                pooled = dataset(file, label, "f", (None, None))[:].astype(np.float32)
                norms.append(np.linalg.norm(pooled, axis=1))
    joined = np.concatenate(norms)
    return float(joined.mean()) if len(joined) else 1.0


def _rows_of_class(every: list[Shard], size: int, label: int) -> Iterator[np.ndarray]:
    """float32 [., D], pool5 of the chosen windows of a class, shard by shard."""
    for shard in every:
        with damage_named(shard.path), h5py.File(shard.path) as file:
            if str(label) not in file:
                continue
            pooled = dataset(file, str(label), "f", (None, size))[:].astype(np.float32)
        yield pooled
