"""HDF5 files that are not what they should be: refused before anything is read of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages.errors import DamagedError
from stages.reading import damage_named, dataset, rows_of


def written(path: Path, put: Any) -> Path:
    with h5py.File(path, "w") as file:
        if callable(put):
            put(file)
        else:
            file["rows"] = put
    return path


def test_what_is_as_it_should_be(tmp_path: Path) -> None:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    with h5py.File(written(tmp_path / "a.h5", rows)) as file:
        assert np.array_equal(dataset(file, "rows", "f", (None, 4))[:], rows)
    names = np.array([b"a", b"bc"])
    with h5py.File(written(tmp_path / "b.h5", names)) as file:
        assert np.array_equal(dataset(file, "rows", "S", (2,))[:], names)
    checked = written(
        tmp_path / "c.h5",
        lambda file: file.create_dataset("rows", data=rows, chunks=(1, 4), fletcher32=True),
    )
    with h5py.File(checked) as file:
        assert dataset(file, "rows", "f", (None, 4)).shape == (2, 4)


def of_other_file(file: h5py.File) -> None:
    file.create_dataset("rows", (4, 4), "f4", external=[("/etc/hostname", 0, 64)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 4), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "rows", (4, 4))
    file.create_virtual_dataset("rows", layout)


def linked(file: h5py.File) -> None:
    file["rows"] = h5py.ExternalLink("other.h5", "/rows")


def alias(file: h5py.File) -> None:
    file["there"] = np.zeros((4, 4), np.float32)
    file["rows"] = h5py.SoftLink("/there")


def compressed(file: h5py.File) -> None:
    file.create_dataset("rows", data=np.zeros((10_000, 4), np.float32), compression=9)


@pytest.mark.parametrize(
    "put",
    [
        pytest.param(lambda file: None, id="nothing"),
        pytest.param(lambda file: file.create_group("rows"), id="a group"),
        pytest.param(np.zeros((4, 4), np.int64), id="whole numbers"),
        pytest.param(np.zeros((4, 4), np.complex64), id="complex numbers"),
        pytest.param(["a", "b"], id="text"),
        pytest.param(np.zeros((4, 5), np.float32), id="five columns"),
        pytest.param(np.zeros(4, np.float32), id="one dimension"),
        pytest.param(2.5, id="a number"),
        pytest.param(h5py.Empty("f4"), id="an empty one"),
        pytest.param(of_other_file, id="bytes of another file"),
        pytest.param(virtual, id="made of other files"),
        pytest.param(linked, id="a link to another file"),
        pytest.param(alias, id="a link"),
        pytest.param(compressed, id="compressed"),
        pytest.param(
            lambda file: file.create_dataset("rows", (2**40, 4), "f4", chunks=(64, 4)),
            id="terabytes declared",
        ),
    ],
)
def test_what_is_not_is_refused(tmp_path: Path, put: Callable[[h5py.File], None]) -> None:
    (tmp_path / "other.h5").touch()
    with (
        h5py.File(written(tmp_path / "a.h5", put)) as file,
        pytest.raises(ValueError, match="rows"),
    ):
        dataset(file, "rows", "f", (None, 4))


@pytest.mark.parametrize("offsets", [[0], [0, 3, 3, 5], [0, 0, 5]])
def test_offsets(offsets: list[int]) -> None:
    assert rows_of(np.array(offsets), offsets[-1]).tolist() == offsets


@pytest.mark.parametrize("offsets", [[], [1, 5], [0, 4], [0, 6], [0, 6, 5], [0, -1, 5], [5, 0, 5]])
def test_offsets_that_are_none(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets"):
        rows_of(np.array(offsets, np.int64), 5)


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("x\ny"), MemoryError(), OSError(5, "x")]
)
def test_whatever_goes_wrong_is_damage_of_the_file(error: Exception) -> None:
    with pytest.raises(DamagedError) as caught, damage_named(Path("a.h5"), "no features"):
        raise error
    assert str(caught.value).startswith("a.h5: no features")
    assert "\n" not in str(caught.value)
    assert caught.value.path == Path("a.h5")


def test_the_inner_files_damage_is_not_the_outers() -> None:
    with pytest.raises(DamagedError, match=r"inner\.h5"), damage_named(Path("outer.h5")):
        raise DamagedError(Path("inner.h5"), "gone")
