"""Class-specific box regressors: ridge regression from pool5 (R-CNN, section 2.4 and appendix C).

R windows, D values of pool5, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import Ridge
from tqdm import tqdm

from rcnn_v1.config import BoxRegressionConfig
from rcnn_v1.extract import WindowNetwork, load_network
from rcnn_v1.windows import Windows, training_windows
from stages.backbones.config import Name
from stages.backbones.weights import Weights
from stages.boxes import encode
from stages.data.images import load_images
from stages.data.records import Dataset
from stages.device import choose_dtype
from stages.proposals.cache import Proposals
from stages.stopwatch import OFF
from stages.store import Artifact, Job, stage


@stage(version=1)
def train_box_regressors(
    job: Job,
    data: Dataset,
    proposals: Artifact,
    weights: Weights,
    fine_tuned: Weights | None,
    name: Name,
    top: int | None,
    context: float,
    config: BoxRegressionConfig,
) -> None:
    """Fit every class's regressor.

    Writes `regressors.npz`: `weights` float32 [K, 4, D] and `bias` [K, 4], from pool5 as the
    network gives it to the offsets of `stages.boxes.decode`.
    """
    windows = training_windows(data.train, Proposals(proposals.path / "proposals.h5"), top)
    chosen = choose_windows(windows, len(data.classes), config)
    dtype = choose_dtype(config.dtype, job.device)
    network = WindowNetwork(
        load_network(name, weights, fine_tuned), job.device, dtype, context, config.batch
    )
    features = _pool5(job, data, windows, chosen, network)
    norms = np.linalg.norm(features.astype(np.float32), axis=1)
    scale = config.norm / max(float(norms.mean()), 1e-12) if len(norms) else 1.0
    all_weights, all_bias = [], []
    for k in range(len(data.classes)):
        of_class = np.flatnonzero(windows.label[chosen] == k + 1)
        rows = chosen[of_class]
        gt = np.zeros((len(rows), 4), np.float32)
        for i, row in enumerate(rows):
            gt[i] = data.train[windows.image[row]].boxes[windows.gt[row]]
        targets = encode(torch.from_numpy(windows.boxes[rows]), torch.from_numpy(gt)).numpy()
        fitted, bias = fit(features[of_class].astype(np.float32) * scale, targets, config)
        all_weights.append(fitted * scale)
        all_bias.append(bias)
    np.savez(
        job.folder / "regressors.npz",
        weights=np.stack(all_weights).astype(np.float32),
        bias=np.stack(all_bias).astype(np.float32),
        windows=np.bincount(windows.label[chosen], minlength=len(data.classes) + 1)[1:],
    )


def choose_windows(windows: Windows, classes: int, config: BoxRegressionConfig) -> np.ndarray:
    """Rows of the windows to learn from, sorted: int64 [R]."""
    rng = np.random.default_rng(config.seed)
    chosen = []
    for k in range(classes):
        rows = np.flatnonzero((windows.label == k + 1) & (windows.overlap > config.min_iou))
        if len(rows) > config.max_windows:
            rows = rng.choice(rows, config.max_windows, replace=False)
        chosen.append(rows)
    return np.sort(np.concatenate(chosen))


def fit(
    features: np.ndarray, targets: np.ndarray, config: BoxRegressionConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression onto whitened targets, un-whitened again: offsets = W f + b.

    Args:
        features: float32 [R, D]; targets: float32 [R, 4].

    Returns:
        W [4, D] and b [4]; zeros, which move nothing, where no window teaches anything.
    """
    if len(features) == 0:
        return np.zeros((4, features.shape[1]), np.float32), np.zeros(4, np.float32)
    mean = targets.mean(axis=0)
    centred = (targets - mean).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    values = np.maximum(values, 0) + config.whiten
    whiten = vectors @ np.diag(values**-0.5) @ vectors.T
    colour = vectors @ np.diag(values**0.5) @ vectors.T
    # The bias as a column of ones, so that the ridge holds it too. With more columns than rows
    # scikit-learn's Cholesky solver takes the dual form: an R x R system instead of a D x D one.
    with_ones = np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)
    ridge = Ridge(alpha=config.ridge, fit_intercept=False, solver="cholesky")
    ridge.fit(with_ones, (centred @ whiten).astype(np.float32))
    solution = colour @ ridge.coef_
    return solution[:, :-1].astype(np.float32), (solution[:, -1] + mean).astype(np.float32)


def _pool5(
    job: Job, data: Dataset, windows: Windows, chosen: np.ndarray, network: WindowNetwork
) -> np.ndarray:
    """float16 [R, D], pool5 of the chosen windows (sorted by image)."""
    size = network.backbone.channels * network.backbone.roi_size**2
    features = np.empty((len(chosen), size), np.float16)
    images = np.unique(windows.image[chosen])
    loader = load_images([data.train[i] for i in images], job.workers)
    done = 0
    with torch.inference_mode():
        for index, (image, _) in zip(
            images,
            tqdm(loader, total=len(images), unit="image", desc="pool5 for box regression"),
            strict=True,
        ):
            rows = chosen[windows.image[chosen] == index]
            boxes = torch.from_numpy(windows.boxes[rows]).to(job.device)
            for pooled in network.pooled(image.to(job.device), boxes, OFF):
                flat = network.backbone.until("pool5", pooled).half().cpu().numpy()
                features[done : done + len(flat)] = flat
                done += len(flat)
    return features
