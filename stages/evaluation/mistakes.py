"""Why false detections are false: Hoiem et al.'s kinds of mistakes, and the objects that were missed.

D detections and G objects of one image; n detections, or m missed objects, of all classes in all
images; K classes; I images.

A false detection is of the first of these kinds that fits:
- localisation: IoU of 0.1 or more with an object of its class. From 0.5 on that object had
  already been found, by a detection of a higher score: a duplicate.
- similar class: IoU of 0.1 or more with an object of a class of the same group. Which classes are
  alike is for the caller to say (`similar.py` knows VOC's and COCO's); where nobody says, none are.
- other class: IoU of 0.1 or more with an object of any other class.
- background: all else.

True or false is `voc_ap`'s word. Difficult objects and crowds are neither found nor missed here
either, but they do explain: half a crowd is bad localisation, not background.

Source: Hoiem, Chodpathumwan, Dai, Diagnosing Error in Object Detectors, ECCV 2012, section 2.1;
used in R-CNN, section 3.4 and figure 5.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from stages.data.records import Record
from stages.evaluation.detections_io import Detections
from stages.evaluation.voc_ap import IGNORED, TRUE, match, overlaps_of

CORRECT, LOCALISATION, SIMILAR, OTHER, BACKGROUND, MISSED = range(6)
KINDS = ("correct", "localisation", "similar class", "other class", "background", "missed")

IOU = 0.5
NEAR = 0.1


@dataclass(frozen=True, eq=False)
class Findings:
    """Detections with what became of them, or missed objects; a row each.

    Attributes:
        kind: int64 [n], see `KINDS`.
        label: int64 [n], of the detection; of the object where one was missed.
        image: int64 [n], the record's index.
        box: float64 [n, 4] xyxy, the detection's. A missed object has the detection of its class
            that came nearest, nan where none touches it.
        score: float64 [n], that detection's.
        gt: int64 [n], the object's index in its record; for a detection the one that explains its
            kind (the background's is any that it overlaps most), -1 where it touches none.
        iou: float64 [n], of `box` and that object, 0 where there is none.
    """

    kind: np.ndarray
    label: np.ndarray
    image: np.ndarray
    box: np.ndarray
    score: np.ndarray
    gt: np.ndarray
    iou: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: Any) -> Findings:
        """Some of the rows, by mask or by index."""
        return Findings(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What became of a detector's detections, and of the objects.

    Attributes:
        detections: n, by class, then by descending score, without the ignored (see `voc_ap.match`).
        missed: m objects that no detection found at any score, by class, then by image.
        objects: int64 [K], how many were to be found of each class.
    """

    detections: Findings
    missed: Findings
    objects: np.ndarray

    @property
    def false(self) -> Findings:
        """The false detections alone."""
        return self.detections[self.detections.kind != CORRECT]

    def top(self) -> np.ndarray:
        """The kinds among each class's N best-scoring detections, N being its objects.

        A class that reports fewer has fewer; one without objects has none. The sum over the
        classes is that of all classes.

        Returns:
            int64 [K, 5], a column for each of `KINDS` but the last.
        """
        label, n_classes = self.detections.label - 1, len(self.objects)
        per_class = np.bincount(label, minlength=n_classes)
        rank = np.arange(len(label)) - (per_class.cumsum() - per_class)[label]
        counted = rank < self.objects[label]
        cell = label[counted] * MISSED + self.detections.kind[counted]
        return np.bincount(cell, minlength=n_classes * MISSED).reshape(n_classes, MISSED)


def find_mistakes(
    records: Sequence[Record],
    detections: Detections,
    n_classes: int,
    alike: Sequence[Collection[int]] = (),
) -> Mistakes:
    """Say of every detection what it is, and which objects were missed.

    Args:
        records: I images with distinct ids.
        detections: of these images or some of them.
        n_classes: K; labels are 1..K.
        alike: groups of labels whose classes are similar, such as the animals.

    Raises:
        ValueError: as `voc_ap.match`; a label in `alike` that is not in 1..K.
    """
    outcomes = match(records, detections, n_classes, IOU)
    similar = _similar(n_classes, alike)
    found = [_judge_image(i, r, detections, similar) for i, r in enumerate(records)]
    judged, objects = (_concatenate(parts) for parts in zip(_NOTHING, *found, strict=True))

    # `match` gives each class by descending score, equal ones in the order of images, then of
    # detections; so does a stable sort of them all.
    judged = judged[np.lexsort((-judged.score, judged.label))]
    outcome = np.concatenate([np.zeros(0, np.int8), *(of_class.outcome for of_class in outcomes)])
    judged.kind[outcome == TRUE] = CORRECT
    judged = judged[outcome != IGNORED]

    # A true positive lies on the object of its class that it overlaps most, as in `match`.
    start = np.cumsum([0, *(len(record.boxes) for record in records)])
    true = judged.kind == CORRECT
    missed = np.ones(start[-1], bool)
    missed[start[judged.image[true]] + judged.gt[true]] = False
    for at, record in zip(start, records, strict=False):
        missed[at : at + len(record.boxes)] &= ~(record.difficult | record.iscrowd)
    objects = objects[missed]
    return Mistakes(
        judged,
        objects[np.argsort(objects.label, kind="stable")],
        np.array([of_class.n_positives for of_class in outcomes], np.int64),
    )


def table_of(mistakes: Mistakes, classes: Sequence[str]) -> dict[str, Any]:
    """`Mistakes.top` as a dict for JSON.

    Returns:
        `all` and `per_class` by name: `objects`, how many of as many best-scoring detections are of
        each kind, and `missed`, the objects that no detection found at any score.
    """
    missed = np.bincount(mistakes.missed.label - 1, minlength=len(classes))
    rows = np.column_stack([mistakes.objects, mistakes.top(), missed]).tolist()
    names = ("objects", *KINDS)
    return {
        "all": dict(zip(names, np.sum(rows, axis=0, dtype=int).tolist(), strict=True)),
        "per_class": {
            name: dict(zip(names, row, strict=True))
            for name, row in zip(classes, rows, strict=True)
        },
    }


def _judge_image(
    index: int, record: Record, detections: Detections, similar: np.ndarray
) -> tuple[Findings, Findings]:
    """An image's D detections as if all were false, and its G objects as if all were missed."""
    pred = detections.get(record.image_id, {})
    boxes = np.asarray(pred.get("boxes", ()), np.float64).reshape(-1, 4)
    labels = np.asarray(pred.get("labels", ()), np.int64)
    scores = np.asarray(pred.get("scores", ()), np.float64)
    n, n_gt = len(boxes), len(record.boxes)
    same = labels[:, None] == record.labels
    alike = similar[labels[:, None] - 1, record.labels - 1]
    iou = overlaps_of(boxes, record.evaluated_boxes)

    kind, gt, best = np.full(n, BACKGROUND), np.full(n, -1), np.zeros(n)
    if n_gt:
        # The last row is any object: whatever reaches no other kind is background.
        of_kind = np.stack([same, alike & ~same, ~same & ~alike, np.ones_like(same)])
        nearest = np.where(of_kind, iou, -1.0)  # [4, D, G]
        reached = nearest.max(axis=2) >= np.array([[NEAR], [NEAR], [NEAR], [-1.0]])
        kind = reached.argmax(axis=0) + LOCALISATION
        chosen = nearest[kind - LOCALISATION, np.arange(n)]  # [D, G]
        gt, best = chosen.argmax(axis=1), chosen.max(axis=1)
        gt[best == 0] = -1
    judged = Findings(kind, labels, np.full(n, index), boxes, scores, gt, best)

    box, score, best = np.full((n_gt, 4), np.nan), np.full(n_gt, np.nan), np.zeros(n_gt)
    if n:
        own = np.where(same, iou, 0.0)
        best, row = own.max(axis=0), own.argmax(axis=0)
        box[best > 0], score[best > 0] = boxes[row][best > 0], scores[row][best > 0]
    missed = Findings(
        np.full(n_gt, MISSED),
        record.labels.astype(np.int64),
        np.full(n_gt, index),
        box,
        score,
        np.arange(n_gt),
        best,
    )
    return judged, missed


def _similar(n_classes: int, alike: Sequence[Collection[int]]) -> np.ndarray:
    """bool [K, K]: which classes share a group."""
    similar = np.zeros((n_classes, n_classes), bool)
    for group in alike:
        labels = np.array(sorted(group), np.int64)
        if len(labels) and not (labels[0] >= 1 and labels[-1] <= n_classes):
            raise ValueError(
                f"a group of similar classes has a label that is not in 1..{n_classes}"
            )
        similar[np.ix_(labels - 1, labels - 1)] = True
    return similar


def _concatenate(parts: Sequence[Findings]) -> Findings:
    names = [field.name for field in fields(Findings)]
    return Findings(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


_INTEGERS, _FLOATS = np.zeros(0, np.int64), np.zeros(0)
_EMPTY = Findings(_INTEGERS, _INTEGERS, _INTEGERS, np.zeros((0, 4)), _FLOATS, _INTEGERS, _FLOATS)
_NOTHING = (_EMPTY, _EMPTY)  # keeps the types where there is no image
