"""Detections in a person's photographs as one COCO file.

n detections in an image of height H and width W.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.detectors import Run
from benchmarks.photographs import printable
from benchmarks.shown import Shown
from mask_rcnn.rle import to_coco
from stages.writing import replacing


class COCOResults:
    """Images, categories and detections, gathered image by image.

    The file is one that `pycocotools.coco.COCO` and annotation tools open; its `annotations` are
    at the same time a list of COCO's results, each with its `score`. A category's id is the
    detector's label, and `file_name` the path as the person gave it.

    Source: https://cocodataset.org/#format-data, #format-results.

    Args:
        least: float64 [K], from which score on each class's detections are in it.
    """

    def __init__(self, run: Run, least: np.ndarray) -> None:
        classes = run.metrics["classes"]
        scores = {
            name: float(score)
            for name, score in zip(classes, least, strict=True)
            if np.isfinite(score)
        }
        self.info = {
            "description": f"detections of {printable(run.folder)}",
            "least_scores": scores,
        }
        self.categories = [{"id": label, "name": name} for label, name in enumerate(classes, 1)]
        # As they will be written: the rows themselves take seven times the memory, of a thousand
        # photographs with masks 60 MiB.
        self.images: list[str] = []
        self.annotations: list[str] = []

    def add(self, path: Path, size: tuple[int, int], shown: Shown) -> None:
        """What was found in an image of size (H, W)."""
        height, width = size
        image_id = len(self.images) + 1
        self.images.append(
            _line({"id": image_id, "file_name": str(path), "width": width, "height": height})
        )
        outlines = None if shown.masks is None else to_coco(torch.from_numpy(shown.masks))
        for i, (x1, y1, x2, y2) in enumerate(shown.boxes.astype(float).tolist()):
            row = {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": int(shown.labels[i]),
                "bbox": [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(float(shown.scores[i]), 6),
                "area": round((x2 - x1) * (y2 - y1), 4),
                "iscrowd": 0,
            }
            if outlines is not None and shown.masks is not None:
                row |= {"segmentation": outlines[i], "area": int(shown.masks[i].sum())}
            self.annotations.append(_line(row))

    def write(self, path: Path) -> None:
        """Write the file, a line a row; replaced whole or not at all."""
        lists = {
            "images": self.images,
            "categories": [_line(category) for category in self.categories],
            "annotations": self.annotations,
        }
        parts = [f'"info": {json.dumps(self.info)}']
        for name, lines in lists.items():
            joined = ",\n".join(lines)
            parts.append(f'"{name}": [\n{joined}\n]')
        with replacing(path) as file:
            file.write(("{" + ",\n".join(parts) + "}\n").encode())


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False)
