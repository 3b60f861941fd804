"""Files whole or not at all; a full disk says that it is full, whatever was being written."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from stages.writing import CHUNK, hdf5, replacing, write_rows


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError, match="pulled"), replacing(path) as file:
        file.write(b"a much longer text")
        raise RuntimeError("the plug was pulled")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".file").write_bytes(b"left by a process that was killed")
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"new")]


@pytest.mark.parametrize("shape", [(3,), (0, 4), (2 * CHUNK + 1, 2)])
def test_rows_have_checksums(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rows = np.random.default_rng(0).normal(size=shape)
    with hdf5(tmp_path / "a.h5") as file:
        write_rows(file, "rows", rows)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["rows"].fletcher32
        assert np.array_equal(file["rows"][:], rows)


def test_hdf5_is_what_h5py_reads(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 4))
    with hdf5(tmp_path / "a.h5") as file:
        made = file.create_dataset(
            "rows", (0, 4), np.float64, maxshape=(None, 4), chunks=(8, 4), fletcher32=True
        )
        made.resize(30, axis=0)
        made[:] = rows
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(file["rows"][:], rows)
        assert file["rows"].fletcher32
    with pytest.raises(KeyError), hdf5(tmp_path / "b.h5") as file:
        file["nothing"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


FULL = """
import errno, sys
from pathlib import Path
import numpy as np, torch
from stages.run import main
from stages.writing import hdf5, replacing

folder = Path(sys.argv.pop(1))
large = np.random.default_rng(0).normal(size=100_000)
def weights():
    with replacing(folder / "file") as file:
        torch.save({"a": torch.from_numpy(large)}, file)
def arrays():
    with replacing(folder / "file") as file:
        np.savez(file, large, large)
def cache():
    with hdf5(folder / "file") as file:
        file.create_dataset("a", data=large, chunks=(1000,), fletcher32=True)
what = sys.argv.pop(1)
main(lambda arguments: {"weights": weights, "arrays": arrays, "cache": cache}[what]())
"""


@pytest.mark.parametrize("what", ["weights", "arrays", "cache"])
def test_no_room_is_one_line_and_leaves_nothing(tmp_path: Path, what: str) -> None:
    """The system refuses files above 64 KiB, as a full disk refuses them, in a real program."""

    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))

    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), what],
        preexec_fn=small_files_only,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: writing: File too large; nothing finished is lost"]
    assert list(tmp_path.iterdir()) == []
