"""COCO's average precision, by COCO's own code, on any data's records.

All values are fractions, 0..1. N objects or detections in one image.

Three things to know when comparing:
- COCO has no `difficult`. Left as ordinary objects they would count as missed, so they are
  passed as crowds, the only objects COCO ignores: like VOC's difficult object, a crowd is
  neither found nor missed and excuses any number of detections. Only its overlap is not
  VOC's (intersection over the detection's area, which would excuse every small box inside,
  1 point of AP50 on made-up data with a fifth of the objects difficult), so difficult
  objects keep the ordinary IoU. COCO's own crowds, and data without difficult objects, are
  evaluated by COCO's code as it stands.
- Small, medium and large go by the area of what is compared, of boxes or masks. COCO's
  published numbers go by the area of the segmentation for both; a box's is larger, so on COCO
  itself APs, APm and APl of boxes differ from those.
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
from pycocotools import mask as coco_mask  # type: ignore[import-untyped]
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from stages.data.records import Record
from stages.evaluation.detections_io import Detections, sizes_of
from stages.evaluation.masks import TrueMasks
from stages.evaluation.run_lengths import Rle, detected_masks

# Where `COCOeval.stats` has them.
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}


def coco_ap(
    records: Sequence[Record],
    detections: Detections,
    n_classes: int,
    masks: TrueMasks | None = None,
) -> dict[str, float]:
    """COCO's AP over IoU 0.50:0.05:0.95, and its kin, of boxes or masks.

    Args, Raises: as `coco_evaluation`.

    Returns:
        AP, AP50, AP75, APs, APm, APl and AR100, 0..1; nan where there is no such object.
    """
    return coco_values(coco_evaluation(records, detections, n_classes, masks))


def coco_evaluation(
    records: Sequence[Record],
    detections: Detections,
    n_classes: int,
    masks: TrueMasks | None = None,
) -> COCOeval:
    """COCO's evaluation, done: for `coco_values`, and `coco_bootstrap.resampled_coco_ap`.

    Args:
        records: images with distinct ids; images without objects count, for their false positives.
            In `params.imgIds` of the result they are 1, 2 .. in this order.
        detections: of these images or some of them.
        n_classes: labels are 1..n_classes; classes without objects are left out of the means.
        masks: the records' `true_masks`: these and the detections' masks are compared instead
            of boxes. Then small, medium and large are the masks' areas, in pixels.

    Raises:
        KeyError: detections of an image that is not among the records.
        ValueError: with `masks`, a detection's is missing, damaged or not of its image's size.
    """
    # COCO's ids are integers, and 0 is its code for "matched with nothing": count from 1.
    number = {record.image_id: i + 1 for i, record in enumerate(records)}
    sizes = sizes_of(records)
    objects, reported = [], []
    for record in records:
        of_image = None if masks is None else masks[record.image_id]
        regions = _regions(record.boxes, record.labels, of_image)
        objects += [
            {
                "image_id": number[record.image_id],
                "iscrowd": int(difficult or iscrowd),
                "difficult": bool(difficult and not iscrowd),
                **region,
            }
            for region, difficult, iscrowd in zip(
                regions, record.difficult, record.iscrowd, strict=True
            )
        ]
    for image_id, found in detections.items():
        of_image = None if masks is None else detected_masks(image_id, found, sizes[image_id])
        regions = _regions(found["boxes"], found["labels"], of_image)
        reported += [
            {"image_id": number[image_id], "score": float(score), **region}
            for region, score in zip(regions, found["scores"], strict=True)
        ]
    images = [
        {"id": number[record.image_id], "width": record.width, "height": record.height}
        for record in records
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _Evaluation(
            _index(images, objects, n_classes),
            _index(images, reported, n_classes),
            "bbox" if masks is None else "segm",
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def coco_values(evaluation: COCOeval) -> dict[str, float]:
    """What `coco_ap` returns, of a `coco_evaluation`."""
    values = {name: float(evaluation.stats[i]) for name, i in STATS.items()}
    # -1 is COCO's "nothing to measure".
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


def _regions(
    boxes: np.ndarray, labels: np.ndarray, masks: Sequence[Rle] | None
) -> list[dict[str, Any]]:
    """The part [N] of an annotation that objects and detections share."""
    regions = []
    for box, label in zip(boxes, labels, strict=True):
        x1, y1, x2, y2 = (float(value) for value in box)
        width, height = x2 - x1, y2 - y1
        region = {"category_id": int(label), "bbox": [x1, y1, width, height]}
        regions.append({**region, "area": width * height})
    if masks is None:
        return regions
    return [
        {**region, "area": float(coco_mask.area(mask)), "segmentation": mask}
        for region, mask in zip(regions, masks, strict=True)
    ]


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
