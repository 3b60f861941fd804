"""How far COCO's AP would move with other test images: `bootstrap`, on COCO's own matches.

I images, B draws, K classes, S IoU thresholds; n detections of one class by descending
score, T of them true at one threshold. APs are fractions, 0..1.

COCO matches within an image too, so its outcomes are read off a finished evaluation and an
image counts as often as it is drawn. The curve is read at COCO's 101 recalls and compared in
floats, as COCO does: weights give what COCO's code gives on copies, but for equal scores in
one image, whose copies COCO counts in turn.

Source: pycocotools' cocoeval.py, accumulate and summarize.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.evaluation import bootstrap
from stages.evaluation.bootstrap import draw_images, mean_known
from stages.evaluation.coco_ap import Evaluation


@dataclass(frozen=True, eq=False)
class _Class:
    """What became of the detections of one class.

    Attributes:
        image: int64 [n], the record's index.
        true, ignored: bool [S, n].
        positives: int64 [I], the objects to be found in each image.
    """

    image: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    positives: np.ndarray


def resampled_coco_ap(evaluation: Evaluation, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """COCO's AP, the mean over classes and IoU 0.50:0.05:0.95, on each draw of the test images.

    A class of which a draw has no object to be found is left out of that draw's mean.

    Args:
        evaluation: a `coco_evaluation`, of boxes or masks.

    Returns:
        float64 [B], 0..1, nan where a draw has nothing to be found at all. Equal seeds and
        numbers of images draw the same images, here and in `resampled_map`.
    """
    weights = draw_images(len(evaluation.params.imgIds), draws, seed)
    recalls = evaluation.params.recThrs
    return mean_known([_weighted_ap(one, weights, recalls) for one in _classes(evaluation)], draws)


def _classes(evaluation: Evaluation) -> list[_Class]:
    """The K classes' outcomes, of objects of any area."""
    params, record_of = evaluation.params, evaluation.order
    n_images, n_areas = len(params.imgIds), len(params.areaRng)
    classes = []
    for k in range(len(params.catIds)):
        # COCO's list goes by class, area (the first is any), image; None: nothing there.
        first = k * n_areas * n_images
        of_class = enumerate(evaluation.evalImgs[first : first + n_images])
        known = [(i, found) for i, found in of_class if found is not None]
        positives = np.zeros(n_images, np.int64)
        for i, found in known:
            positives[record_of[i]] = np.count_nonzero(found["gtIgnore"] == 0)
        none = np.zeros((len(params.iouThrs), 0))
        matched = np.hstack([none, *(found["dtMatches"] for _, found in known)]) > 0
        ignored = np.hstack([none, *(found["dtIgnore"] for _, found in known)]) > 0
        scores = np.concatenate([np.empty(0), *(found["dtScores"] for _, found in known)])
        counts = np.array([len(found["dtScores"]) for _, found in known], np.int64)
        image = np.repeat(record_of[[i for i, _ in known]], counts)
        order = np.argsort(-scores, kind="stable")
        true, ignored = (matched & ~ignored)[:, order], ignored[:, order]
        classes.append(_Class(image[order], true, ignored, positives))
    return classes


def _weighted_ap(one: _Class, weights: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """One class's mean AP over thresholds, float64 [B], where image i counts weights[i, b] times.

    nan where no object to be found has a weight.
    """
    positives = one.positives @ weights
    ap = np.zeros(weights.shape[1])
    # Whatever comes after the last true positive of all thresholds is of no consequence.
    n = int(np.flatnonzero(one.true.any(axis=0)).max(initial=-1)) + 1
    if n:
        block = max(1, bootstrap.BLOCK // n)
        for first in range(0, len(ap), block):
            b = slice(first, first + block)
            so_far = weights[one.image[:n], b].cumsum(axis=0, dtype=np.int64)  # for all thresholds
            for true, ignored in zip(one.true[:, :n], one.ignored[:, :n], strict=True):
                at = np.flatnonzero(true)
                tp = weights[one.image[at], b].cumsum(axis=0, dtype=np.int64)  # [T, block]
                reported = so_far[at] - _before(at, np.flatnonzero(ignored), one, weights[:, b])
                ap[b] += _sampled(tp, reported, positives[b], recalls)
    ap /= len(one.true)
    ap[positives == 0] = np.nan
    return ap


def _before(at: np.ndarray, ignored: np.ndarray, one: _Class, weights: np.ndarray) -> np.ndarray:
    """int64 [T, block], the weight of the ignored detections before each of those `at`."""
    so_far = weights[one.image[ignored]].cumsum(axis=0, dtype=np.int64)
    none = np.zeros((1, weights.shape[1]), np.int64)
    result: np.ndarray = np.concatenate([none, so_far])[np.searchsorted(ignored, at)]
    return result


def _sampled(
    tp: np.ndarray, reported: np.ndarray, positives: np.ndarray, recalls: np.ndarray
) -> np.ndarray:
    """AP [B] of curves kept at their true positives: [T, B] true and all so far, of [B]."""
    precision = tp / np.maximum(reported, 1)  # nothing reported, nothing found: 0
    best_from_here = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # How many of the recalls asked for are reached here, and so how many are first reached.
    reached = np.searchsorted(recalls, tp / np.maximum(positives, 1), side="right")
    newly = np.diff(reached, axis=0, prepend=0)
    result: np.ndarray = (newly * best_from_here).sum(axis=0) / len(recalls)
    return result
