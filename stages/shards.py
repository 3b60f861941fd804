"""Work over many images in shards, so that a kill costs one shard.

A shard is a file, written aside and renamed (`stages.writing`): what exists is whole, unless the disk
lost it since.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import h5py

from stages.errors import one_line
from stages.seals import check_zip


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
    """Those still to make; one that is there but damaged is removed, and said to be.

    All that an earlier attempt left is read through: less than making it, and far less than finding the
    damage when the stage is finished, which is then made again as a whole.
    """
    return [shard for shard in all_shards if not _is_there(shard.path)]


def _is_there(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        _read_through(path)
    except Exception as error:  # zip, HDF5 and NumPy fail on rubbish in many ways
        print(f"{path}: damaged ({one_line(error)[:80]}); making it again", file=sys.stderr)
        path.unlink()
        return False
    return True


def _read_through(path: Path) -> None:
    """Raises where a checksum in the file is wrong."""
    if path.suffix == ".npz":
        check_zip(path)
    elif path.suffix == ".h5":
        with h5py.File(path) as file:
            file.visititems(_read_array)


def _read_array(name: str, item: h5py.Group | h5py.Dataset) -> None:
    if isinstance(item, h5py.Dataset):
        if item.nbytes > item.id.get_storage_size():  # else terabytes would be allocated
            raise ValueError(f"{name} declares {item.nbytes} bytes, and holds fewer")
        item[()]
