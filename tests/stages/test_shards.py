"""Shards: together they are all the images, and what exists is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from stages.shards import shards, unmade
from stages.writing import append_rows, hdf5, replacing


@pytest.mark.parametrize(
    ("images", "size", "spans"),
    [
        (7, 3, [(0, 3), (3, 6), (6, 7)]),
        (6, 3, [(0, 3), (3, 6)]),
        (2, 16, [(0, 2)]),
        (1, 1, [(0, 1)]),
        (0, 16, []),
    ],
)
def test_every_image_is_in_one_shard(
    tmp_path: Path, images: int, size: int, spans: list[tuple[int, int]]
) -> None:
    every = shards(tmp_path / "shards", images, size, ".npz")
    assert [(shard.start, shard.stop) for shard in every] == spans
    assert len({shard.path for shard in every}) == len(every)
    assert [shard.path for shard in every] == sorted(shard.path for shard in every)
    assert all(shard.path.suffix == ".npz" for shard in every)
    assert unmade(every) == every


def test_names_sort_in_order_in_large_data_sets(tmp_path: Path) -> None:
    names = [shard.path.name for shard in shards(tmp_path, 200_000, 999, ".npz")]
    assert names == sorted(names)


def test_a_shard_exists_only_when_it_is_written(tmp_path: Path) -> None:
    first, second = shards(tmp_path, 4, 2, ".txt")
    with replacing(first.path) as file:
        file.write(b"half")
        file.flush()
        assert unmade([first, second]) == [first, second]
        file.write(b" whole")
    assert first.path.read_bytes() == b"half whole"
    assert unmade([first, second]) == [second]
    assert [p.name for p in tmp_path.iterdir()] == [first.path.name]


def test_calling_again_loses_nothing(tmp_path: Path) -> None:
    for shard in shards(tmp_path, 5, 2, ".txt"):
        shard.path.write_text(str(shard.start))
    again = shards(tmp_path, 5, 2, ".txt")
    assert unmade(again) == []
    assert [shard.path.read_text() for shard in again] == ["0", "2", "4"]


ROWS = np.arange(1200, dtype=np.float32).reshape(300, 4)


def write_npz(path: Path) -> None:
    np.savez(path, ROWS)


def write_h5(path: Path) -> None:
    with hdf5(path) as file:
        append_rows(file, "rows", ROWS)


def flip_in_the_rows(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(ROWS[:2].tobytes()) + 9] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


@pytest.mark.parametrize(
    ("suffix", "write", "damage"),
    [
        (".npz", write_npz, flip_in_the_rows),
        (".npz", write_npz, cut_short),
        (".h5", write_h5, flip_in_the_rows),
        (".h5", write_h5, cut_short),
    ],
)
def test_a_damaged_one_is_made_again(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    write: Callable[[Path], None],
    damage: Callable[[Path], None],
) -> None:
    every = shards(tmp_path, 6, 2, suffix)
    for shard in every:
        write(shard.path)
    assert unmade(every) == []
    damage(every[1].path)
    assert unmade(every) == [every[1]]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{every[1].path}: damaged (")
    write(every[1].path)
    assert unmade(every) == []


def test_without_any_row_it_is_whole(tmp_path: Path) -> None:
    (shard,) = shards(tmp_path, 2, 2, ".h5")
    with h5py.File(shard.path, "w") as file:
        file["offsets"] = np.zeros(3, np.int64)
        file["none"] = np.zeros((0, 4), np.float32)
    assert unmade([shard]) == []
