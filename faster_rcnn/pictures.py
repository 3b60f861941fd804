"""Faster R-CNN in pictures: its anchors, what the RPN says, what comes out, what errs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from faster_rcnn.detector import load
from faster_rcnn.network import FasterRCNN
from stages.data.images import image_tensor
from stages.data.records import Dataset, Record
from stages.evaluation.result_pictures import draw_results
from stages.pictures import COLOURS, outline
from stages.proposals.cache import Proposals
from stages.sheet import Panel, Row, sheet
from stages.store import Artifact, Job, stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 4  # images
BEST = 20  # proposals drawn


@stage(version=3)
def draw_pictures(
    job: Job, data: Dataset, proposals: Artifact, model: Artifact, detections: Artifact
) -> None:
    """Write a PNG of the RPN and, by `draw_results`, of what the detections are worth."""
    reader = Proposals(proposals.path / "proposals.h5")
    draw_results(job.folder, data, reader, detections.path / "detections.json", None, "The RPN")
    faster = load(model.path, job.device)
    with_objects = [record for record in data.test if len(record.boxes)]
    shown = with_objects[:: max(1, len(with_objects) // SHOWN)][:SHOWN]
    if shown:
        sheet(
            job.folder / "rpn.png",
            "The RPN: the anchors of one position, a colour a ratio; the probability of an object at "
            "each\nposition, the highest of its anchors' (white: 1), with the objects (dashed); and "
            f"the {BEST} best proposals",
            [Row(_panels(faster, record, reader), "") for record in shown],
            3.2,
        )


def _panels(faster: FasterRCNN, record: Record, reader: Proposals) -> list[Panel]:
    image = image_tensor(record)
    with torch.inference_mode():
        batch, maps = faster.look([image])
        scores, _ = faster.rpn(maps)
        anchors = faster.rpn.anchors(maps)[0].cpu()
    high, wide = maps[0].shape[2:]
    k = len(anchors) // (high * wide)
    ratio = batch.ratios[0]
    middle = (high // 2 * wide + wide // 2) * k
    of_position = (anchors[middle : middle + k] / ratio).numpy()
    each = scores[0, : len(anchors)].float().sigmoid().cpu().unflatten(0, (high, wide, k))
    stride = faster.rpn.strides[0]
    rows, columns = (-(-side // stride) for side in batch.sizes[0])  # without the frame's padding
    heat = each.amax(dim=2)[:rows, :columns]
    sizes = len(faster.rpn.config.anchors.sizes)

    def draw_anchors(axes: Axes) -> None:
        for number, box in enumerate(of_position):
            outline(axes, box, COLOURS[number // sizes % len(COLOURS)])

    def draw_objects(axes: Axes) -> None:
        scaled = torch.from_numpy(record.boxes) * ratio
        for box in ((scaled - faster.backbone.shift) / stride).numpy():
            outline(axes, box, "#E69F00", dashed=True)

    def draw_best(axes: Axes) -> None:
        for box in record.boxes:
            outline(axes, box, "white", dashed=True)
        for box in reader.of(record, BEST):
            outline(axes, box, "#56B4E9")

    pixels = image.permute(1, 2, 0).numpy()
    return [
        Panel.of(pixels, str(record.image_id), draw_anchors),
        Panel.of(_grey(heat), f"highest {heat.max():.2f}", draw_objects),
        Panel.of(pixels, f"{len(reader.of(record))} proposals", draw_best),
    ]


def _grey(values: Tensor) -> np.ndarray:
    """Probabilities [h, w] as uint8 [h, w, 3]."""
    grey = (255 * values).to(torch.uint8).numpy()
    return np.repeat(grey[:, :, None], 3, axis=2)
