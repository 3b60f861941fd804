"""Windows as the network sees them, warped: some that train it, and those that its SVMs get most wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision.ops import box_iou

from rcnn_v1.hard_negatives import HardNegatives
from rcnn_v1.warp import crop_windows
from stages.data.decode import image_of
from stages.data.records import Dataset, Record
from stages.evaluation.gallery import NAME
from stages.evaluation.mistakes import NEAR
from stages.pictures import short
from stages.proposals.cache import Proposals
from stages.proposals.windows import training_windows
from stages.sheet import Panel, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = 6  # whose windows are shown
COLUMNS = 6


def training_crops(data: Dataset, reader: Proposals, side: int, context: float) -> list[Row]:
    """Warped training windows as fine-tuning sees them: positives, and background."""
    records = data.train[:IMAGES]
    rows = []
    rng = np.random.default_rng(0)
    windows = training_windows(records, reader, 500) if records else None
    for name, positive in (("objects", True), ("background", False)):
        panels = []
        if windows is not None:
            chosen = rng.permutation(np.flatnonzero((windows.overlap >= 0.5) == positive))[:COLUMNS]
            for row in chosen:
                caption = f"IoU {windows.overlap[row]:.2f}"
                if windows.label[row]:
                    caption = f"{short(data.classes[windows.label[row] - 1], NAME)}, {caption}"
                record = records[windows.image[row]]
                panels.append(_warped(record, windows.boxes[row], side, context, caption))
        rows.append(Row(panels, name))
    return rows


def hardest_negatives(
    data: Dataset, hard: HardNegatives, labels: Sequence[int], side: int, context: float
) -> list[Row]:
    """A row a class."""
    rows = []
    for label in labels:
        panels = []
        for score, image, box in zip(
            hard.scores[:, label - 1],
            hard.images[:, label - 1],
            hard.boxes[:, label - 1],
            strict=True,
        ):
            if np.isfinite(score):
                record = data.train[image]
                caption = f"{score:.2f}\n{_content(record, box, data.classes)}"
                panels.append(_warped(record, box, side, context, caption))
        rows.append(Row(panels, data.classes[label - 1]))
    return rows


def _content(record: Record, box: np.ndarray, classes: Sequence[str]) -> str:
    """What a window [4] is on."""
    if len(record.boxes):
        iou = box_iou(torch.from_numpy(box[None]), torch.from_numpy(record.boxes))[0].numpy()
        if iou.max() >= NEAR:
            name = short(classes[int(record.labels[iou.argmax()]) - 1], NAME)
            return f"{name}, IoU {iou.max():.2f}"
    return "background"


def _warped(record: Record, box: np.ndarray, side: int, context: float, caption: str) -> Panel:
    """A window [4] as the network sees it, and a line where its context begins."""
    # Grey stands for the mean that lies outside the image.
    pixels = torch.from_numpy(image_of(record)).permute(2, 0, 1).float() / 255 - 0.5
    crop = crop_windows(pixels, torch.from_numpy(box[None]), side, context)[0]
    image = ((crop + 0.5) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    def draw(axes: Axes) -> None:
        near, far = side * context, side * (1 - context)
        xs, ys = [near, far, far, near, near], [near, near, far, far, near]
        axes.plot(xs, ys, color="black", lw=0.9)
        axes.plot(xs, ys, color="white", lw=0.5)

    return Panel.of(image, caption, draw)
