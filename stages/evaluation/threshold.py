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
    """The highest score from which on each class has as many detections an image as objects in training.

    It needs no probabilities, only that surer is higher, so that SVM margins have one as softmax has;
    and it looks at no test label. As a quantile, it is of the rate in an image, not of the number of
    images: a split and the same twice over have the same score. Of a class that is rarer than one in
    the split it is the score of the best detection, so that each class that is ever detected can be
    shown. Of another photograph no more is shown than that: each such class about once in as many
    photographs as the split has.

    Args:
        found: in the test split.

    Returns:
        float64 [K]; the lowest score there is, where there are fewer detections; infinite for a class
        that has no objects in training, or no detections.
    """
    threshold = np.full(len(data.classes), np.inf)
    objects = objects_of(data.train, len(data.classes))
    for k in range(len(threshold)):
        scores = np.sort(
            np.concatenate([d["scores"][d["labels"] == k + 1] for d in found.values()] or [[]])
        )
        # Rounded up, and in integers: 3 objects in 10 images are 3 detections in 10, not 4.
        wanted = -(-int(objects[k]) * len(data.test) // max(len(data.train), 1))
        if wanted and len(scores):
            threshold[k] = scores[-min(wanted, len(scores))]
    return threshold
