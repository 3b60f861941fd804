"""From which score on a detection is shown to people, for detectors whose scores are no probabilities.

K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.data.records import Dataset, Record
from stages.evaluation.detections_io import Detections


def objects_of(records: Sequence[Record], n_classes: int) -> np.ndarray:
    """int64 [K], how many objects of each class there are."""
    labels = np.concatenate([np.zeros(0, np.int64), *(record.labels for record in records)])
    return np.bincount(labels - 1, minlength=n_classes)


def usual_scores(data: Dataset, found: Detections) -> np.ndarray:
    """The score from which on each class has as many detections an image as objects in training.

    That shows neither a flood nor nothing, and looks at no test label.

    Args:
        found: in the test split.

    Returns:
        float64 [K]; infinite for a class that has no objects in training, or no detections.
    """
    threshold = np.full(len(data.classes), np.inf)
    per_image = objects_of(data.train, len(data.classes)) / max(len(data.train), 1)
    for k in range(len(threshold)):
        scores = np.sort(
            np.concatenate([d["scores"][d["labels"] == k + 1] for d in found.values()] or [[]])
        )
        wanted = round(per_image[k] * len(data.test))
        if wanted and len(scores):
            threshold[k] = scores[-min(wanted, len(scores))]
    return threshold
