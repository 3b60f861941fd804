"""LabelMe's JSON: the shapes that someone drew on one image (AnyLabeling and X-AnyLabeling write it too).

N objects in an image, P points of a shape. Points are continuous pixels, but a `mask`'s two corners are
indices of pixels that belong to it.

Source: https://github.com/wkentaro/labelme
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco  # type: ignore[import-untyped]

from stages.data.files import is_writable
from stages.data.opening import FAULTS
from stages.data.records import Segmentation
from stages.data.segmentation import check_length, polygons_of
from stages.errors import InputError, check_regular, one_line

LARGEST = 2**31  # a side of an image, in pixels, is below this
FARTHEST = 2.0**31  # a point from its image, in pixels
MOST_PIXELS = 2**27  # of an image on which masks are drawn
CORNERS = 64  # of the polygon that stands for a circle


@dataclass(frozen=True, eq=False)
class LabelMeFile:
    """What the file says, its shapes not looked at yet.

    Attributes:
        size: the image's width and height; None where the file has none.
        image: where the image is, as written; empty where it is not.
        shapes: as in the JSON.
    """

    path: Path
    size: tuple[int, int] | None
    image: str
    shapes: list[Any]


@dataclass(eq=False)
class Objects:
    """The N objects of a file.

    Attributes:
        names: of their classes.
        boxes: xyxy, around all of an object's shapes.
        difficult: whether X-AnyLabeling's flag is set.
        outlines: None for an object one of whose shapes has none, as a rectangle.
        left_out: the kinds of the shapes that are no region, one for each.
        odd: why an outline is not used, for each such shape.
    """

    names: list[str] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    outlines: list[Segmentation | None] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


def is_labelme(path: Path) -> bool:
    """Whether a file may be LabelMe's, broken or not."""
    try:
        check_regular(path)
        return b'"shapes"' in path.read_bytes()
    except (OSError, InputError):
        return False


def read_labelme(path: Path) -> LabelMeFile:
    """Read the file. The copy of the image that it may hold (`imageData`) is left alone.

    Raises:
        InputError: it is no JSON, not LabelMe's, or has a size that is none.
    """
    try:
        check_regular(path)
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON: {one_line(error)}") from None
    shapes = data.get("shapes") if isinstance(data, dict) else None
    if not isinstance(shapes, list):
        raise InputError(f"{path}: not LabelMe's: has no list of shapes")
    width: Any = data.get("imageWidth") or None  # 0 is as good as none
    height: Any = data.get("imageHeight") or None
    size = None
    if (width, height) != (None, None):
        for side in (width, height):
            if type(side) not in (int, float) or not 1 <= side < LARGEST or side != side // 1:
                raise InputError(f"{path}: image size {shown(width)}x{shown(height)}")
        size = int(width), int(height)
    image = data.get("imagePath")
    return LabelMeFile(path, size, image if isinstance(image, str) else "", shapes)


def objects_of(file: LabelMeFile, width: int, height: int) -> Objects:
    """The objects on an image of this size, in the order of their first shapes.

    Shapes of one `group_id` and one label are parts of one object.

    Raises:
        InputError: naming the shape, when it is none.
    """
    parts: dict[tuple[Any, ...], list[_Part]] = {}
    objects = Objects()
    for place, shape in enumerate(file.shapes):
        try:
            if not isinstance(shape, dict):
                raise ValueError(f"is {shown(shape)}")
            label, kind, points = _label(shape), _kind(shape), _points(shape)
            part = _part(kind, points, shape, width, height)
        except ValueError as error:
            raise InputError(f"{file.path}: shapes[{place}]: {error}") from None
        if part is None:
            objects.left_out.append(kind)
            continue
        if part.why:
            objects.odd.append(part.why)
        group = shape.get("group_id")
        key = (label, place) if type(group) not in (int, str) else (label, type(group), group)
        parts.setdefault(key, []).append(part)
    for (label, *_), of_object in parts.items():
        left, top, right, bottom = zip(*(part.box for part in of_object), strict=True)
        objects.names.append(label)
        objects.boxes.append((min(left), min(top), max(right), max(bottom)))
        objects.difficult.append(any(part.difficult for part in of_object))
        try:
            objects.outlines.append(_joined([part.outline for part in of_object], width, height))
        except ValueError as error:
            objects.outlines.append(None)
            objects.odd.append(str(error))
    return objects


