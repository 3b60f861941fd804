"""Files that are there whole or not at all, and that say so when the disk is full."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

CHUNK = 4096  # rows: what is read and checked at once


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; it becomes `path` when the block ends well, and is gone when it does not.

    Its name aside is always the same, so that what a kill leaves is written over.
    """
    aside = path.with_name(f".{path.name}")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to write to, whole at the end.

    It is made in memory first: HDF5 that cannot write where it must takes the process down with
    it (a segmentation fault at a full disk), and one that is open at `kill -9` is lost. In its
    newer formats (1.10 and later) what HDF5 itself writes, where chunks are and so on, has checksums.
    """
    made = io.BytesIO()
    with h5py.File(made, "w", libver=("v110", "v110")) as file:
        yield file
    with replacing(path) as out:
        out.write(made.getbuffer())


def write_rows(file: h5py.File, name: str, rows: np.ndarray) -> None:
    """`rows` [n, ..] as a dataset whose chunks carry their checksums, which only chunks can have.

    Text of variable length is not for it: HDF5 keeps that elsewhere, and only the places have checksums.
    """
    length = max(1, min(len(rows), CHUNK))
    file.create_dataset(
        name,
        data=rows,
        chunks=(length, *rows.shape[1:]),
        maxshape=(None, *rows.shape[1:]),
        fletcher32=True,
    )


def append_rows(file: h5py.File, name: str, rows: np.ndarray) -> None:
    """`rows` [n, D] at the end of a dataset whose chunks carry their checksums; made if missing."""
    if name not in file:
        width = rows.shape[1]
        file.create_dataset(
            name,
            shape=(0, width),
            maxshape=(None, width),
            chunks=(256, width),
            dtype=rows.dtype,
            fletcher32=True,
        )
    there = file[name]
    before = len(there)
    there.resize(before + len(rows), axis=0)
    there[before:] = rows
