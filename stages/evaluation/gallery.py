"""Detections worth looking at: some images, the best of each class, the worst mistakes of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stages.data.decode import image_of
from stages.data.records import Dataset, Record
from stages.evaluation.detections_io import Detections
from stages.evaluation.mistakes import (
    BACKGROUND,
    CORRECT,
    IOU,
    KINDS,
    LOCALISATION,
    MISSED,
    OTHER,
    SIMILAR,
    Findings,
    Mistakes,
)
from stages.evaluation.threshold import usual_scores
from stages.pictures import draw_boxes, neighbourhood, outline, short
from stages.sheet import Panel, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 6
CLASSES = 10  # more on one sheet are too many to look at
NAME = 13  # letters of a class's name that a caption has room for

RIGHT, WRONG = "#009E73", "#D55E00"  # Okabe and Ito's green and vermilion


def commonest(objects: np.ndarray, limit: int = CLASSES) -> list[int]:
    """The labels with the most of `objects` [K], at most `limit`, in the classes' own order."""
    return sorted((np.argsort(-objects, kind="stable")[:limit] + 1).tolist())


def of_how_many(shown: int, classes: int) -> str:
    """For a title: whether classes were left out."""
    return "" if shown == classes else f"; the {shown} commonest of {classes} classes"


def detections_over(records: Sequence[Record], data: Dataset, found: Detections) -> list[Panel]:
    """Some test images, their best-scoring detections solid, their objects dashed.

    Of each class as many as `usual_scores` leaves.
    """
    threshold = usual_scores(data, found)
    panels = []
    for record in records:
        boxes, labels, scores = np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0)
        if record.image_id in found:
            of_image = found[record.image_id]
            order = np.argsort(of_image["scores"], kind="stable")  # the best are drawn last
            order = order[(of_image["scores"] >= threshold[of_image["labels"] - 1])[order]]
            boxes, labels, scores = (of_image[key][order] for key in ("boxes", "labels", "scores"))

        def draw(
            axes: Axes,
            record: Record = record,
            boxes: np.ndarray = boxes,
            labels: np.ndarray = labels,
            scores: np.ndarray = scores,
        ) -> None:
            draw_boxes(axes, record.boxes, record.labels, data.classes, dashed=True)
            draw_boxes(axes, boxes, labels, data.classes, scores)

        caption = f"{record.image_id}: detections {len(boxes)}, objects {len(record.boxes)}"
        panels.append(Panel.of(image_of(record), caption, draw))
    return panels


def best_detections(
    records: Sequence[Record], mistakes: Mistakes, classes: Sequence[str], labels: Sequence[int]
) -> list[Row]:
    """A row a class: its true positives of the highest scores."""
    found, rows = mistakes.detections, []
    for label in labels:
        # By descending score already.
        mine = np.flatnonzero((found.label == label) & (found.kind == CORRECT))[:COLUMNS]
        rows.append(Row(_panels(records, found[mine], classes), classes[label - 1]))
    return rows


def worst_mistakes(
    records: Sequence[Record], mistakes: Mistakes, classes: Sequence[str]
) -> list[Row]:
    """A row a kind: the false positives of the highest scores, and the largest missed objects.

    Each from another image, and from as many classes as there are: a detector is often wrong about
    one thing several times over.
    """
    rows = []
    for kind in (LOCALISATION, SIMILAR, OTHER, BACKGROUND):
        mine = mistakes.false[mistakes.false.kind == kind]
        if kind == SIMILAR and len(mine) == 0:
            continue  # usually, nobody said what is similar
        rows.append(Row(_panels(records, mine[_worst(mine, mine.score)], classes), KINDS[kind]))
    missed = mistakes.missed
    boxes = np.array(
        [records[i].boxes[gt] for i, gt in zip(missed.image, missed.gt, strict=True)]
    ).reshape(-1, 4)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    rows.append(Row(_panels(records, missed[_worst(missed, area)], classes), KINDS[MISSED]))
    return rows


def _worst(findings: Findings, badness: np.ndarray) -> list[int]:
    """Rows to show: every class's worst first, then every class's second, .. and no image twice."""
    order = np.argsort(-badness, kind="stable")
    queue: list[tuple[int, int]] = []
    turns: dict[int, int] = {}
    seen: set[tuple[int, int]] = set()
    for row in order.tolist():
        label, image = int(findings.label[row]), int(findings.image[row])
        if (label, image) not in seen:
            seen.add((label, image))
            turns[label] = turns.get(label, -1) + 1
            queue.append((turns[label], row))
    chosen: dict[int, int] = {}
    for _, row in sorted(queue, key=lambda item: item[0]):
        chosen.setdefault(int(findings.image[row]), row)
    return list(chosen.values())[:COLUMNS]


def _panels(records: Sequence[Record], findings: Findings, classes: Sequence[str]) -> list[Panel]:
    return [_panel(records, findings, i, classes) for i in range(len(findings))]


def _panel(records: Sequence[Record], findings: Findings, i: int, classes: Sequence[str]) -> Panel:
    """What is around one finding: the detection's box solid, the object's dashed."""
    record, gt = records[findings.image[i]], int(findings.gt[i])
    box = None if np.isnan(findings.score[i]) else findings.box[i]
    object_box = None if gt < 0 else record.boxes[gt]
    image, corner = neighbourhood(
        image_of(record), np.array([b for b in (object_box, box) if b is not None])
    )

    def draw(axes: Axes) -> None:
        if object_box is not None:
            outline(axes, object_box - corner, "white", dashed=True)
        if box is not None:
            outline(axes, box - corner, RIGHT if findings.kind[i] == CORRECT else WRONG)

    return Panel.of(image, _caption(record, findings, i, classes), draw)


def _caption(record: Record, findings: Findings, i: int, classes: Sequence[str]) -> str:
    kind, gt = int(findings.kind[i]), int(findings.gt[i])
    name = short(classes[int(findings.label[i]) - 1], NAME)
    score, iou = f"{findings.score[i]:.2f}", f"IoU {findings.iou[i]:.2f}"
    if kind == MISSED:
        near = "nothing near" if np.isnan(findings.score[i]) else f"nearest {score}, {iou}"
        return f"missed {name}\n{near}"
    if gt < 0:
        return f"{name} {score}\nmeets no object"
    if kind == CORRECT:
        return f"{score}, {iou}"
    if kind == LOCALISATION:
        return f"{name} {score}\n{iou}{', a duplicate' if findings.iou[i] >= IOU else ''}"
    return f"{name} {score}\non {short(classes[int(record.labels[gt]) - 1], NAME)}, {iou}"
