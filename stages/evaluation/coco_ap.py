"""COCO's average precision, by COCO's own code, on any data's records.

All values are fractions, 0..1.

Three things to know when comparing:
- COCO has no `difficult`. Left as ordinary objects they would count as missed, so they are
  passed as crowds, the only objects COCO ignores: like VOC's difficult object, a crowd is
  neither found nor missed and excuses any number of detections. Only its overlap is not
  VOC's (intersection over the detection's area, which would excuse every small box inside,
  1 point of AP50 on made-up data with a fifth of the objects difficult), so difficult
  objects keep the ordinary IoU. COCO's own crowds, and data without difficult objects, are
  evaluated by COCO's code as it stands.
- Small, medium and large go by the area of the box. COCO's published numbers go by the area
  of the segmentation, which is smaller, so on COCO itself APs, APm and APl differ from those.
- A detection takes the best object that is still free, VOC's only looks at the best; and
  the 100 highest scores of each class in an image count, VOC's has no limit.

Source: https://cocodataset.org/#detection-eval; pycocotools' cocoeval.py.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from stages.data.records import Record
from stages.evaluation.detections_io import Detections

# Where `COCOeval.stats` has them.
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}


def coco_ap(records: Sequence[Record], detections: Detections, n_classes: int) -> dict[str, float]:
    """COCO's AP over IoU 0.50:0.05:0.95, and its kin, of boxes.

    Args:
        records: images with distinct ids; images without objects count, for their false positives.
        detections: of these images or some of them.
        n_classes: labels are 1..n_classes; classes without objects are left out of the means.

    Returns:
        AP, AP50, AP75, APs, APm, APl and AR100, 0..1; nan where there is no such object.

    Raises:
        KeyError: detections of an image that is not among the records.
    """
    # COCO's ids are integers, and 0 is its code for "matched with nothing": count from 1.
    number = {record.image_id: i + 1 for i, record in enumerate(records)}
    objects = [
        {
            "image_id": number[record.image_id],
            "iscrowd": int(difficult or iscrowd),
            "difficult": bool(difficult and not iscrowd),
            **_region(box, label),
        }
        for record in records
        for box, label, difficult, iscrowd in zip(
            record.boxes, record.labels, record.difficult, record.iscrowd, strict=True
        )
    ]
    reported = [
        {"image_id": number[image_id], "score": float(score), **_region(box, label)}
        for image_id, found in detections.items()
        for box, label, score in zip(found["boxes"], found["labels"], found["scores"], strict=True)
    ]
    images = [
        {"id": number[record.image_id], "width": record.width, "height": record.height}
        for record in records
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _Evaluation(
            _index(images, objects, n_classes), _index(images, reported, n_classes), "bbox"
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = {name: float(evaluation.stats[i]) for name, i in STATS.items()}
    return {name: value if value >= 0 else float("nan") for name, value in values.items()}


class _Evaluation(COCOeval):  # type: ignore[misc]
    """COCO's evaluation; difficult objects are crowds in all but the overlap."""

    def computeIoU(self, image_id: int, category_id: int) -> Any:  # noqa: N802
        difficult = [o for o in self._gts[image_id, category_id] if o["difficult"]]
        for o in difficult:
            o["iscrowd"] = 0
        overlaps = super().computeIoU(image_id, category_id)
        for o in difficult:
            o["iscrowd"] = 1
        return overlaps


def _region(box: np.ndarray, label: int) -> dict[str, Any]:
    """The part of an annotation that an object and a detection share."""
    x1, y1, x2, y2 = (float(value) for value in box)
    width, height = x2 - x1, y2 - y1
    return {
        "category_id": int(label),
        "bbox": [x1, y1, width, height],
        "area": width * height,
    }


def _index(images: list[dict[str, Any]], regions: list[dict[str, Any]], n_classes: int) -> Any:
    """A `COCO` in memory. Its own `loadRes` fails on an empty list of detections."""
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": [{"id": i + 1, **region} for i, region in enumerate(regions)],
        "categories": [{"id": label} for label in range(1, n_classes + 1)],
    }
    coco.createIndex()
    return coco
