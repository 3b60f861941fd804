"""Work over many images in shards, so that a kill costs one shard.

A shard is a file, written aside and renamed (`stages.writing`): what exists is whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shard:
    """Images `start` to `stop` (exclusive) and the file that holds what was made of them."""

    path: Path
    start: int
    stop: int


def shards(folder: Path, images: int, size: int, suffix: str) -> list[Shard]:
    """All shards of so many images, in order; made or not (`shard.path.exists()`)."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        Shard(
            folder / f"{start:07d}-{min(start + size, images):07d}{suffix}",
            start,
            min(start + size, images),
        )
        for start in range(0, images, size)
    ]


def unmade(all_shards: list[Shard]) -> list[Shard]:
    """Those still to make."""
    return [shard for shard in all_shards if not shard.path.exists()]
