"""All of a detector's accuracy in one table: VOC's two mAPs with intervals, and COCO's.

Every value but counts is a percentage, 0..100, or null where there is nothing to measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stages.data.records import Record
from stages.evaluation.bootstrap import interval, mean_ap, resampled_map
from stages.evaluation.coco_ap import coco_ap
from stages.evaluation.detections_io import Detections
from stages.evaluation.mistakes import find_mistakes, table_of
from stages.evaluation.voc_ap import ap_11_point, ap_area, match, recall

IOU = 0.5


def evaluate(
    records: Sequence[Record],
    detections: Detections,
    classes: Sequence[str],
    draws: int = 1000,
) -> dict[str, Any]:
    """VOC's 11-point (2007) and area (2010) AP at IoU 0.5, per class and mean; COCO's APs.

    Args:
        records: the test images, all of them, also those without objects.
        detections: of these images or some of them.
        classes: `classes[label - 1]` is the name.
        draws: of the bootstrap, seed 0.

    Returns:
        A dict for JSON. "mistakes" is `mistakes.table_of`, in numbers of them.
        "objects" counts what is to be found: without the difficult and the
        crowds. A class without any has null for its APs and recall and is left out of
        the means. Intervals are [low, high] of 95 %, over the test images.

    Raises:
        ValueError: as `match`.
    """
    matches = match(records, detections, len(classes), IOU)
    samples = resampled_map(matches, draws)
    return {
        "voc07_map": _percent(mean_ap(matches, "voc07")),
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
        "coco": {
            name: _percent(value)
            for name, value in coco_ap(records, detections, len(classes)).items()
        },
        "mistakes": table_of(find_mistakes(records, detections, len(classes)), classes),
        "difficult": "neither found nor missed",
        "images": len(records),
        "iou": IOU,
    }


def _percent(fraction: float) -> float | None:
    return None if math.isnan(fraction) else 100 * fraction
