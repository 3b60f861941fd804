"""Reading YOLO's files: data.yaml, lists of images, label files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped]

from stages.data.files import is_writable
from stages.errors import InputError, check_regular, one_line

# Annotators' boxes run a little over the edge; numbers beyond this are no parts of an image.
FARTHEST = 2.0


# Of data.yaml, bytes: ten thousand classes take less, and PyYAML a second for each 200,000.
LARGEST = 2**19


class _Loader(yaml.SafeLoader):
    """PyYAML's safe one, without merge keys (`<<`): a few lines of them are gigabytes."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leaves merge keys as they are, for which there is then no constructor."""


@dataclass(frozen=True)
class YoloConfig:
    """What data.yaml says.

    Attributes:
        names: of the classes, by number.
        splits: where each split's images are, as written.
        path: the folder these are below, as written.
    """

    names: dict[int, str]
    splits: dict[str, list[str]]
    path: str | None


@dataclass(frozen=True, eq=False)
class Label:
    """A line of a label file.

    Attributes:
        number: of the class.
        box: float64 [4] x1 y1 x2 y2, in parts of the image's width and height.
        polygon: float64 [2P] x y x y .., likewise; None where the line gives a box.
    """

    number: int
    box: np.ndarray
    polygon: np.ndarray | None


def read_config(path: Path) -> YoloConfig:
    """Read data.yaml.

    Raises:
        InputError: it is unreadable, not YAML, or lacks the classes' names.
    """
    try:
        check_regular(path)
        text = path.read_bytes()
        if len(text) > LARGEST:
            raise InputError(f"{path}: {len(text)} bytes, over {LARGEST}")
        data = yaml.load(text, _Loader)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (
        # A tag that does not fit its value (!!bool maybe) is no YAMLError in PyYAML.
        *(yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError),
        *(ArithmeticError, RecursionError),
    ) as error:
        raise InputError(f"{path}: not readable as YAML: {one_line(error)}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: is no list of `names:`, `train:` and `val:`")
    if "kpt_shape" in data:
        # Its lines would pass for outlines.
        raise InputError(f"{path}: labels of keypoints (kpt_shape), where boxes are wanted")
    names = _names(path, data)
    count = data.get("nc", len(names))
    if count != len(names):
        raise InputError(f"{path}: nc is {shown(count)}, but there are {len(names)} names")
    base = data.get("path")
    if base is not None and not isinstance(base, str):
        raise InputError(f"{path}: path is {shown(base)}, not a folder's")
    splits: dict[str, list[str]] = {}
    for key, value in data.items():
        entries = value if isinstance(value, list) else [value]
        if str(key).startswith(("train", "val", "test")) and value is not None:
            if not entries or not all(isinstance(entry, str) and entry for entry in entries):
                raise InputError(f"{path}: {key} is {shown(value)}, not a folder or list of images")
            splits[str(key)] = entries
    return YoloConfig(names, splits, base)


def _names(path: Path, data: dict[Any, Any]) -> dict[int, str]:
    given = data.get("names")
    if isinstance(given, list):
        given = dict(enumerate(given))
    if not isinstance(given, dict) or not given:
        raise InputError(f"{path}: has no `names:`, a list or dictionary of the classes")
    names: dict[int, str] = {}
    for number, name in given.items():
        if type(number) is not int or number < 0:
            raise InputError(f"{path}: names: class {shown(number)} is not a number from 0")
        if type(name) not in (str, int) or not str(name).strip():
            # YAML takes `no` for false, and `1.0` is not 1.
            raise InputError(f"{path}: names: class {number} is {shown(name)}, no name; quote it")
        if not is_writable(str(name)):
            raise InputError(f"{path}: names: class {number}: no file can hold {shown(name)}")
        names[number] = str(name)
    if len(set(names.values())) < len(names):
        ((twice, _),) = Counter(names.values()).most_common(1)
        raise InputError(f"{path}: names: two classes are {twice!r}")
    return names


def read_list(path: Path) -> list[str]:
    """The images named in a .txt list, as written.

    Raises:
        InputError: the file is unreadable.
    """
    return [line.strip() for line in _lines(path) if line.strip()]


def read_labels(path: Path, names: Mapping[int, str]) -> list[Label]:
    """The objects in a label file, in its order.

    Raises:
        InputError: naming the line, when it is not a class and a box or an outline.
    """
    labels = []
    for place, line in enumerate(_lines(path), 1):
        fields = line.split()
        if fields:
            try:
                labels.append(_label(fields, names))
            except ValueError as error:
                raise InputError(f"{path}:{place}: {error}") from None
    return labels


def _label(fields: list[str], names: Mapping[int, str]) -> Label:
    """Raises ValueError, saying what is wrong with the fields."""
    if len(fields) != 5 and (len(fields) < 7 or len(fields) % 2 == 0):
        raise ValueError(
            f"{len(fields)} fields, but `class x y width height` are 5, "
            "and `class x y x y x y ..` an odd number from 7"
        )
    values = [_number(field) for field in fields]
    if values[0] not in names:
        raise ValueError(f"class {fields[0]}, but data.yaml names {min(names)} to {max(names)}")
    numbers = np.array(values[1:])
    if not (np.abs(numbers) <= FARTHEST).all():
        raise ValueError("numbers are not parts of the image's size, from 0 to 1")
    if len(numbers) == 4:
        centre, size = numbers[:2], numbers[2:]
        box = np.concatenate([centre - size / 2, centre + size / 2])
        return Label(int(values[0]), box, None)
    corners = numbers.reshape(-1, 2)
    return Label(int(values[0]), np.concatenate([corners.min(0), corners.max(0)]), numbers)


def _number(field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{shown(field)} is not a number")
    return value


def _lines(path: Path) -> list[str]:
    try:
        check_regular(path)
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {one_line(error)}") from None
