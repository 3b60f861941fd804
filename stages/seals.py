"""Files that are known to be what was written: checksums, and JSON that carries its own."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

from stages.errors import one_line

# Above this, an HDF5 file is trusted to its chunks' own fletcher32, checked as they are read:
# hashing R-CNN's feature cache (hundreds of GB at VOC's size) on every run would take hours.
LARGE = 8 * 2**20
SEAL = "digest"


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def checksum(file: Path) -> dict[str, Any]:
    """Its size in `bytes`, and its `sha256` unless it is a large HDF5 file.

    Raises:
        OSError: it cannot be read.
    """
    size = file.stat().st_size
    if file.suffix == ".h5" and size > LARGE:
        return {"bytes": size}
    with open(file, "rb") as opened:
        return {"bytes": size, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}


def check_zip(path: Path) -> None:
    """Read through a zip archive, as `.npz` and PyTorch's files are, for the checksums that it holds.

    Raises:
        ValueError: naming the record that is not what was written.
        Exception: of any kind: it is no archive, or its list of records is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{one_line(damaged)[:80]} is not what was written")


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """As it is after a round trip through JSON, and its `digest`."""
    plain = json.loads(json.dumps(value))
    return {**plain, SEAL: digest(plain)}


def is_sealed(value: dict[str, Any]) -> bool:
    """Whether it is what was sealed."""
    return value.get(SEAL) == digest({key: value[key] for key in value if key != SEAL})
