"""Shards: together they are all the images, and what exists is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.shards import shards, unmade
from stages.writing import replacing


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
