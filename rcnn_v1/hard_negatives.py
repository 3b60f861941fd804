"""The hardest negatives: what a class's SVM, though it learnt better, still takes for the class.

M windows of an image, N training images, K classes, n windows kept for each class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcnn_v1.features import FeatureCache
from rcnn_v1.svm import negatives_of
from stages.data.records import TrainingData
from stages.proposals.cache import Proposals
from stages.proposals.windows import windows_of
from stages.store import Artifact, Job, stage

KEPT = 6  # n


@dataclass(frozen=True, eq=False)
class HardNegatives:
    """The negatives of each class that its finished SVM scores highest, one of an image at most.

    Attributes:
        scores: float32 [n, K], descending; -inf where there are no more.
        images: int64 [n, K], the training record's index.
        boxes: float32 [n, K, 4] xyxy.
    """

    scores: np.ndarray
    images: np.ndarray
    boxes: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> HardNegatives:
        """What `find_hard_negatives` left."""
        with np.load(folder / "hard_negatives.npz") as arrays:
            return cls(arrays["scores"], arrays["images"], arrays["boxes"])


@stage(version=1)
def find_hard_negatives(
    job: Job,
    data: TrainingData,
    proposals: Artifact,
    features: Artifact,
    svms: Artifact,
    top: int | None,
    negative_iou: float,
) -> None:
    """Score every cached window once more. Writes `hard_negatives.npz`, see `HardNegatives`.

    A stage of its own, not a part of drawing: the cache may have hundreds of gigabytes.
    """
    reader = Proposals(proposals.path / "proposals.h5")
    with np.load(svms.path / "svms.npz") as arrays:
        weights, bias = arrays["weights"] * arrays["scale"], arrays["bias"]
    k = len(bias)
    scores: np.ndarray = np.full((KEPT, k), -np.inf, np.float32)
    images: np.ndarray = np.zeros((KEPT, k), np.int64)
    boxes: np.ndarray = np.zeros((KEPT, k, 4), np.float32)
    for index, (record, rows) in enumerate(
        zip(data.train, FeatureCache(features.path), strict=True)
    ):
        if len(rows) == 0:
            continue
        windows = windows_of(record, reader, top)
        margins = rows.astype(np.float32) @ weights.T + bias
        margins[~negatives_of(record, windows, k, negative_iou)] = -np.inf
        # One of an image: windows beside the hardest score nearly as high, and show the same.
        hardest = margins.argmax(axis=0)
        scores = np.concatenate([scores, margins[hardest, range(k)][None]])
        images = np.concatenate([images, np.full((1, k), index)])
        boxes = np.concatenate([boxes, windows[hardest][None]])
        order = np.argsort(-scores, axis=0, kind="stable")[:KEPT]
        scores, images = (np.take_along_axis(values, order, 0) for values in (scores, images))
        boxes = np.take_along_axis(boxes, order[..., None], 0)
    np.savez(job.folder / "hard_negatives.npz", scores=scores, images=images, boxes=boxes)
