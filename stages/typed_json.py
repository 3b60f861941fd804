"""JSON files as the dataclasses they were written from, every value's type checked."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from stages.errors import InputError

T = TypeVar("T")


def read_typed(path: Path, kind: type[T], what: str) -> T:
    """A JSON file as a `kind`, a dataclass whose fields may be others; tuples come from lists.

    Args:
        what: the file should be of, for the message.

    Raises:
        InputError: it is missing, or does not say such a thing.
    """
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise InputError(f"{path}: not of {what}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: not of {what}: {f'{place}: ' if place else ''}{first['msg']}"
        ) from None
