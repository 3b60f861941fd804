"""Reading one file of COCO annotations, and refusing what is none.

N objects in an image.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as shown
from typing import Any, NamedTuple

import numpy as np

from stages.data.faults import Faults
from stages.data.files import is_writable, leaves_its_folder
from stages.data.objects import Named, cut
from stages.data.records import Segmentation
from stages.data.segmentation import polygons_of, run_lengths_of
from stages.data.size import MOST_TOLD
from stages.errors import InputError, check_regular, one_line

# Of a side, in pixels: no image of these formats has more; of an image as many as `size_of` tells.
LARGEST = 2**16
# Of a box from its image: farther is no number of pixels.
FARTHEST = 2.0**31


@dataclass(frozen=True, eq=False)
class CocoImage:
    """An image of the file, and its objects in the file's order.

    Attributes:
        image_id: the file's own.
        file_name: where it is, below a folder that the file does not tell.
        width, height: in pixels.
        annotations: N, the file's own ids of the objects.
        categories: int64 [N], the file's own ids.
        xywh: float64 [N, 4], x y width height as the file says.
        boxes: float32 [N, 4] xyxy, cut to the image.
        areas: float64 [N], the file's `area`; nan where it has none, or no number of pixels.
        iscrowd: bool [N].
        segmentations: N outlines; None for an object without.
    """

    image_id: int | str
    file_name: str
    width: int
    height: int
    annotations: tuple[int | str, ...]
    categories: np.ndarray
    xywh: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    iscrowd: np.ndarray
    segmentations: tuple[Segmentation | None, ...]


@dataclass(frozen=True, eq=False)
class CocoFile:
    """What the file says: its images, and the names of its categories by id."""

    path: Path
    images: list[CocoImage]
    categories: dict[int, str]

    @property
    def used(self) -> set[int]:
        """The categories that have an object; a crowd shows no single one."""
        found: set[int] = set()
        for image in self.images:
            found.update(image.categories[~image.iscrowd].tolist())
        return found


def read_coco(path: Path, faults: Faults) -> CocoFile:
    """Read a file of COCO annotations (instances).

    What is kept is in NumPy's arrays, a small part of what Python makes of 450 MB of JSON.

    Args:
        faults: an annotation that is wrong goes there, and is left out.

    Raises:
        InputError: it is no JSON, not COCO's instances, or contradicts itself; naming the image or
            category at fault.
    """
    try:
        check_regular(path)
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON: {one_line(error)}") from None
    categories: dict[int, str] = {}
    for number, entry in _entries(path, data, "categories"):
        if isinstance(number, str):
            raise InputError(f"{path}: category {number!r}: the id is not a number")
        categories[number] = _text(path, f"category {number}", entry, "name")
    sizes: dict[int | str, tuple[int, int]] = {}
    names: dict[int | str, str] = {}
    written: set[str] = set()
    for number, entry in _entries(path, data, "images"):
        if str(number) in written:  # proposals are kept by it
            raise InputError(f"{path}: two images have the id {number}, as a number and as a name")
        written.add(str(number))
        sizes[number], names[number] = _image(path, f"image {number!r}", entry)
    if not sizes:
        raise InputError(f"{path}: lists no image")
    objects: dict[int | str, list[tuple[int | str, *_Object]]] = {number: [] for number in sizes}
    odd = Odd(Named(), Named())
    for number, entry in _entries(path, data, "annotations"):
        image_id = entry.get("image_id")
        if not isinstance(image_id, int | str) or image_id not in sizes:
            what = f"there is no image {shown(image_id)}"
            faults.lines.append(f"{path}: annotation {number!r}: {what}")
            continue
        what = f"annotation {number!r} of {names[image_id]!r}"
        try:
            found = _object(entry, categories, *sizes[image_id], odd, what)
            objects[image_id].append((number, *found))
        except ValueError as error:
            faults.lines.append(one_line(f"{path}: {what}: {error}"))
    odd.flat.report(f"{path}: outlines without brackets of their own, taken for one polygon")
    odd.broken.report(f"{path}: outlines that are no x y pairs, left out; their boxes stay")
    images = [
        _gathered(number, names[number], sizes[number], of_image)
        for number, of_image in objects.items()
    ]
    return _brushed(CocoFile(path, images, categories))


def _brushed(file: CocoFile) -> CocoFile:
    """The file, its crowds taken for objects where there are no others: CVAT marks what a brush drew so."""
    crowds = sum(int(image.iscrowd.sum()) for image in file.images)
    if crowds == 0 or file.used:
        return file
    print(f"{file.path}: all {crowds} annotations are crowds: taken for objects", file=sys.stderr)
    images = [replace(image, iscrowd=np.zeros_like(image.iscrowd)) for image in file.images]
    return replace(file, images=images)


class Odd(NamedTuple):
    """What is odd about outlines and is read all the same.

    Attributes:
        flat: lists of numbers where a list of polygons belongs; broken: an odd number of numbers.
    """

    flat: Named
    broken: Named


# category, box xywh, area, crowd, outline
_Object = tuple[int, list[float], float, bool, Segmentation | None]


def _gathered(
    number: int | str,
    name: str,
    size: tuple[int, int],
    objects: list[tuple[int | str, *_Object]],
) -> CocoImage:
    xywh = np.array([box for _, _, box, *_ in objects], np.float64).reshape(-1, 4)
    return CocoImage(
        number,
        name,
        *size,
        annotations=tuple(annotation for annotation, *_ in objects),
        categories=np.array([category for _, category, *_ in objects], np.int64),
        xywh=xywh,
        boxes=cut(corners_of(xywh), *size),
        areas=np.array([area for _, _, _, area, *_ in objects], np.float64),
        iscrowd=np.array([crowd for *_, crowd, _ in objects], bool),
        segmentations=tuple(outline for *_, outline in objects),
    )


def corners_of(xywh: np.ndarray) -> np.ndarray:
    """Boxes [N, 4], x y width height, as x1 y1 x2 y2."""
    return np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])


def _entries(path: Path, data: Any, key: str) -> Iterator[tuple[int | str, Mapping[str, Any]]]:
    """The id and the content of each entry of a list in the file."""
    entries = data.get(key) if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{path}: not COCO's instances: has no list of {key}")
    seen = set()
    for place, entry in enumerate(entries):
        number: Any = entry.get("id") if isinstance(entry, dict) else None
        if type(number) not in (int, str) or (isinstance(number, int) and abs(number) >= 2**63):
            raise InputError(f"{path}: {key}[{place}] has no id that is a number or a name")
        if not is_writable(str(number)):
            raise InputError(f"{path}: {key}[{place}]: no file can hold its id, {shown(number)}")
        if number in seen:
            raise InputError(f"{path}: two {key} have the id {number!r}")
        seen.add(number)
        yield number, entry


def _image(path: Path, what: str, entry: Mapping[str, Any]) -> tuple[tuple[int, int], str]:
    """Width and height, and file name."""
    if "file_name" not in entry and isinstance(entry.get("coco_url"), str):
        # LVIS: http://images.cocodataset.org/train2017/000000391895.jpg
        entry = {**entry, "file_name": "/".join(entry["coco_url"].split("/")[-2:])}
    file_name = _text(path, what, entry, "file_name").replace("\\", "/")
    if leaves_its_folder(file_name):
        raise InputError(f"{path}: {what}: {file_name!r} is not a path below the data's folder")
    width: Any = entry.get("width")
    height: Any = entry.get("height")
    for side in (width, height):
        if type(side) not in (int, float) or side != side // 1 or not 0 < side <= LARGEST:
            raise InputError(f"{path}: {what}: size {shown(width)}x{shown(height)}")
    if width * height > MOST_TOLD:
        raise InputError(f"{path}: {what}: size {shown(width)}x{shown(height)}")
    return (int(width), int(height)), file_name


def _object(
    entry: Mapping[str, Any],
    categories: Mapping[int, str],
    width: int,
    height: int,
    odd: Odd,
    what: str,
) -> _Object:
    """Raises ValueError, saying what is wrong with the entry."""
    category, crowd = entry.get("category_id"), entry.get("iscrowd", 0)
    if type(category) is not int or category not in categories:
        raise ValueError(f"there is no category {shown(category)}")
    if crowd not in (0, 1):
        raise ValueError(f"iscrowd is {shown(crowd)}, not 0 or 1")
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not set(map(type, box)) <= {int, float}:
        raise ValueError(f"bbox {shown(box)} is not four numbers")
    # An integer of hundreds of digits compares well, but converts to no float.
    if not all(-FARTHEST <= value <= FARTHEST for value in box):  # nan is neither
        raise ValueError(f"bbox {shown(box)} is not four numbers of pixels")
    area: Any = entry.get("area")
    has_area = type(area) in (int, float) and 0 <= area <= FARTHEST**2
    outline: Segmentation | None = None
    given = entry.get("segmentation")
    if isinstance(given, dict):
        outline = run_lengths_of(given, width, height)
    elif isinstance(given, list):
        outline = _polygons(given, width, height, odd, what)
    elif given is not None:
        raise ValueError(f"segmentation {shown(given)} is neither polygons nor run lengths")
    return category, box, float(area) if has_area else math.nan, bool(crowd), outline


def _polygons(
    given: list[Any], width: int, height: int, odd: Odd, what: str
) -> tuple[np.ndarray, ...] | None:
    """The outline of a list of polygons; None: there is none, or none that can be told."""
    if given and set(map(type, given)) <= {int, float}:
        odd.flat.add(what)
        given = [given]
    paired = [p for p in given if not isinstance(p, list) or len(p) % 2 == 0]
    if len(paired) < len(given):
        odd.broken.add(what)
        return None  # a part of an outline is not the object's
    return polygons_of(given, width, height) if given else None


def _text(path: Path, what: str, entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{path}: {what}: its {key} is {shown(value)}")
    if not is_writable(value):
        raise InputError(f"{path}: {what}: no file can hold its {key}, {shown(value)}")
    return value
