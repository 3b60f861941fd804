"""What a detector reported, and its file: COCO's results format, one detection a line.

n detections in one image of height H and width W.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from stages.data.records import Record
from stages.errors import InputError, check_regular, one_line
from stages.evaluation.run_lengths import Size, detected_masks, read_mask
from stages.writing import replacing

# image id -> {"boxes": float [n, 4], x1 y1 x2 y2 in continuous pixels of the image,
#              "labels": int [n], from 1, "scores": float [n], any range, higher is surer,
#              and of a detector of masks "segmentation": 'S' [n], COCO's compressed run lengths
#              of a mask [H, W] of the image's size: bytes without NULs, so that NumPy keeps them;
#              of a file "xywh": float64 [n, 4], its x y width height, for COCO's evaluation}.
# An image that is not in it has no detections.
Detections: TypeAlias = Mapping[str | int, Mapping[str, np.ndarray]]
Sizes: TypeAlias = Mapping[str | int, Size]  # by image id


def sizes_of(records: Sequence[Record]) -> dict[str | int, Size]:
    """What `save_detections` and `load_detections` hold masks against."""
    return {record.image_id: (record.height, record.width) for record in records}


def save_detections(
    path: Path, detections: Detections, category_ids: Sequence[int], sizes: Sizes | None = None
) -> None:
    """Write COCO's results: [{"image_id", "category_id", "bbox": [x, y, w, h], "score"}, ...].

    A detection with a mask has "segmentation": {"size": [H, W], "counts": run lengths} besides.
    Sorted by image, then from the highest score down; boxes in pixels to 4 decimals, scores
    to 6. The rounding can move a score into a tie or an overlap across 0.5: numbers that
    are to be found again from the file belong to what `load_detections` gives. `path` is
    replaced whole or not at all.

    Args:
        path: the file; its folder exists.
        detections: of any images; one without detections leaves nothing in the file.
        category_ids: `category_ids[label - 1]` is the data's own id of the class.
        sizes: of the images, at least of those whose detections have masks.

    Raises:
        ValueError: a label without a category, a number that is not finite, a box whose
            right or lower side comes first, or masks that are not of a known size, one for
            each detection.

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
        masks = []
        if "segmentation" in found:
            masks = detected_masks(image_id, found, (sizes or {}).get(image_id))
        for i in np.argsort(-scores, kind="stable"):
            x1, y1, x2, y2 = boxes[i].tolist()
            if x2 < x1 or y2 < y1:
                raise ValueError(f"image {image_id!r}: a box has a negative width or height")
            row: dict[str, Any] = {
                "image_id": image_id,
                "category_id": category_ids[labels[i] - 1],
                "bbox": [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(float(scores[i]), 6),
            }
            if masks:
                row["segmentation"] = {**masks[i], "counts": masks[i]["counts"].decode()}
            rows.append(json.dumps(row, allow_nan=False))
    with replacing(path) as file:
        file.write(("[" + ",\n".join(rows) + "]\n").encode())


def load_detections(
    path: Path, category_ids: Sequence[int], sizes: Sizes | None = None
) -> dict[str | int, Mapping[str, np.ndarray]]:
    """Read COCO's results; what else a detection carries (polygons, say) is left.

    Masks, which are compressed run lengths, are given only for an image whose every
    detection has one.

    Args:
        path: the file.
        category_ids: the label of `category_ids[i]` is i + 1.
        sizes: of images; a mask of another size than its image's is refused. Without them it
            need only be of the size that it says itself.

    Returns:
        `Detections` in the file's order, float64 and int64; images without any are absent.

    Raises:
        InputError: the file is unreadable or is not COCO's results for these categories,
            or a mask's run lengths are damaged or not of its size.
    """
    try:
        check_regular(path)
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {one_line(error)}") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: COCO results are a list of detections")

    labels = {category_id: i + 1 for i, category_id in enumerate(category_ids)}
    gathered: dict[str | int, list[_Detection]] = {}
    for number, row in enumerate(rows):
        image_id, detection = _read_row(row, labels, sizes or {}, f"{path}: detection {number}")
        gathered.setdefault(image_id, []).append(detection)
    return {image_id: _arrays_of(found) for image_id, found in gathered.items()}


class _Detection(NamedTuple):
    box: list[float]  # x1 y1 x2 y2
    xywh: list[float]
    label: int
    score: float
    mask: bytes | None  # run lengths


def _arrays_of(found: Sequence[_Detection]) -> dict[str, np.ndarray]:
    arrays = {
        "boxes": np.array([one.box for one in found], np.float64),
        "labels": np.array([one.label for one in found], np.int64),
        "scores": np.array([one.score for one in found], np.float64),
        "xywh": np.array([one.xywh for one in found], np.float64),
    }
    masks = [one.mask for one in found]
    return arrays if None in masks else {**arrays, "segmentation": np.array(masks, np.bytes_)}


def _read_row(
    row: Any, labels: Mapping[int, int], sizes: Sizes, where: str
) -> tuple[str | int, _Detection]:
    """An image's id and a detection in it. `where` begins every complaint."""
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
    right, lower = (_finite(value, f"{where}: bbox") for value in (x + width, y + height))
    score = _finite(row["score"], f"{where}: score")
    mask = read_mask(row.get("segmentation"), sizes.get(image_id), f"{where}: segmentation")
    box, xywh = [x, y, right, lower], [x, y, width, height]
    return image_id, _Detection(box, xywh, labels[category_id], score, mask)


def _finite(value: Any, what: str) -> float:
    # Python's JSON takes NaN, Infinity and integers beyond any float.
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{what} is not a finite number")
    return number
