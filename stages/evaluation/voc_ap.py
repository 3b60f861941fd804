"""PASCAL VOC's average precision: the devkit's matching, and its two ways to average.

D detections and G objects of one class in one image; n detections of one class in all
images, highest score first; I images; K classes. AP and recall are fractions, 0..1.

VOC scores boxes; masks are compared by the same rules (as Hariharan et al., ECCV 2014, do) where
they are given, with the IoU of pixels.

The devkit measures boxes in inclusive pixels: its width is xmax - xmin + 1. Here boxes are
continuous, and reading VOC's XML subtracts 1 from xmin and ymin. A continuous box from a
to b is therefore the inclusive pixels a + 1 .. b, whose devkit width is b - (a + 1) + 1 =
b - a: the "+1" cancels, in intersections too, and every overlap is the devkit's. Nothing is
left to add here (the tests hold this against the devkit's own loop). Like the devkit, boxes are
compared with what the file says, `Record.evaluated_boxes`, also where that reaches past the image.

Matching depends on the scores' order only within an image, and averaging needs nothing but
its outcomes, so it is done once for both APs and for every bootstrap draw.

Source: VOCdevkit 2007 and 2012, VOCevaldet.m and VOCap.m; Everingham et al., IJCV 2010, 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.data.records import Record
from stages.evaluation.detections_io import Detections
from stages.evaluation.masks import TrueMasks, overlaps_of_masks
from stages.evaluation.run_lengths import detected_masks

TRUE = 1
FALSE = 0
IGNORED = -1


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """What became of the detections of one class.

    Attributes:
        scores: float64 [n], descending; equal ones in the order of images, then of detections.
        image: int64 [n], the record's index.
        outcome: int8 [n], 1 true positive, 0 false positive, -1 ignored.
        positives: int64 [I], the objects to be found in each image: the class's, without
            the difficult and the crowds.
    """

    scores: np.ndarray
    image: np.ndarray
    outcome: np.ndarray
    positives: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """bool [n - ignored]: true positive or false, by descending score."""
        found: np.ndarray = self.outcome[self.outcome != IGNORED] == TRUE
        return found

    @property
    def n_positives(self) -> int:
        return int(self.positives.sum())


def match(
    records: Sequence[Record],
    detections: Detections,
    n_classes: int,
    iou: float = 0.5,
    masks: TrueMasks | None = None,
) -> list[ClassMatches]:
    """Compare each detection with the object it overlaps best, as the devkit does.

    By descending score, a detection looks at one object only: of its class in its image,
    the one with the highest IoU, difficult or not, taken or not. If that IoU is below `iou`,
    the detection is false. Otherwise it is ignored if the object is difficult (or a crowd,
    which VOC does not know), true if the object is free, and false if it is taken, even
    where another object overlaps enough.

    Args:
        records: I images with distinct ids.
        detections: of these images or some of them.
        n_classes: K; labels are 1..K.
        iou: the least overlap, reached or exceeded.
        masks: the records' `true_masks`: overlaps are of these and the detections' masks
            instead of boxes. An empty mask overlaps nothing. An object without a mask is ignored, and
            what overlaps it is told by boxes.

    Returns:
        K matches; `[label - 1]` is the class's.

    Raises:
        ValueError: an image id twice or unknown, a label outside 1..K, a number not finite;
            with `masks`, a detection's is missing, damaged or not of its image's size.
    """
    ids = {record.image_id for record in records}
    if len(ids) != len(records):
        raise ValueError("two records have the same image id")
    for image_id in detections:
        if image_id not in ids:
            raise ValueError(f"detections of an image that is not evaluated: {image_id!r}")

    positives = np.zeros((n_classes, len(records)), np.int64)
    scores: list[list[np.ndarray]] = [[np.empty(0)] for _ in range(n_classes)]
    image: list[list[np.ndarray]] = [[np.empty(0, np.int64)] for _ in range(n_classes)]
    outcome: list[list[np.ndarray]] = [[np.empty(0, np.int8)] for _ in range(n_classes)]
    for index, record in enumerate(records):
        _check_labels(record.image_id, record.labels, n_classes)
        true = None if masks is None else masks[record.image_id]
        ignored = record.difficult | record.iscrowd
        if true is not None:
            ignored = ignored | np.array([mask is None for mask in true], bool)
        positives[:, index] = np.bincount(record.labels[~ignored] - 1, minlength=n_classes)
        if record.image_id not in detections:
            continue
        pred_boxes, pred_labels, pred_scores = _arrays(record.image_id, detections)
        _check_labels(record.image_id, pred_labels, n_classes)
        overlaps = overlaps_of(pred_boxes, record.evaluated_boxes)
        if true is not None:
            found = detected_masks(
                record.image_id, detections[record.image_id], (record.height, record.width)
            )
            known = [i for i, mask in enumerate(true) if mask is not None]
            overlaps[:, known] = overlaps_of_masks(found, [m for m in true if m is not None])
        for label in np.unique(pred_labels):
            mine = np.flatnonzero(pred_labels == label)
            mine = mine[np.argsort(-pred_scores[mine], kind="stable")]
            gt = record.labels == label
            scores[label - 1].append(pred_scores[mine])
            image[label - 1].append(np.full(len(mine), index))
            outcome[label - 1].append(_match_image(overlaps[mine][:, gt], ignored[gt], iou))

    matches = []
    for k in range(n_classes):
        all_scores = np.concatenate(scores[k])
        order = np.argsort(-all_scores, kind="stable")
        matches.append(
            ClassMatches(
                all_scores[order],
                np.concatenate(image[k])[order],
                np.concatenate(outcome[k])[order],
                positives[k],
            )
        )
    return matches


def ap_11_point(found: np.ndarray, n_positives: int) -> float:
    """VOC 2007's AP: the mean, over recalls 0, 0.1 .. 1, of the best precision from there on.

    As the paper defines it: 3 of 10 objects found are a recall of 0.3. The devkit's own number is
    `ap_11_point_devkit`.

    Args:
        found: bool [n], true positive or false, by descending score, the ignored left out.
        n_positives: objects to be found.

    Returns:
        0..1; nan without objects to be found.
    """
    return ap_sampled(found, n_positives, 11)


def ap_11_point_devkit(found: np.ndarray, n_positives: int) -> float:
    """`ap_11_point` as the devkit rounds: recalls and the eleven points compared as floats.

    Counted up by 0.1, the fourth point is 0.30000000000000004, so that 3 of 10 objects found do not
    reach it; nor 6 of 10 and 7 of 10 the seventh and eighth. So have it the devkit (in Octave) and its
    Python ports; MATLAB counts the upper half down from 1, where the fourth point alone is so.

    Arguments and result as `ap_11_point`'s.

    Source: VOCdevkit 2007, VOCevaldet.m, "compute average precision".
    """
    if n_positives == 0:
        return float("nan")
    tp, precision = _curve(found)
    total = 0.0
    for k in range(11):
        total += float(precision[tp / n_positives >= k * 0.1].max(initial=0.0)) / 11
    return total


def ap_sampled(found: np.ndarray, n_positives: int, points: int) -> float:
    """`ap_11_point` at any number of equally spaced recalls; COCO has 101."""
    if n_positives == 0:
        return float("nan")
    tp, precision = _curve(found)
    total = 0.0
    for k in range(points):
        # In integers: as floats, 3 of 10 objects may or may not reach a recall of 0.1 * 3.
        reached = tp * (points - 1) >= k * n_positives
        total += float(precision[reached].max(initial=0.0))
    return total / points


def ap_area(found: np.ndarray, n_positives: int) -> float:
    """VOC 2010's AP: the area under precision made monotone, over recall.

    Arguments and result as `ap_11_point`'s.
    """
    if n_positives == 0:
        return float("nan")
    _, precision = _curve(found)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall grows by 1 / n_positives at each true positive and nowhere else.
    return float(best_from_here[found].sum()) / n_positives


def recall(found: np.ndarray, n_positives: int) -> float:
    """The share of objects found at any score, 0..1; nan without objects to be found."""
    return float(found.sum()) / n_positives if n_positives else float("nan")


def mean_over_classes(values: Sequence[float]) -> float:
    """The mean of those that are not nan; nan if all are.

    A class without any object to be found has no AP, so it is left out, not counted as 0.
    """
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _curve(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n], true positives so far; float64 [n], their share of the detections so far."""
    tp = np.cumsum(found, dtype=np.int64)
    return tp, tp / np.arange(1, len(tp) + 1)


