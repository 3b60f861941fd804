"""R-CNN in pictures: what selective search proposes, what the network sees, what comes out."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from rcnn_v1.warp import crop_windows
from rcnn_v1.windows import training_windows
from stages.data.decode import image_of
from stages.data.records import Dataset, Record
from stages.detect import category_ids
from stages.evaluation.detections_io import load_detections
from stages.pictures import draw_boxes, sheet
from stages.proposals.cache import Proposals
from stages.store import Artifact, Job, stage

IMAGES = 6


@stage(version=1)
def draw_pictures(
    job: Job, data: Dataset, proposals: Artifact, detections: Artifact, side: int, context: float
) -> None:
    """Write `proposals.png`, `crops.png` and `detections.png`."""
    reader = Proposals(proposals.path / "proposals.h5")
    with_objects = [record for record in data.test if len(record.boxes)]
    shown = with_objects[:: max(1, len(with_objects) // IMAGES)][:IMAGES] or list(
        data.test[:IMAGES]
    )
    _proposals(job, data, reader, shown)
    _crops(job, data, reader, side, context)
    _detections(job, data, detections, shown)


def _proposals(job: Job, data: Dataset, reader: Proposals, shown: list[Record]) -> None:
    """The hundred best-ranked proposals, and over them the objects."""
    panels = []
    for record in shown:
        boxes = reader.of(record, 100)

        def draw(axes: Any, record: Record = record, boxes: np.ndarray = boxes) -> None:
            for x1, y1, x2, y2 in boxes:
                axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="#56B4E9", lw=0.4)
            draw_boxes(axes, record.boxes, record.labels, data.classes)

        panels.append(
            (image_of(record), f"{record.image_id}: {len(reader.of(record))} proposals", draw)
        )
    sheet(
        panels,
        job.folder / "proposals.png",
        title="Selective search: the 100 best-ranked, and the objects",
    )


def _crops(job: Job, data: Dataset, reader: Proposals, side: int, context: float) -> None:
    """Warped training windows as fine-tuning sees them: positives above, background below."""
    records = data.train[:IMAGES]
    windows = training_windows(records, reader, 500)
    rng = np.random.default_rng(0)
    panels = []
    for positive in (True, False):
        rows = np.flatnonzero((windows.overlap >= 0.5) == positive)
        for row in rng.permutation(rows)[:6]:
            image = image_of(records[windows.image[row]])
            # Grey stands for the mean that lies outside the image.
            pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255 - 0.5
            crop = crop_windows(
                pixels, torch.from_numpy(windows.boxes[row : row + 1]), side, context
            )[0]
            shown = ((crop + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            name = data.classes[windows.label[row] - 1] if positive else "background"
            panels.append((shown, f"{name}, IoU {windows.overlap[row]:.2f}", None))
    if panels:
        sheet(
            panels,
            job.folder / "crops.png",
            columns=6,
            title="Warped windows, as the network sees them",
        )


def _detections(job: Job, data: Dataset, detections: Artifact, shown: list[Record]) -> None:
    """The best detections beside the ground truth (dashed): as many as there are objects, by class."""
    found = load_detections(detections.path / "detections.json", category_ids(data))
    threshold = _threshold(data, found)
    panels = []
    for record in shown:
        of_image = found.get(record.image_id)
        draw: Any = partial(
            draw_boxes, boxes=record.boxes, labels=record.labels, classes=data.classes, dashed=True
        )
        count = 0
        if of_image is not None:
            keep = of_image["scores"] >= threshold[of_image["labels"]]
            count = int(keep.sum())
            kept = {key: value[keep] for key, value in of_image.items()}

            def draw_both(axes: Any, gt: Any = draw, kept: dict[str, np.ndarray] = kept) -> None:
                gt(axes)
                draw_boxes(axes, kept["boxes"], kept["labels"], data.classes, kept["scores"])

            draw = draw_both
        panels.append(
            (image_of(record), f"{record.image_id}: {count} of {len(record.boxes)} objects", draw)
        )
    sheet(
        panels,
        job.folder / "detections.png",
        title="Detections, and dashed the objects (test split)",
    )


def _threshold(data: Dataset, found: Any) -> np.ndarray:
    """For each label, the score that leaves as many detections as the training split has objects an image.

    Margins are no probabilities; this shows neither a flood nor nothing, and looks at no test label.
    """
    threshold = np.full(len(data.classes) + 1, np.inf)
    for label in range(1, len(threshold)):
        per_image = sum(int((r.labels == label).sum()) for r in data.train) / max(
            len(data.train), 1
        )
        scores = np.sort(
            np.concatenate([d["scores"][d["labels"] == label] for d in found.values()] or [[]])
        )
        wanted = round(per_image * len(data.test))
        if wanted and len(scores):
            threshold[label] = scores[-min(wanted, len(scores))]
    return threshold
