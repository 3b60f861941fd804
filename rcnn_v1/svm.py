"""One linear SVM a class, with hard negative mining (R-CNN, section 2.3 and appendix B).

M windows of an image, D features, K classes, P positives of a class, n of its mined negatives.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy import sparse
from sklearn.svm import LinearSVC
from torchvision.ops import box_iou, nms
from tqdm import tqdm

from rcnn_v1.config import SVMConfig
from rcnn_v1.features import FeatureCache
from stages.data.records import Record, TrainingData
from stages.errors import InputError
from stages.proposals.cache import Proposals
from stages.proposals.windows import windows_of
from stages.store import Artifact, Job, stage


class ClassSVM:
    """One class's SVM, its positives, and the negatives it found hard so far.

    Args:
        positives: [P, D], as they are cached: half precision takes half the memory.
        scale: what features are multiplied by before they are learnt from.
        capacity: the most negatives that stay after a training; the hardest do.
    """

    def __init__(
        self,
        positives: np.ndarray,
        config: SVMConfig,
        scale: float | np.float32 = 1.0,
        capacity: int = sys.maxsize,
    ) -> None:
        self.config = config
        self.positives = positives
        self.scale = np.float32(scale)
        self.capacity = capacity
        self.negatives = positives[:0]
        self.added = 0
        self.trainings = 0
        self.weights = np.zeros(positives.shape[1], np.float32)
        self.bias = np.float32(-1.0)  # before any training nothing is positive

    def add(self, negatives: np.ndarray) -> None:
        """Take [n, D] into the training set; train anew once there are enough new ones."""
        if len(self.positives) == 0:
            return  # nothing to learn, and all negatives would stay
        self.negatives = np.concatenate([self.negatives, negatives])
        self.added += len(negatives)
        if self.added >= self.config.retrain_after:
            self.train()

    def train(self) -> None:
        """Solve for the present training set, then drop the negatives that have become easy."""
        self.added = 0
        if len(self.positives) == 0 or len(self.negatives) == 0:
            return
        config = self.config
        svm = LinearSVC(
            loss="hinge",
            C=config.c,
            intercept_scaling=config.bias_scale,
            class_weight={1: config.positive_weight},
            random_state=config.seed,
            tol=config.tolerance,
            max_iter=10_000,
        )
        targets = np.r_[np.ones(len(self.positives)), -np.ones(len(self.negatives))]
        svm.fit(_sparse([self.positives, self.negatives], self.scale), targets)
        self.weights = svm.coef_[0].astype(np.float32)
        self.bias = np.float32(svm.intercept_[0])
        self.trainings += 1
        scores = np.concatenate([self.scores(part) for part in _parts(self.negatives)])
        hard = scores >= config.easy_score
        if hard.sum() > self.capacity:
            hard = np.isin(
                np.arange(len(scores)), np.argsort(-scores, kind="stable")[: self.capacity]
            )
        self.negatives = self.negatives[hard]

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """float32 [n], the margins of rows [n, D]."""
        return (rows.astype(np.float32) * self.scale) @ self.weights + self.bias


@stage(version=2)
def train_svms(
    job: Job,
    data: TrainingData,
    proposals: Artifact,
    features: Artifact,
    top: int | None,
    config: SVMConfig,
) -> None:
    """Train every class's SVM in one pass over the cached windows.

    Writes `svms.npz`: `weights` float32 [K, D] and `bias` [K], for features times `scale`.
    """
    reader = Proposals(proposals.path / "proposals.h5")
    cache = FeatureCache(features.path)
    positives, norm, density = _survey(data.train, cache, len(data.classes))
    scale = np.float32(config.norm / max(norm, 1e-12))
    capacity = mined_capacity(config.mined_bytes, len(positives), positives[0].shape[1], density)
    svms = [ClassSVM(of_class, config, scale, capacity) for of_class in positives]
    bar = tqdm(
        zip(data.train, cache, strict=True),
        total=len(data.train),
        unit="image",
        desc="hard negatives",
    )
    for number, (record, rows) in enumerate(bar):
        if len(rows) == 0:
            continue
        scaled = rows.astype(np.float32) * scale
        weights, bias = np.stack([svm.weights for svm in svms]), [svm.bias for svm in svms]
        margins = scaled @ weights.T + bias
        windows = windows_of(record, reader, top)
        negative = negatives_of(record, windows, len(data.classes), config.negative_iou)
        for k, svm in enumerate(svms):
            # Before its first training an SVM has no opinion: every negative is hard.
            hard = (margins[:, k] > config.hard_score) | (svm.trainings == 0)
            joining = np.flatnonzero(negative[:, k] & hard)
            if config.negative_nms is not None:
                joining = apart(joining, windows, margins[:, k], config.negative_nms)
            svm.add(rows[joining])
            if number == 0:
                svm.train()
    for svm in svms:
        if svm.added:
            svm.train()
    np.savez(
        job.folder / "svms.npz",
        weights=np.stack([svm.weights for svm in svms]),
        bias=np.array([svm.bias for svm in svms], np.float32),
        scale=np.float32(scale),
        trainings=np.array([svm.trainings for svm in svms]),
        negatives=np.array([len(svm.negatives) for svm in svms]),
        positives=np.array([len(svm.positives) for svm in svms]),
    )


def negatives_of(
    record: Record, windows: np.ndarray, classes: int, negative_iou: float
) -> np.ndarray:
    """Which windows [M, 4] are negatives of which class: bool [M, K]."""
    negative = np.ones((len(windows), classes), bool)
    if len(record.boxes) and len(windows):
        iou = box_iou(torch.from_numpy(windows), torch.from_numpy(record.boxes)).numpy()
        for k in range(classes):
            of_class = iou[:, record.labels == k + 1]
            if of_class.shape[1]:
                negative[:, k] = of_class.max(axis=1) < negative_iou
    return negative


def apart(joining: np.ndarray, windows: np.ndarray, margins: np.ndarray, iou: float) -> np.ndarray:
    """Those rows of the windows [M, 4] that overlap none with a higher margin [M] by more than `iou`.

    Greedily, as detections are suppressed: what has fallen out itself rules out nothing.
    """
    boxes, scores = torch.from_numpy(windows[joining]), torch.from_numpy(margins[joining])
    return joining[np.sort(nms(boxes, scores, iou).numpy())]


def mined_capacity(budget: int, classes: int, features: int, density: float) -> int:
    """How many negatives of each class fit into `budget` bytes.

    A negative is kept in half precision, for each class; while a class is trained its own are
    also there as a sparse matrix in double precision (12 bytes a value that is not 0) and
    as liblinear's copy of that (16 bytes).

    Args:
        density: how many of the features are not 0, from 0 to 1.
    """
    return max(1, int(budget / (features * (2 * classes + 28 * density))))


def _survey(
    records: Sequence[Record], cache: FeatureCache, classes: int
) -> tuple[list[np.ndarray], float, float]:
    """One look at the whole cache: each class's objects, float16 [P, D]; the mean norm; the density."""
    rows_of: list[list[np.ndarray]] = [[] for _ in range(classes)]
    width, windows, norms, filled = 0, 0, 0.0, 0
    for record, rows in zip(records, cache, strict=True):
        if len(rows) == 0:
            continue
        windows, width = windows + len(rows), rows.shape[1]
        norms += float(np.linalg.norm(rows.astype(np.float32), axis=1).sum(dtype=np.float64))
        filled += int(np.count_nonzero(rows))
        # An image's windows begin with its ground truth (see `windows_of`).
        labels = record.labels[~record.iscrowd]
        for k in range(classes):
            rows_of[k].append(rows[: len(labels)][labels == k + 1])
    if windows == 0:
        raise InputError(
            "the SVMs need windows: the training split has neither objects nor proposals"
        )
    empty = np.zeros((0, width), np.float16)
    positives = [np.concatenate([empty, *rows]) for rows in rows_of]
    return positives, norms / windows, filled / (windows * width)


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows, a thousand at a time: a copy in single precision is never large."""
    return (rows[start : start + 1000] for start in range(0, max(len(rows), 1), 1000))


def _sparse(arrays: Sequence[np.ndarray], scale: np.float32) -> sparse.csr_matrix:
    """The arrays' rows, scaled: features are mostly 0 after a ReLU, and liblinear skips those.

    Filled a part at a time: what scipy would put together from parts takes twice the memory.
    """
    parts = [part for rows in arrays for part in _parts(rows)]
    lengths = np.concatenate([np.count_nonzero(part, axis=1) for part in parts])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    values, columns, done = np.empty(starts[-1]), np.empty(starts[-1], np.int32), 0
    for part in parts:
        row, column = np.nonzero(part)
        end = done + len(row)
        values[done:end] = part[row, column].astype(np.float32) * scale
        columns[done:end], done = column, end
    return sparse.csr_matrix((values, columns, starts), shape=(len(lengths), arrays[0].shape[1]))
