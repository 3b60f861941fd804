"""A few test images, each with what every detector finds in it, side by side.

n detections in an image of height H and width W.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco  # type: ignore[import-untyped]

from benchmarks.report.comparison import Comparison, Entry
from benchmarks.shown import panel
from stages.data.decode import image_of
from stages.data.records import Record
from stages.evaluation.run_lengths import detected_masks
from stages.sheet import Panel, in_rows, sheet

IMAGES = 4
COLUMNS = 3


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """A PNG an image: its objects, then each detector's detections, masks tinted.

    Args:
        folder: where to; it exists.

    Returns:
        the PNGs, `image-1.png` ..
    """
    paths = []
    for number, record in enumerate(spread(comparison.data.test), 1):
        pixels, classes = image_of(record), comparison.data.classes
        objects = f"objects: {len(record.boxes)}"
        panels = [panel(pixels, objects, record.boxes, record.labels, classes)]
        panels += [_detections(pixels, record, entry, classes) for entry in comparison.entries]
        path = folder / f"image-{number}.png"
        sheet(path, str(record.image_id), in_rows(panels, COLUMNS))
        paths.append(path)
    return paths


def spread(records: Sequence[Record], images: int = IMAGES) -> list[Record]:
    """A few images from all over the split, with objects where there are any."""
    with_objects = [record for record in records if len(record.boxes)] or list(records)
    places = np.linspace(0, len(with_objects) - 1, min(images, len(with_objects)))
    return [with_objects[int(place)] for place in places]


def shown(entry: Entry, record: Record) -> np.ndarray:
    """Which of an entry's detections in an image people see: int64 [n], the best last.

    Those that reach the class's usual score, as `make detect` shows them.
    """
    found = entry.detections.get(record.image_id)
    if found is None:
        return np.zeros(0, np.int64)
    order = np.argsort(found["scores"], kind="stable")
    reached: np.ndarray = order[(found["scores"] >= entry.usual[found["labels"] - 1])[order]]
    return reached


def _detections(pixels: np.ndarray, record: Record, entry: Entry, classes: Sequence[str]) -> Panel:
    rows = shown(entry, record)
    caption = f"{entry.label}: {len(rows)}"
    if not len(rows):
        return panel(pixels, caption, np.zeros((0, 4)), np.zeros(0, np.int64), classes)
    found = entry.detections[record.image_id]
    boxes, labels, scores = (found[key][rows] for key in ("boxes", "labels", "scores"))
    masks = None
    if "segmentation" in found:
        of_image = detected_masks(record.image_id, found, (record.height, record.width))
        masks = np.array([coco.decode(of_image[row]) for row in rows], bool)
    return panel(pixels, caption, boxes, labels, classes, scores, masks)