@dataclass(frozen=True, eq=False)
class _Part:
    """A shape: its box xyxy, its outline if it has one, or why that is not used."""

    box: tuple[float, float, float, float]
    difficult: bool
    outline: Segmentation | None = None
    why: str = ""


def _label(shape: dict[str, Any]) -> str:
    label = shape.get("label")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"its label is {shown(label)}")
    if not is_writable(label):
        raise ValueError(f"no file can hold its label, {shown(label)}")
    return label.strip()


def _kind(shape: dict[str, Any]) -> str:
    kind = shape.get("shape_type") or "polygon"  # which old files do not say
    if not isinstance(kind, str):
        raise ValueError(f"its shape_type is {shown(kind)}")
    return kind


def _points(shape: dict[str, Any]) -> np.ndarray:
    """float64 [P, 2] x y."""
    points = shape.get("points")
    if not isinstance(points, list):
        raise ValueError(f"its points are {shown(points)}")
    for point in points:
        pair = isinstance(point, list) and len(point) == 2 and set(map(type, point)) <= {int, float}
        # An integer of hundreds of digits compares well, but converts to no float.
        if not pair or not all(-FARTHEST <= value <= FARTHEST for value in point):  # nor is nan
            raise ValueError(f"a point is {shown(point)}, not two numbers of pixels")
    return np.array(points, np.float64).reshape(-1, 2)


def _part(
    kind: str, points: np.ndarray, shape: dict[str, Any], width: int, height: int
) -> _Part | None:
    """None for what is no region: a point, a line, a polygon of two points."""
    if len(points) < {"polygon": 3, "rotation": 3, "rectangle": 2, "circle": 2, "mask": 2}.get(
        kind, len(points) + 1
    ):
        return None
    difficult = shape.get("difficult") is True
    if kind == "circle":  # its centre, and a point on it
        angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        points = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    if kind == "rectangle":
        return _Part((x1, y1, x2, y2), difficult)
    box = (x1, y1, x2 + 1, y2 + 1) if kind == "mask" else (x1, y1, x2, y2)
    try:
        outline: Segmentation = (
            _mask(shape.get("mask"), (x1, y1, x2, y2), width, height)
            if kind == "mask"
            else polygons_of([points.ravel().tolist()], width, height)
        )
    except ValueError as error:
        return _Part(box, difficult, why=str(error))
    return _Part(box, difficult, outline)


def _mask(png: Any, corners: tuple[float, ...], width: int, height: int) -> bytes:
    """Run lengths of a mask that is given as the PNG of its part of the image, in base64.

    Raises:
        ValueError: it is none, or not of the size that its corners (indices of pixels) say.
    """
    x1, y1, x2, y2 = map(int, corners)
    if x1 < 0 or y1 < 0 or x2 >= width or y2 >= height or width * height > MOST_PIXELS:
        raise ValueError(f"a mask that does not lie in the image of {width}x{height}")
    if not isinstance(png, str):
        raise ValueError("a mask without its pixels")
    try:
        with Image.open(BytesIO(base64.b64decode(png)), formats=("PNG",)) as image:
            if image.size != (x2 - x1 + 1, y2 - y1 + 1):
                raise ValueError("a mask of another size than its corners say")
            pixels = np.asarray(image.convert("L")) > 0
    except FAULTS as error:
        raise ValueError(f"a mask that is unreadable: {one_line(error)}") from None
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[y1 : y2 + 1, x1 : x2 + 1] = pixels
    runs: bytes = coco.encode(mask)["counts"]
    return runs


def _joined(
    outlines: Iterable[Segmentation | None], width: int, height: int
) -> Segmentation | None:
    """One outline of all parts of an object; None where one has none.

    Raises:
        ValueError: together they are too long.
    """
    polygons: list[np.ndarray] = []
    masks: list[bytes] = []
    for outline in outlines:
        if outline is None:
            return None
        if isinstance(outline, bytes):
            masks.append(outline)
        else:
            polygons += outline
    check_length(polygons)
    if not masks:
        return tuple(polygons)
    if len(masks) == 1 and not polygons:
        return masks[0]
    runs = [{"size": [height, width], "counts": mask} for mask in masks]
    runs += coco.frPyObjects(polygons, height, width) if polygons else []
    together: bytes = coco.merge(runs)["counts"]
    return together
