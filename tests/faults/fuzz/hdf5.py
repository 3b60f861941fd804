"""The HDF5 files: proposals, which may come from elsewhere, and our own caches of features and maps."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st

from rcnn_v1.features import FeatureCache
from spp_net.maps import MapCache
from stages.data.records import Record
from stages.proposals.cache import Proposals, write_proposals
from stages.store import Artifact
from stages.writing import append_rows, hdf5, write_rows
from tests.faults.fuzz.reader import Case, Reader

WIDTH, HEIGHT, IMAGES, CHANNELS = 40, 30, 3, 8


def _records() -> list[Record]:
    none = np.zeros((0, 4), np.float32)
    flags = np.zeros(0, bool)
    return [
        Record(
            f"image-{n}",
            Path(f"{n}.jpg"),
            WIDTH,
            HEIGHT,
            none,
            flags.astype(np.int64),
            flags,
            flags,
        )
        for n in range(IMAGES)
    ]


# Files with one dataset wrong ---------------------------------------------------------------------

Content = dict[str, Any]


def _bytes_of(content: Mapping[str, Any]) -> bytes:
    """An HDF5 file of arrays, or of what functions put there."""
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        for name, value in content.items():
            if callable(value):
                value(file, name)
            elif value is not None:
                file[name] = value
    return made.getvalue()


def _huge(shape: tuple[int, ...], dtype: str, file: h5py.File, name: str, **how: Any) -> None:
    """Terabytes declared, nothing stored."""
    file.create_dataset(name, shape, dtype, **how)


def _external_link(file: h5py.File, name: str) -> None:
    file[name] = h5py.ExternalLink("/etc/passwd", "/x")


def _external_data(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (64,), "u1", external=[("/etc/passwd", 0, 64)])


def _virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
    file.create_virtual_dataset(name, layout)


def _bomb(file: h5py.File, name: str) -> None:
    """Two gigabytes of zeros, deflated to two megabytes."""
    file.create_dataset(name, (2**29,), "i4", chunks=(2**22,), compression=9)
    # One chunk is enough: the others are read as zeros.
    file[name][:4] = 1


def _loop(file: h5py.File, name: str) -> None:
    file[name] = h5py.SoftLink(f"/{name}")


WRONG: list[Any] = [
    None,
    5,
    2.5,
    b"text",
    "text",
    np.zeros(0),
    np.zeros((0, 4), np.float32),
    np.zeros((3, 5), np.float32),
    np.zeros((2, 2, 2), np.float32),
    np.array([b"a", b"b", b"\xff"]),
    np.array([0, 2, 1, 10**9, -1], np.int64),
    np.array([-5, 0, 5, 2**62], np.int64),
    np.array([0, np.nan, np.inf, 3.0]),
    np.array([2**64 - 1] * 4, np.uint64),
    np.array([True, False, True, True]),
    np.array([1j, 2, 3, 4]),
    np.zeros(4, [("a", "i4"), ("b", "f8")]),
    np.full((20, 4), np.nan, np.float32),
    np.full((20, 4), 1e30, np.float32),
    np.full((20, 4), -1e30, np.float64),
    h5py.Empty("f4"),
    lambda file, name: file.create_group(name),
    lambda file, name: file.create_dataset(name, data=["x", "y"] * 50, dtype=h5py.string_dtype()),
    lambda file, name: file.create_dataset(name, (4,), h5py.vlen_dtype(np.int32)),
    lambda file, name: file.create_dataset(name, (4,), h5py.ref_dtype),
    lambda file, name: file.create_dataset(name, (4,), np.dtype("V5")),
    lambda file, name: file.create_dataset(name, (4, 4), "f4", fillvalue=7),
    partial(_huge, (2**40,), "i8"),
    partial(_huge, (2**31, 4), "f4", chunks=(1024, 4)),
    partial(_huge, (2**31, 2), "i8", chunks=(1024, 2)),
    partial(_huge, (2**27, 4), "f4", chunks=(1024, 4), fillvalue=1.0),
    partial(_huge, (2**20, 2**20), "f2", chunks=(64, 64)),
    partial(_huge, (4, 2**40), "f2", chunks=(1, 1024)),
    partial(_huge, (2**40,), h5py.string_dtype(), chunks=(1024,)),
    _external_link,
    _external_data,
    _virtual,
    _bomb,
    _loop,
]


def _one_wrong(file_name: str, content: Content) -> st.SearchStrategy[Case]:
    """One dataset another, or its own numbers changed."""

    def replaced(name: str, value: Any) -> Case:
        return Case(file_name, _bytes_of({**content, name: value}))

    def changed(name: str, place: int, number: float, dtype: str) -> Case:
        array: Any = content[name]
        if isinstance(array, np.ndarray) and array.size and array.dtype.kind != "S":
            with np.errstate(all="ignore"):
                array = array.astype(dtype)
                array.flat[place % array.size] = np.array(number).astype(dtype)
        return Case(file_name, _bytes_of({**content, name: array}))

    names = st.sampled_from(list(content))
    numbers = st.sampled_from((0.0, -1.0, 1.0, 3.0, 1e9, 2.0**62, -(2.0**62), 1e30, np.nan, np.inf))
    return st.builds(replaced, names, st.sampled_from(WRONG)) | st.builds(
        changed, names, st.integers(0, 30), numbers, st.sampled_from(("i8", "f4", "f8", "u1"))
    )


def _shape_of(path: Path) -> Content:
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}


def _wrong(name: str) -> Callable[[Path], st.SearchStrategy[Case]]:
    return lambda folder: _one_wrong(name, _shape_of(folder / name))


# Proposals ----------------------------------------------------------------------------------------


def _proposals(folder: Path) -> Sequence[str]:
    rng = np.random.default_rng(0)
    boxes = []
    for count in (5, 0, 3):
        corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * [WIDTH, HEIGHT]
        boxes.append(corners.reshape(-1, 4).astype(np.float32))
    write_proposals(folder / "proposals.h5", _records(), boxes)
    return ["proposals.h5"]


def _read_proposals(folder: Path, name: str) -> None:
    proposals = Proposals(folder / name)
    for record in _records():
        for top in (None, 2):
            boxes = proposals.of(record, top)
            assert boxes.dtype == np.float32
            assert boxes.ndim == 2
            assert boxes.shape[1] == 4
            assert np.isfinite(boxes).all()
            assert (boxes[:, :2] <= boxes[:, 2:]).all()
            assert top is None or len(boxes) <= top


# Features -----------------------------------------------------------------------------------------


def _features(folder: Path) -> Sequence[str]:
    name = "features/0000000-0000003.h5"
    (folder / "features").mkdir()
    with hdf5(folder / name) as file:
        append_rows(file, "features", np.ones((4, CHANNELS), np.float16))
        append_rows(file, "features", np.ones((3, CHANNELS), np.float16))
        write_rows(file, "offsets", np.array([0, 4, 4, 7], np.int64))
    return [name]


def _read_features(folder: Path, _: str) -> None:
    found = list(FeatureCache(folder))
    assert len(found) == IMAGES
    for features in found:
        assert features.dtype == np.float16
        assert features.ndim == 2
    assert len({features.shape[1] for features in found if len(features)}) <= 1


# Maps ---------------------------------------------------------------------------------------------


def _maps(folder: Path) -> Sequence[str]:
    name = "maps/0000000-0000003.h5"
    (folder / "maps").mkdir()
    with hdf5(folder / name) as file:
        for height, width in ((2, 3), (3, 2), (1, 1)):
            append_rows(file, "cells", np.ones((height * width, CHANNELS), np.float16))
        write_rows(file, "sizes", np.array([(2, 3), (3, 2), (1, 1)], np.int64))
        write_rows(file, "ratios", np.ones((IMAGES, 4), np.float32))
    return [name]


def _read_maps(folder: Path, _: str) -> None:
    records = _records()
    cache = MapCache([Artifact(folder, "maps")], records)
    assert cache.sizes.shape == (1, IMAGES, 2)
    for n, record in enumerate(records):
        maps = cache.of(record)
        (cells,) = maps.cells
        assert cells.shape[:2] == tuple(cache.sizes[0, n])
        assert cells.ndim == 3
        assert maps.ratios.shape == (1, 4)
        assert np.isfinite(maps.ratios.numpy()).all()
        assert cells.numpy().dtype == np.float16
        height = int(cache.sizes[0, n, 0])
        assert cache.rows(0, n, 0, height).shape == cells.shape


PROPOSALS = Reader("Proposals HDF5", _proposals, _read_proposals, _wrong("proposals.h5"))
FEATURES = Reader("Features HDF5", _features, _read_features, _wrong("features/0000000-0000003.h5"))
MAPS = Reader("Maps HDF5", _maps, _read_maps, _wrong("maps/0000000-0000003.h5"))
