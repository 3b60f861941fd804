"""Mask R-CNN in pictures: its masks beside the true ones, what the RPN proposes, what errs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mask_rcnn.detector import load
from mask_rcnn.network import MaskRCNN
from stages.data.images import image_tensor, mask_runs_of
from stages.data.records import Dataset, Record
from stages.evaluation.detections_io import load_detections
from stages.evaluation.result_pictures import draw_results
from stages.evaluation.threshold import usual_scores
from stages.pictures import draw_boxes, tint
from stages.proposals.cache import Proposals
from stages.sheet import Panel, Row, sheet
from stages.store import Artifact, Job, stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 6  # images


@stage(version=3)
def draw_pictures(
    job: Job, data: Dataset, proposals: Artifact, model: Artifact, detections: Artifact
) -> None:
    """Write a PNG of the masks, where there are any, and what `draw_results` writes."""
    reader = Proposals(proposals.path / "proposals.h5")
    found = detections.path / "detections.json"
    draw_results(job.folder, data, reader, found, None, "The RPN")
    mask_rcnn = load(model.path, job.device)
    shown = with_masks(data)
    if mask_rcnn.mask_head is not None and shown:
        least = usual_scores(data, load_detections(found, data.category_ids))
        sheet(
            job.folder / "masks.png",
            "The objects' masks, and those found with each class's usual score and above",
            [
                Row([truth(record), masked(mask_rcnn, record, data.classes, least)], "")
                for record in shown
            ],
            3.2,
        )


@stage(version=1)
def draw_side_by_side(job: Job, data: Dataset, names: tuple[str, ...], *models: Artifact) -> None:
    """Write `side_by_side.png`: the same images' masks by several models, beside the true ones."""
    loaded = [load(model.path, job.device) for model in models]
    least = np.full(len(data.classes), 0.5)
    sheet(
        job.folder / "side_by_side.png",
        f"The objects' masks, and by {', '.join(names)}: scores of 0.5 and above",
        [
            Row(
                [truth(record), *(masked(model, record, data.classes, least) for model in loaded)],
                "",
            )
            for record in with_masks(data)
        ],
        3.2,
    )


def with_masks(data: Dataset) -> list[Record]:
    """A few test images with objects that have masks, from all over the split."""
    usable = [record for record in data.test if len(record.boxes) and record.has_masks]
    return usable[:: max(1, len(usable) // SHOWN)][:SHOWN]


def truth(record: Record) -> Panel:
    """An image with its objects' masks."""
    pixels = image_tensor(record).permute(1, 2, 0).numpy()
    masks = mask_runs_of(record).pixels
    return Panel.of(tint(pixels, masks, record.labels), str(record.image_id))


def masked(model: MaskRCNN, record: Record, classes: tuple[str, ...], least: np.ndarray) -> Panel:
    """An image with what the model finds in it.

    Args:
        least: of each class's score.
    """
    image = image_tensor(record)
    with torch.inference_mode():
        (found,) = model([image])
    boxes, labels, scores, masks = (
        found[key].cpu().numpy() for key in ("boxes", "labels", "scores", "masks")
    )
    shown = np.flatnonzero(scores >= least[labels - 1])

    def draw(axes: Axes) -> None:
        order = shown[::-1]  # the best are drawn last
        draw_boxes(axes, boxes[order], labels[order], classes, scores[order])

    pixels = tint(image.permute(1, 2, 0).numpy(), masks[shown], labels[shown])
    return Panel.of(pixels, f"{len(shown)} found", draw)
