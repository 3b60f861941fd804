"""All of a detector's accuracy in one table: VOC's two mAPs and COCO's AP, with intervals.

Every value but counts is a percentage, 0..100, or null where there is nothing to measure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from stages.data.records import Record
from stages.evaluation.bootstrap import interval, mean_ap, resampled_map
from stages.evaluation.coco_ap import coco_evaluation, coco_values
from stages.evaluation.coco_bootstrap import resampled_coco_ap
from stages.evaluation.detections_io import Detections
from stages.evaluation.masks import TrueMasks, are_of_masks, true_masks, without_mask
from stages.evaluation.mistakes import find_mistakes, table_of
from stages.evaluation.voc_ap import ap_11_point, ap_area, match, recall

IOU = 0.5


def evaluate(
    records: Sequence[Record],
    detections: Detections,
    classes: Sequence[str],
    draws: int = 1000,
    alike: Sequence[Collection[int]] = (),
) -> dict[str, Any]:
    """VOC's 11-point (2007) and area (2010) AP at IoU 0.5, per class and mean; COCO's APs.

    Args:
        records: the test images, all of them, also those without objects.
        detections: of these images or some of them.
        classes: `classes[label - 1]` is the name.
        draws: of the bootstrap, seed 0.
        alike: groups of labels of similar classes, for the kinds of mistakes.

    Returns:
        A dict for JSON. "mistakes" is `mistakes.table_of`, in numbers of them.
        "objects" counts what is to be found: without the difficult and the
        crowds. A class without any has null for its APs and recall and is left out of
        the means. "voc07_map" compares recalls with the eleven points exactly, "voc07_map_devkit" in
        floats, as the devkit does: see `ap_11_point_devkit`. Intervals are [low, high] of 95 %, over
        the test images; "coco_interval" is of COCO's "AP". Where every detection has a mask, and some
        object, "masks" has "voc07_map" to "coco_interval" once more, with masks compared for boxes;
        objects to be found that have none are "objects_without_mask" there, and ignored: see
        `have_masks`.

    Raises:
        ValueError: as `find_mistakes`.
        InputError: the records' masks are there but cannot be read.
    """
    table = {
        **_accuracy(records, detections, classes, draws),
        "mistakes": table_of(find_mistakes(records, detections, len(classes), alike), classes),
        "difficult": "neither found nor missed",
        "images": len(records),
        "iou": IOU,
    }
    if are_of_masks(records, detections):
        true = true_masks(records)
        of_masks = _accuracy(records, detections, classes, draws, true)
        table["masks"] = {**of_masks, "objects_without_mask": without_mask(records)}
    return table


def _accuracy(
    records: Sequence[Record],
    detections: Detections,
    classes: Sequence[str],
    draws: int,
    masks: TrueMasks | None = None,
) -> dict[str, Any]:
    """What boxes and, with `masks`, masks have in the table."""
    matches = match(records, detections, len(classes), IOU, masks)
    samples = resampled_map(matches, draws)
    coco = coco_evaluation(records, detections, len(classes), masks)
    return {
        "voc07_map": _percent(mean_ap(matches, "voc07")),
        "voc07_map_devkit": _percent(mean_ap(matches, "voc07_devkit")),
        "voc07_interval": [_percent(end) for end in interval(samples["voc07"])],
        "area_map": _percent(mean_ap(matches, "area")),
        "area_interval": [_percent(end) for end in interval(samples["area"])],
        "per_class": {
            name: {
                "ap_11_point": _percent(ap_11_point(of_class.found, of_class.n_positives)),
                "ap_area": _percent(ap_area(of_class.found, of_class.n_positives)),
                "recall": _percent(recall(of_class.found, of_class.n_positives)),
                "objects": of_class.n_positives,
            }
            for name, of_class in zip(classes, matches, strict=True)
        },
        "coco": {name: _percent(value) for name, value in coco_values(coco).items()},
        "coco_interval": [_percent(end) for end in interval(resampled_coco_ap(coco, draws))],
    }


def _percent(fraction: float) -> float | None:
    return None if math.isnan(fraction) else 100 * fraction
