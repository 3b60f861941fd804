"""JSON files as the dataclasses they were written from, every value's type checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from stages.errors import InputError, check_regular, one_line

T = TypeVar("T")
LARGEST = 2**53  # up to which every whole number is a float


def read_typed(path: Path, kind: type[T], what: str) -> T:
    """A JSON file as a `kind`, a dataclass whose fields may be others; tuples come from lists.

    Args:
        what: the file should be of, for the message.

    Raises:
        InputError: it is missing, or does not say such a thing: all of its fields and no others.
    """
    try:
        check_regular(path)
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: not of {what}: {error.strerror}") from None
    value = parse_typed(text, kind, path, what)
    differs = _difference(json.loads(text), TypeAdapter(kind).dump_python(value, mode="json"))
    if differs is not None:
        raise InputError(f"{path}: not of {what}: {differs}: no such field, or it is missing")
    for number in _numbers(json.loads(text)):
        if not -LARGEST <= number <= LARGEST:  # nan is neither
            raise InputError(
                f"{path}: not of {what}: {one_line(number)[:40]} is no number of anything"
            )
    return value


def _numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)
    elif isinstance(value, int | float):
        yield value


def parse_typed(text: bytes, kind: type[T], path: Path, what: str) -> T:
    """The JSON in `path` as a `kind`; fields that it does not have are left, its defaults taken.

    Raises:
        InputError: a value is missing or of another type.
    """
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: not of {what}: {f'{place}: ' if place else ''}{first['msg']}"
        ) from None


def _difference(given: Any, known: Any) -> str | None:
    """Where two JSON values first differ: a field too many, too few, or a number that is none."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key in sorted(given.keys() | known.keys()):
            if key not in given or key not in known:
                return str(key)
            inner = _difference(given[key], known[key])
            if inner is not None:
                return f"{key}.{inner}" if inner else str(key)
        return None
    return None if given == known else ""
