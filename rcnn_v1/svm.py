"""One linear SVM a class, with hard negative mining (R-CNN, section 2.3 and appendix B).

M windows of an image, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.svm import LinearSVC
from torchvision.ops import box_iou
from tqdm import tqdm

from rcnn_v1.config import SVMConfig
from rcnn_v1.features import FeatureCache
from rcnn_v1.windows import windows_of
from stages.data.records import Dataset, Record
from stages.proposals.cache import Proposals
from stages.store import Artifact, Job, stage


class ClassSVM:
    """One class's SVM, its positives, and the negatives it found hard so far.

    Args:
        positives: float32 [P, D].
    """

    def __init__(self, positives: np.ndarray, config: SVMConfig) -> None:
        self.config = config
        self.positives = positives
        self.negatives = np.zeros((0, positives.shape[1]), np.float32)
        self.added = 0
        self.trainings = 0
        self.weights = np.zeros(positives.shape[1], np.float32)
        self.bias = np.float32(-1.0)  # before any training nothing is positive

    def add(self, negatives: np.ndarray) -> None:
        """Take float32 [n, D] into the training set; train anew once there are enough new ones."""
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
            max_iter=10_000,
        )
        targets = np.r_[np.ones(len(self.positives)), -np.ones(len(self.negatives))]
        svm.fit(np.concatenate([self.positives, self.negatives]), targets)
        self.weights = svm.coef_[0].astype(np.float32)
        self.bias = np.float32(svm.intercept_[0])
        self.trainings += 1
        scores = self.negatives @ self.weights + self.bias
        self.negatives = self.negatives[scores >= config.easy_score]


@stage(version=1)
def train_svms(
    job: Job,
    data: Dataset,
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
    scale, positives = _positives(data.train, cache, len(data.classes), config)
    svms = [ClassSVM(of_class * scale, config) for of_class in positives]
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
        negative = negatives_of(
            record, windows_of(record, reader, top), len(data.classes), config.negative_iou
        )
        for k, svm in enumerate(svms):
            # Before its first training an SVM has no opinion: every negative is hard.
            hard = (
                negative[:, k]
                if svm.trainings == 0
                else negative[:, k] & (scaled @ svm.weights + svm.bias > config.hard_score)
            )
            svm.add(scaled[hard])
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


def _positives(
    records: Sequence[Record], cache: FeatureCache, classes: int, config: SVMConfig
) -> tuple[np.float32, list[np.ndarray]]:
    """The scale that gives features the wanted mean norm, and each class's objects, [P, D] unscaled."""
    norms, rows_of = [], [[] for _ in range(classes)]  # type: ignore[var-annotated]
    width = 0
    for record, rows in zip(records, cache, strict=True):
        if len(rows) == 0:
            continue
        width = rows.shape[1]
        rows = rows.astype(np.float32)
        norms.append(np.linalg.norm(rows, axis=1))
        # An image's windows begin with its ground truth (see `windows_of`).
        labels = record.labels[~record.iscrowd]
        for k in range(classes):
            rows_of[k].append(rows[: len(labels)][labels == k + 1])
    mean = float(np.concatenate(norms).mean())
    empty = np.zeros((0, width), np.float32)
    return np.float32(config.norm / max(mean, 1e-12)), [
        np.concatenate([empty, *rows]) for rows in rows_of
    ]
