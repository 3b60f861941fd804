"""Proposals on disk: one HDF5 file, images in the data set's order.

N images, P proposals of all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from stages.data.records import Record
from stages.errors import InputError, check_regular
from stages.reading import damage_named, dataset, rows_of
from stages.writing import hdf5, write_rows


def write_proposals(path: Path, records: Sequence[Record], boxes: Sequence[np.ndarray]) -> None:
    """Write `boxes[i]`, float32 [P_i, 4] xyxy, best first, for `records[i]`."""
    offsets = np.cumsum([0, *(len(b) for b in boxes)])
    together = np.concatenate(boxes) if len(boxes) else np.zeros((0, 4), np.float32)
    names = [str(r.image_id).encode() for r in records]
    # Of one length: text of any length would be kept where HDF5 has no checksums.
    text = h5py.string_dtype(length=max([1, *map(len, names)]))
    with hdf5(path) as file:
        write_rows(file, "boxes", together)
        write_rows(file, "offsets", offsets.astype(np.int64))
        sizes = np.array([(r.width, r.height) for r in records], np.int64)
        write_rows(file, "sizes", sizes.reshape(-1, 2))
        write_rows(file, "image_ids", np.array(names, text))


class Proposals:
    """Reads what `write_proposals` wrote; rows come from the disk when asked for.

    Args:
        path: the HDF5 file.

    Raises:
        InputError: it is a pipe or a device.
        DamagedError: it is missing or not such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        if path.exists():
            check_regular(path)
        with damage_named(path, "not a file of proposals"), h5py.File(path) as file:
            ids = [name.decode() for name in dataset(file, "image_ids", "S", (None,))[:]]
            boxes = dataset(file, "boxes", "f", (None, 4))
            offsets = dataset(file, "offsets", "i", (len(ids) + 1,))[:]
            self._offsets = rows_of(offsets, len(boxes))
            self._sizes = dataset(file, "sizes", "i", (len(ids), 2))[:]
        self._row = {image_id: i for i, image_id in enumerate(ids)}

    def of(self, record: Record, top: int | None = None) -> np.ndarray:
        """The record's proposals, float32 [P, 4] xyxy, best first, at most `top` of them.

        Raises:
            InputError: the file is of another data set: it lacks the image, or has another size for it.
            DamagedError: its checksum is wrong, or these are no boxes of the image.
        """
        row = self._row.get(str(record.image_id))
        if row is None or tuple(self._sizes[row]) != (record.width, record.height):
            raise InputError(
                f"{self.path}: proposals of another data set: nothing for {record.image_id!r} "
                f"at {record.width}x{record.height}"
            )
        start, stop = self._offsets[row], self._offsets[row + 1]
        if top is not None:
            stop = min(stop, start + top)
        with damage_named(self.path):  # a chunk's checksum is wrong, say
            if self._file is None:
                self._file = h5py.File(self.path)
            boxes: np.ndarray = self._file["boxes"][start:stop].astype(np.float32, copy=False)
            corners, size = boxes.reshape(-1, 2, 2), np.array([record.width, record.height])
            # A pixel is left for rounding; nan is no corner.
            if (
                not ((corners >= -1) & (corners <= size + 1)).all()
                or (corners[:, 0] > corners[:, 1]).any()
            ):
                raise ValueError(f"proposals that are no boxes of {record.image_id!r}")
        return boxes

    def __getstate__(self) -> dict[str, object]:
        # An open HDF5 handle must not cross into a loading worker: each opens its own.
        return {**self.__dict__, "_file": None}
