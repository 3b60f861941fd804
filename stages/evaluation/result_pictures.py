"""A detector's results in pictures: what it was offered, what comes out, and how that errs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision.ops import box_iou

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
from stages.evaluation.similar import similar_classes
from stages.pictures import outline, tag
from stages.proposals.cache import Proposals
from stages.sheet import Panel, in_rows, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = 6
SMALL = 1.6  # inches


def draw_results(
    folder: Path,
    data: Dataset,
    reader: Proposals,
    detections: Path,
    top: int | None,
    by: str = "Selective search",
) -> None:
    """Write what every paper shows of the test split.

    `proposals.png`, `detections.png`, `best_detections.png`, `worst_mistakes.png` and
    `mistakes_by_kind.png`.

    Args:
        folder: where to; it exists.
        reader: the proposals for the test split, and by: who made them.
        detections: a `detections.json`, of the test split.
        top: proposals an image that the detector sees.

    Raises:
        InputError: as `load_detections` and `Proposals.of`.
        DamagedError: as `Proposals.of`.
    """
    found = load_detections(detections, data.category_ids)
    mistakes = find_mistakes(data.test, found, len(data.classes), similar_classes(data.classes))
    shown = _spread(data.test)
    tested = commonest(mistakes.objects)
    some_of_tested = of_how_many(len(tested), len(data.classes))

    sheet(
        folder / "proposals.png",
        f"{by}: its 100 best-ranked boxes (thin), the objects (dashed),\n"
        "and for each object the nearest of all proposals (orange where its IoU is below 0.5)",
        in_rows([_proposals(record, reader.of(record, top)) for record in shown]),
    )
    sheet(
        folder / "detections.png",
        "Detections with their scores (solid), and the objects (dashed), test split",
        in_rows(detections_over(shown, data, found)),
    )
    sheet(
        folder / "best_detections.png",
        "The highest-scoring correct detections of each class (solid), and the objects (dashed)"
        f"{some_of_tested}",
        best_detections(data.test, mistakes, data.classes, tested),
        SMALL,
    )
    sheet(
        folder / "worst_mistakes.png",
        "The highest-scoring false detections of each kind (solid), and the objects (dashed);\n"
        "last, the largest objects missed, with the nearest detection of their class",
        worst_mistakes(data.test, mistakes, data.classes),
        SMALL,
    )
    chart(
        folder / "mistakes_by_kind.png",
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
