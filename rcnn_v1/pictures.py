"""R-CNN in pictures: what is proposed, what the network sees, what is hard, what comes out and errs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision.ops import box_iou

from rcnn_v1.hard_negatives import HardNegatives
from rcnn_v1.window_pictures import hardest_negatives, training_crops
from stages.data.decode import image_of
from stages.data.records import Dataset, Record
from stages.evaluation.detections_io import load_detections
from stages.evaluation.gallery import (
    best_detections,
    commonest,
    detections_over,
    of_how_many,
    worst_mistakes,
)
from stages.evaluation.mistake_chart import chart
from stages.evaluation.mistakes import NEAR, find_mistakes
from stages.evaluation.threshold import objects_of
from stages.pictures import outline, tag
from stages.proposals.cache import Proposals
from stages.sheet import Panel, in_rows, sheet
from stages.store import Artifact, Job, stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = 6
SMALL = 1.6  # inches


@stage(version=2)
def draw_pictures(
    job: Job,
    data: Dataset,
    proposals: Artifact,
    hard: Artifact,
    detections: Artifact,
    side: int,
    context: float,
    top: int | None,
) -> None:
    """Write a PNG of each of the paper's steps, and of what the detections are worth.

    Args:
        hard: of `find_hard_negatives`.
        side, context: of the warped windows, see `crop_windows`.
        top: proposals an image that the detector sees.
    """
    reader = Proposals(proposals.path / "proposals.h5")
    found = load_detections(detections.path / "detections.json", data.category_ids)
    mistakes = find_mistakes(data.test, found, len(data.classes))
    shown = _spread(data.test)
    trained = commonest(objects_of(data.train, len(data.classes)))
    tested = commonest(mistakes.objects)
    some_of_trained = of_how_many(len(trained), len(data.classes))
    some_of_tested = of_how_many(len(tested), len(data.classes))

    sheet(
        job.folder / "proposals.png",
        "Selective search: its 100 best-ranked boxes (thin), the objects (dashed),\n"
        "and for each object the nearest of all proposals (orange where its IoU is below 0.5)",
        in_rows([_proposals(record, reader.of(record, top)) for record in shown]),
    )
    sheet(
        job.folder / "crops.png",
        "Windows warped with their context, as the network sees them (a thin line where each window ends)",
        training_crops(data, reader, side, context),
        SMALL,
    )
    sheet(
        job.folder / "hardest_negatives.png",
        "The hardest negatives: training windows that are not the class, but score highest for it;\n"
        f"below the score, what they are on{some_of_trained}",
        hardest_negatives(data, HardNegatives.load(hard.path), trained, side, context),
        SMALL,
    )
    sheet(
        job.folder / "detections.png",
        "Detections with their scores (solid), and the objects (dashed), test split",
        in_rows(detections_over(shown, data, found)),
    )
    sheet(
        job.folder / "best_detections.png",
        "The highest-scoring correct detections of each class (solid), and the objects (dashed)"
        f"{some_of_tested}",
        best_detections(data.test, mistakes, data.classes, tested),
        SMALL,
    )
    sheet(
        job.folder / "worst_mistakes.png",
        "The highest-scoring false detections of each kind (solid), and the objects (dashed);\n"
        "last, the largest objects missed, with the nearest detection of their class",
        worst_mistakes(data.test, mistakes, data.classes),
        SMALL,
    )
    chart(
        job.folder / "mistakes_by_kind.png",
        f"What the best-scoring detections are{some_of_tested}",
        mistakes,
        data.classes,
        tested,
    )


def _spread(records: Sequence[Record]) -> list[Record]:
    """A few images from all over the split, with objects where there are any."""
    with_objects = [record for record in records if len(record.boxes)]
    spread = with_objects[:: max(1, len(with_objects) // IMAGES)][:IMAGES]
    return spread or list(records[:IMAGES])


def _proposals(record: Record, boxes: np.ndarray) -> Panel:
    iou = box_iou(torch.from_numpy(record.boxes), torch.from_numpy(boxes)).numpy()
    best = iou.max(axis=1) if len(boxes) else np.zeros(len(record.boxes))

    def draw(axes: Axes) -> None:
        from matplotlib.collections import LineCollection

        x1, y1, x2, y2 = boxes[:100].T
        corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]])  # [5, 2, n]
        axes.add_collection(LineCollection(list(corners.transpose(2, 0, 1)), colors="k", lw=0.35))
        for box in record.boxes:
            outline(axes, box, "white", dashed=True)
        for row, overlap in zip(iou, best, strict=True):
            if overlap >= NEAR:
                nearest, colour = boxes[row.argmax()], "#56B4E9" if overlap >= 0.5 else "#E69F00"
                outline(axes, nearest, colour)
                tag(axes, nearest, f"{overlap:.2f}", colour)

    found = int((best >= 0.5).sum())
    caption = f"{record.image_id}: {found} of {len(best)} objects among {len(boxes)} proposals"
    return Panel.of(image_of(record), caption, draw)
