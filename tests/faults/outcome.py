"""What a run leaves, as far as it may not depend on what happened on the way."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

# What a run says of how it went, not of what came out; `files` and `digest` are checksums of that too.
OF_THE_WAY = ("seconds", "train_seconds", "peak_memory_mib", "peak_cuda_mib", "files", "digest")
# The same in words; a copy of the artifact's manifest; TensorBoard's files have the time in their names.
NOT_COMPARED = ("summary.txt", "manifest.json")


def outcome(folder: Path) -> dict[str, str]:
    """Of a run's folder: each file and its checksum, `metrics.json` without times and memory.

    Raises:
        OSError: it is not there.
        ValueError: `metrics.json` is damaged.
    """
    metrics = json.loads((folder / "metrics.json").read_text())
    found = {"metrics.json": json.dumps(_without_the_way(metrics), sort_keys=True)}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("metrics.json", *NOT_COMPARED):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(ours: dict[str, str], whole: dict[str, str]) -> list[str]:
    """The files that differ, or that only one has."""
    return sorted(name for name in {*ours, *whole} if ours.get(name) != whole.get(name))


def _without_the_way(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_the_way(item) for k, item in value.items() if k not in OF_THE_WAY}
    return [_without_the_way(item) for item in value] if isinstance(value, list) else value
