"""What a detector reported, and its file: COCO's results format, one detection a line.

n detections in one image.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from stages.errors import InputError, one_line
from stages.writing import replacing

# image id -> {"boxes": float [n, 4], x1 y1 x2 y2 in continuous pixels of the image,
#              "labels": int [n], from 1, "scores": float [n], any range, higher is surer}.
# An image that is not in it has no detections.
Detections: TypeAlias = Mapping[str | int, Mapping[str, np.ndarray]]


def save_detections(path: Path, detections: Detections, category_ids: Sequence[int]) -> None:
    """Write COCO's results: [{"image_id", "category_id", "bbox": [x, y, w, h], "score"}, ...].

    Sorted by image, then from the highest score down; boxes in pixels to 4 decimals, scores
    to 6. The rounding can move a score into a tie or an overlap across 0.5: numbers that
    are to be found again from the file belong to what `load_detections` gives. `path` is
    replaced whole or not at all.

    Args:
        path: the file; its folder exists.
        detections: of any images; one without detections leaves nothing in the file.
        category_ids: `category_ids[label - 1]` is the data's own id of the class.

    Raises:
        ValueError: a label without a category, a number that is not finite, or a box whose
            right or lower side comes first.

    Source: https://cocodataset.org/#format-results.
    """
    rows: list[str] = []
    # Numbers before names, should a data set ever have both: the two do not compare.
    for image_id in sorted(detections, key=lambda name: (isinstance(name, str), name)):
        found = detections[image_id]
        boxes = np.asarray(found["boxes"], np.float64).reshape(-1, 4)
        labels = np.asarray(found["labels"])
        scores = np.asarray(found["scores"], np.float64)
        if len(labels) and not (labels.min() >= 1 and labels.max() <= len(category_ids)):
            raise ValueError(f"image {image_id!r}: a label is not in 1..{len(category_ids)}")
        for i in np.argsort(-scores, kind="stable"):
            x1, y1, x2, y2 = boxes[i].tolist()
            if x2 < x1 or y2 < y1:
                raise ValueError(f"image {image_id!r}: a box has a negative width or height")
            row = {
                "image_id": image_id,
                "category_id": category_ids[labels[i] - 1],
                "bbox": [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(float(scores[i]), 6),
            }
            rows.append(json.dumps(row, allow_nan=False))
    with replacing(path) as file:
        file.write(("[" + ",\n".join(rows) + "]\n").encode())


def load_detections(
    path: Path, category_ids: Sequence[int]
) -> dict[str | int, Mapping[str, np.ndarray]]:
    """Read COCO's results; what else a detection carries (a segmentation) is left.

    Args:
        path: the file.
        category_ids: the label of `category_ids[i]` is i + 1.

    Returns:
        `Detections` in the file's order, float64 and int64; images without any are absent.

    Raises:
        InputError: the file is unreadable or is not COCO's results for these categories.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {one_line(error)}") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: COCO results are a list of detections")

    labels = {category_id: i + 1 for i, category_id in enumerate(category_ids)}
    gathered: dict[str | int, list[tuple[list[float], int, float]]] = {}
    for number, row in enumerate(rows):
        image_id, detection = _read_row(row, labels, f"{path}: detection {number}")
        gathered.setdefault(image_id, []).append(detection)
    return {
        image_id: {
            "boxes": np.array([box for box, _, _ in found], np.float64),
            "labels": np.array([label for _, label, _ in found], np.int64),
            "scores": np.array([score for _, _, score in found], np.float64),
        }
        for image_id, found in gathered.items()
    }


def _read_row(
    row: Any, labels: Mapping[int, int], where: str
) -> tuple[str | int, tuple[list[float], int, float]]:
    """Image id, and (x1 y1 x2 y2, label, score). `where` begins every complaint."""
    if not isinstance(row, dict):
        raise InputError(f"{where}: not an object")
    for key in ("image_id", "category_id", "bbox", "score"):
        if key not in row:
            raise InputError(f"{where}: no {key}")
    image_id, category_id = row["image_id"], row["category_id"]
    if not isinstance(image_id, str | int) or isinstance(image_id, bool):
        raise InputError(f"{where}: image_id {image_id!r} is neither a name nor a number")
    if not isinstance(category_id, int) or category_id not in labels:
        raise InputError(f"{where}: category_id {category_id!r} is not one of the data's")
    bbox = row["bbox"]
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise InputError(f"{where}: bbox is not four numbers")
    x, y, width, height = (_finite(value, f"{where}: bbox") for value in bbox)
    if width < 0 or height < 0:
        raise InputError(f"{where}: bbox has a negative width or height")
    score = _finite(row["score"], f"{where}: score")
    return image_id, ([x, y, x + width, y + height], labels[category_id], score)


def _finite(value: Any, what: str) -> float:
    # Python's JSON takes NaN, Infinity and integers beyond any float.
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{what} is not a finite number")
    return number
