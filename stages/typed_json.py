"""JSON files as the dataclasses they were written from, every value's type checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from stages.errors import InputError

T = TypeVar("T")


def read_typed(path: Path, kind: type[T], what: str) -> T:
    """A JSON file as a `kind`, a dataclass whose fields may be others; tuples come from lists.

    Args:
        what: the file should be of, for the message.

    Raises:
        InputError: it is missing, or does not say such a thing: all of its fields and no others.
    """
    adapter = TypeAdapter(kind)
    try:
        text = path.read_bytes()
        value = adapter.validate_json(text, strict=True)
    except OSError as error:
        raise InputError(f"{path}: not of {what}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: not of {what}: {f'{place}: ' if place else ''}{first['msg']}"
        ) from None
    differs = _difference(json.loads(text), adapter.dump_python(value, mode="json"))
    if differs is not None:
        raise InputError(f"{path}: not of {what}: {differs}: no such field, or it is missing")
    return value


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
