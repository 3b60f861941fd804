"""What a run leaves, as far as it may not depend on what happened on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What a run says of how it went, not of what came out; `files` and `digest` are checksums of that too.
OF_THE_WAY = ("seconds", "train_seconds", "peak_memory_mib", "peak_cuda_mib", "files", "digest")
# The same in words; a copy of the artifact's manifest; TensorBoard's files have the time in their names.
NOT_COMPARED = ("summary.txt", "manifest.json")


def outcome(folder: Path) -> dict[str, str]:
    """Of a run's folder: each file and its checksum, each value of `metrics.json` but times and memory.

    Raises:
        OSError: it is not there.
        ValueError: `metrics.json` is damaged.
    """
    metrics = json.loads((folder / "metrics.json").read_text())
    found = dict(_values(metrics, "metrics.json"))
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("metrics.json", *NOT_COMPARED):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(ours: dict[str, str], whole: dict[str, str]) -> list[str]:
    """The files and values that differ, or that only one has."""
    return sorted(name for name in {*ours, *whole} if ours.get(name) != whole.get(name))


def _values(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            if key not in OF_THE_WAY:
                yield from _values(inner, f"{name} {key}")
    elif isinstance(value, list) and value:
        for n, inner in enumerate(value):
            yield from _values(inner, f"{name} {n}")
    else:
        yield name, json.dumps(value)
