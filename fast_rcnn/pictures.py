"""Fast R-CNN in pictures: what RoI pooling sees, what comes out, what errs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fast_rcnn.detector import load
from fast_rcnn.network import FastRCNN
from stages.data.images import image_tensor
from stages.data.records import Dataset, Record
from stages.evaluation.result_pictures import draw_results
from stages.pictures import outline
from stages.proposals.cache import Proposals
from stages.sheet import Panel, Row, sheet
from stages.store import Artifact, Job, stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 4  # objects, each of another image


@stage(version=3)
def draw_pictures(
    job: Job,
    data: Dataset,
    proposals: Artifact,
    model: Artifact,
    detections: Artifact,
    top: int | None,
) -> None:
    """Write a PNG of RoI pooling and, by `draw_results`, of what the detections are worth."""
    reader = Proposals(proposals.path / "proposals.h5")
    draw_results(job.folder, data, reader, detections.path / "detections.json", top)
    fast = load(model.path, job.device)
    with_objects = [record for record in data.test if len(record.boxes)]
    shown = with_objects[:: max(1, len(with_objects) // SHOWN)][:SHOWN]
    if shown:
        sheet(
            job.folder / "roi_pooling.png",
            "RoI pooling: an object with the cells of the map it covers, one channel of the map,\n"
            "and the maxima over its bins: the same number of them for any object",
            [Row(_panels(fast, record), "") for record in shown],
            3.0,
        )


def _panels(fast: FastRCNN, record: Record) -> list[Panel]:
    """The image, the map's channel that answers most to the largest object, and its pooled bins."""
    image = image_tensor(record)
    sides = record.boxes[:, 2:] - record.boxes[:, :2]
    box = record.boxes[sides.prod(axis=1).argmax()]
    with torch.inference_mode():
        maps, ratios = fast.look(image)
        rois = fast.cells(torch.from_numpy(box)[None], ratios[:1])
        pooled = fast.pool(maps[:1], rois)[0].float().cpu()
        cells = rois[0, 1:]
    # The channel that is strongest inside, compared with the whole map.
    channel = int(
        (pooled.mean(dim=(1, 2)) / (maps[0][0].float().cpu().mean((1, 2)) + 1e-3)).argmax()
    )
    cell = fast.backbone.stride / ratios[0]  # in the image's pixels: width, height, and again
    corners = torch.cat([cells[:2], cells[2:] + 1])
    covered = (corners * cell + fast.backbone.shift / ratios[0]).numpy()
    bins = fast.backbone.roi_size

    def on_image(axes: Axes) -> None:
        outline(axes, box, "white", dashed=True)
        outline(axes, covered, "#56B4E9")

    def on_map(axes: Axes) -> None:
        x1, y1, x2, y2 = cells.tolist()
        outline(axes, np.array([x1, y1, x2 + 1, y2 + 1]), "#56B4E9")

    high, wide = (
        round(float(side)) for side in (image.shape[1] / cell[1], image.shape[2] / cell[0])
    )
    return [
        Panel.of(image.permute(1, 2, 0).numpy(), str(record.image_id), on_image),
        Panel.of(_grey(maps[0][0, channel, :high, :wide]), f"channel {channel}", on_map),
        Panel.of(_grey(pooled[channel]), f"{bins}x{bins} maxima"),
    ]


def _grey(values: Tensor) -> np.ndarray:
    """A map [h, w] as uint8 [h, w, 3], its largest value white."""
    scaled = values.float().cpu().clamp(min=0)
    grey = (255 * scaled / scaled.max().clamp(min=1e-6)).to(torch.uint8).numpy()
    return np.repeat(grey[:, :, None], 3, axis=2)
