"""COCO's average precision, by COCO's own code, on any data's records.

All values are fractions, 0..1. N objects or detections in one image.

On a file of COCO's all twelve of its numbers are pycocotools' to the last bit (the tests run it beside
ours): objects are what the file says, in float64 and uncut, detections what theirs says, images go by
their ids, and small, medium and large by the file's `area`, of boxes and of masks. What stays apart:
- A class without an object in the training split is not evaluated, and an object without area in its
  image is not there; the readers say so.
- An annotation whose id is 0 can be found. pycocotools takes it for one that nothing has found.
- Small, medium and large detections of masks go by their masks. pycocotools takes the box where a
  result has both; results without boxes give it ours.

And when comparing with other measures:
- COCO has no `difficult`. Left as ordinary objects they would count as missed, so they are
  passed as crowds, the only objects COCO ignores: like VOC's difficult object, a crowd is
  neither found nor missed and excuses any number of detections. Only its overlap is not
  VOC's (intersection over the detection's area, which would excuse every small box inside,
  1 point of AP50 on made-up data with a fifth of the objects difficult), so difficult
  objects keep the ordinary IoU. So do objects without a mask where masks are compared: by boxes.
  COCO's own crowds, and data without either, are evaluated by COCO's code as it stands.
- Where the data have no `area`, it is that of what is compared, of boxes or masks. COCO's is the
  segmentation's; a box's is larger.
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
from stages.evaluation.run_lengths import Rle, Size, detected_masks

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
) -> Evaluation:
    """COCO's evaluation, done: for `coco_values`, and `coco_bootstrap.resampled_coco_ap`.

    Args:
        records: images with distinct ids; images without objects count, for their false positives.
            In `params.imgIds` of the result they are 1, 2 .. in the order of their ids, by which COCO
            decides between equal scores: see `Evaluation.order`.
        detections: of these images or some of them.
        n_classes: labels are 1..n_classes; classes without objects are left out of the means.
        masks: the records' `true_masks`: these and the detections' masks are compared instead
            of boxes.

    Raises:
        KeyError: detections of an image that is not among the records.
        ValueError: with `masks`, a detection's is missing, damaged or not of its image's size.
    """
    # Numbers before names, should a data set ever have both: the two do not compare.
    ids = [(isinstance(record.image_id, str), record.image_id) for record in records]
    order = sorted(range(len(records)), key=ids.__getitem__)
    number = {records[i].image_id: place for place, i in enumerate(order, start=1)}
    sizes = sizes_of(records)
    objects, reported = [], []
    for record in records:
        of_image = None if masks is None else masks[record.image_id]
        xywh = _xywh(record.evaluated_boxes) if record.xywh is None else record.xywh
        regions = _regions(xywh, record.labels, of_image, sizes[record.image_id], record.areas)
        for region, difficult, iscrowd in zip(
            regions, record.difficult, record.iscrowd, strict=True
        ):
            ignored = bool(difficult or region["bare"])
            objects.append(
                {
                    "image_id": number[record.image_id],
                    "iscrowd": int(ignored or iscrowd),
                    "excused_by_iou": ignored and not iscrowd,
                    **region,
                }
            )
    for image_id, found in detections.items():
        of_image = None if masks is None else detected_masks(image_id, found, sizes[image_id])
        xywh = found["xywh"] if "xywh" in found else _xywh(found["boxes"])
        regions = _regions(xywh, found["labels"], of_image, sizes[image_id])
        reported += [
            {"image_id": number[image_id], "score": float(score), **region}
            for region, score in zip(regions, found["scores"], strict=True)
        ]
    images = [
        {"id": number[record.image_id], "width": record.width, "height": record.height}
        for record in records
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = Evaluation(
            np.array(order, np.int64),
            _index(images, objects, n_classes),
            _index(images, reported, n_classes),
            "bbox" if masks is None else "segm",
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def coco_values(evaluation: Evaluation) -> dict[str, float]:
    """What `coco_ap` returns, of a `coco_evaluation`."""
    values = {name: float(evaluation.stats[i]) for name, i in STATS.items()}
    # -1 is COCO's "nothing to measure".
    return {name: value if value >= 0 else float("nan") for name, value in values.items()}


class Evaluation(COCOeval):  # type: ignore[misc]
    """COCO's evaluation; what is ignored besides crowds is a crowd in all but the overlap.

    Attributes:
        order: int64 [I], the record's index of each image in `params.imgIds`.
    """

    def __init__(self, order: np.ndarray, objects: Any, found: Any, kind: str) -> None:
        super().__init__(objects, found, kind)
        self.order = order

    def computeIoU(self, image_id: int, category_id: int) -> Any:  # noqa: N802
        objects = self._gts[image_id, category_id]
        excused = [o for o in objects if o["excused_by_iou"]]
        for o in excused:
            o["iscrowd"] = 0
        overlaps = super().computeIoU(image_id, category_id)
        bare = [i for i, o in enumerate(objects) if o["bare"]]
        if bare and len(overlaps):
            overlaps[:, bare] = coco_mask.iou(
                self._best_boxes(image_id, category_id),
                [objects[i]["bbox"] for i in bare],
                [objects[i]["iscrowd"] for i in bare],
            )
        for o in excused:
            o["iscrowd"] = 1
        return overlaps

    def _best_boxes(self, image_id: int, category_id: int) -> list[list[float]]:
        """Of the detections that count, in COCO's order."""
        found = self._dts[image_id, category_id]
        order = np.argsort([-d["score"] for d in found], kind="mergesort")
        return [found[i]["bbox"] for i in order[: self.params.maxDets[-1]]]


def _xywh(boxes: np.ndarray) -> np.ndarray:
    """Boxes [N, 4] xyxy as float64 x y width height."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def _regions(
    xywh: np.ndarray,
    labels: np.ndarray,
    masks: Sequence[Rle | None] | None,
    size: Size,
    areas: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """The part [N] of an annotation that objects and detections share.

    Args:
        size: (H, W) of the image.
        areas: float64 [N] where there are any, nan where one is to be measured.
    """
    regions = []
    for i, (box, label) in enumerate(zip(xywh.tolist(), labels, strict=True)):
        region = {"category_id": int(label), "bbox": box, "bare": False, "area": box[2] * box[3]}
        if masks is not None:
            mask = masks[i]
            region["bare"] = mask is None
            region["segmentation"] = _nothing(size) if mask is None else mask
            if mask is not None:
                region["area"] = float(coco_mask.area(mask))
        if areas is not None and not np.isnan(areas[i]):
            region["area"] = float(areas[i])
        regions.append(region)
    return regions


def _nothing(size: Size) -> Rle:
    """An empty mask, in the place of none."""
    height, width = size
    empty: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": [height * width]}, *size)
    return empty


def _index(images: list[dict[str, Any]], regions: list[dict[str, Any]], n_classes: int) -> Any:
    """A `COCO` in memory. Its own `loadRes` fails on an empty list of detections.

    Annotations count from 1: 0 is COCO's code for "matched with nothing".
    """
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": [{"id": i + 1, **region} for i, region in enumerate(regions)],
        "categories": [{"id": label} for label in range(1, n_classes + 1)],
    }
    coco.createIndex()
    return coco
