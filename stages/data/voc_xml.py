"""VOC's XML, one file an image, as the devkit has it and as labelImg, CVAT, Roboflow and others write it.

N objects in an image. Boxes in the XML are 1-based inclusive pixel indices: column `xmin` is the
first that the object covers, `xmax` the last. Ours are continuous, so x1 = xmin - 1 and x2 = xmax.
This is the one place that knows.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from stages.data.by_name import Marked, own_size
from stages.data.files import is_writable
from stages.errors import InputError, check_regular, one_line

# A side of an image, in pixels, is below this; no format has longer ones.
LARGEST = 2**31

# What a file begins with that says how it is encoded, whatever its declaration says.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, eq=False)
class Annotation:
    """What an XML says of its image.

    Attributes:
        size: the image's width and height; None where the file has none, or 0×0, as labelImg writes it.
        names: of the N objects' classes.
        boxes: float64 [N, 4] xyxy, continuous, not cut to the image.
        difficult: bool [N].
        filename: the image's, as written; empty where it is not.
    """

    size: tuple[int, int] | None
    names: list[str]
    boxes: np.ndarray
    difficult: np.ndarray
    filename: str


def read_annotation(path: Path) -> Annotation:
    """One annotation file. Parts of an object (`<part>`) are no objects.

    Raises:
        InputError: the file is missing, is no XML, has half a size, or a number that is none.
    """
    try:
        check_regular(path)
        root = fromstring(_decoded(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except (ParseError, DefusedXmlException, LookupError, ValueError, OSError) as error:
        raise InputError(f"{path}: not readable as XML: {one_line(error)}") from None
    names, boxes, difficult = [], [], []
    for thing in root.iter("object"):
        name = (thing.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{path}: an object without a name")
        if not is_writable(name):
            raise InputError(f"{path}: an object whose name no file can hold")
        names.append(name)
        xmin, ymin, xmax, ymax = (
            _number(path, thing, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
        )
        boxes.append((xmin - 1, ymin - 1, xmax, ymax))
        difficult.append((thing.findtext("difficult") or "0").strip() == "1")
    return Annotation(
        size=_size(path, root),
        names=names,
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        difficult=np.array(difficult, bool),
        filename=(root.findtext("filename") or "").strip(),
    )


def read_marked(
    annotation: Path, image_id: str, image: Path, mask_path: Path | None = None
) -> Marked:
    """An image and the objects that its annotation file marks.

    Where the file has no size it is the image's own, and an unreadable image has no objects.

    Raises:
        InputError: see `read_annotation`.
    """
    said = read_annotation(annotation)
    width, height = said.size or own_size(image)
    if (width, height) == (0, 0):
        return Marked.bare(image_id, image, (0, 0))
    return Marked(
        image_id=image_id,
        path=image,
        width=width,
        height=height,
        names=said.names,
        boxes=said.boxes,
        difficult=said.difficult,
        outlines=(None,) * len(said.names),
        mask_path=mask_path,
    )


def _decoded(content: bytes) -> str | bytes:
    """The text, if the file's first bytes tell its encoding; else as it is, for XML's own rules."""
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    return content


def _size(path: Path, root: Element) -> tuple[int, int] | None:
    if not any((root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")):
        return None
    width, height = (int(_number(path, root, f"size/{side}")) for side in ("width", "height"))
    if width == height == 0:
        return None
    if min(width, height) <= 0 or max(width, height) >= LARGEST:
        raise InputError(f"{path}: image size {width}x{height}")
    return width, height


def _number(path: Path, element: Element, tag: str) -> float:
    text = element.findtext(tag)
    try:
        value = float(text) if text is not None else float("nan")
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise InputError(f"{path}: <{tag.replace('/', '><')}> is {text!r}, not a number")
    return value