def _match_image(overlaps: np.ndarray, gt_ignored: np.ndarray, iou: float) -> np.ndarray:
    """int8 [D], the outcomes of one class's detections in one image, highest score first.

    Args:
        overlaps: [D, G], their IoUs with the class's objects.
        gt_ignored: bool [G].
    """
    outcome = np.full(len(overlaps), FALSE, np.int8)
    if len(gt_ignored) == 0:
        return outcome
    best = overlaps.argmax(axis=1)  # the first of equals, as in the devkit
    close = overlaps.max(axis=1) >= iou
    outcome[close & gt_ignored[best]] = IGNORED
    rivals = np.flatnonzero(close & ~gt_ignored[best])
    # Each object goes to the first that points at it, which has the highest score.
    _, first = np.unique(best[rivals], return_index=True)
    outcome[rivals[first]] = TRUE
    return outcome


def overlaps_of(boxes: np.ndarray, gt_boxes: np.ndarray) -> np.ndarray:
    """IoU, float64 [D, G]; in float64, where an overlap of exactly one half stays one."""
    a = boxes.astype(np.float64)[:, None]
    b = gt_boxes.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = sides.clip(min=0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - intersection
    # Where boxes do not meet, the union of two empty ones is 0.
    result: np.ndarray = np.zeros_like(intersection)
    np.divide(intersection, union, out=result, where=intersection > 0)
    return result


def _arrays(
    image_id: str | int, detections: Detections
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pred = detections[image_id]
    boxes = np.asarray(pred["boxes"], np.float64).reshape(-1, 4)
    labels = np.asarray(pred["labels"], np.int64)
    scores = np.asarray(pred["scores"], np.float64)
    if not len(boxes) == len(labels) == len(scores):
        raise ValueError(f"image {image_id!r}: boxes, labels and scores differ in number")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError(f"image {image_id!r}: a box or a score is not finite")
    return boxes, labels, scores


def _check_labels(image_id: str | int, labels: np.ndarray, n_classes: int) -> None:
    if len(labels) and not (labels.min() >= 1 and labels.max() <= n_classes):
        raise ValueError(f"image {image_id!r}: a label is not in 1..{n_classes}")
