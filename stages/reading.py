"""HDF5 files as they should be: what one declares is checked before it is read.

A damaged file, or one made to harm, may declare terabytes that it does not hold, have a group or
text where numbers belong, or point to other files. HDF5 would allocate, or follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from stages.errors import DamagedError, one_line


@contextmanager
def damage_named(path: Path, what: str = "not readable") -> Iterator[None]:
    """Whatever goes wrong with reading `path` in the block is a `DamagedError`: `<path>: <what>: ..`.

    HDF5 fails on rubbish with half a dozen kinds of exception.
    """
    try:
        yield
    except DamagedError:
        raise
    except Exception as error:
        raise DamagedError(path, f"{what}: {one_line(error)[:200]}") from None


def dataset(file: h5py.File, name: str, kinds: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    """A dataset of the file that is what it should be, and no larger than what is stored of it.

    Args:
        kinds: of NumPy's `dtype.kind`, any of these; "S": text of one length. Text of any length is never
            read: HDF5 keeps it in a heap without checksums, and on a damaged one may go round for ever.
        shape: None: any length.

    Raises:
        ValueError: it is something else, compressed (the project writes none such), or elsewhere.
        KeyError, RuntimeError: there is none, or the file is damaged.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is in another file" if name in file else f"has no {name}")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name} is no array")
    if found.is_virtual or found.external:
        raise ValueError(f"{name} is in another file")
    if h5py.check_string_dtype(found.dtype) is not None and found.dtype.kind == "O":
        raise ValueError(f"{name} is text of any length; it must be of one, as NumPy's 'S' is")
    if found.dtype.kind not in kinds:
        raise ValueError(f"{name} is of type {found.dtype}")
    given = found.shape  # None of an empty one, () of a scalar
    if given is None or len(given) != len(shape):
        raise ValueError(f"{name} has shape {given}")
    if any(length not in (None, of_given) for length, of_given in zip(shape, given, strict=True)):
        raise ValueError(f"{name} has shape {given}")
    if found.nbytes > found.id.get_storage_size():
        raise ValueError(f"{name} declares {found.nbytes} bytes, and holds fewer")
    return found


def rows_of(offsets: np.ndarray, rows: int) -> np.ndarray:
    """`offsets` [N + 1] themselves, where N parts begin, and the last ends, in an array of so many rows.

    Raises:
        ValueError: they are not from 0 up to `rows`.
    """
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets do not go from 0 up to {rows}")
    return offsets
