"""The cached maps: the trunk's own, at each scale, whole or a few rows, killed or not, or an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spp_net import maps as module
from spp_net.maps import SHARD, Convolutions, MapCache, cache_maps
from stages.backbones.weights import build_backbone
from stages.data.decode import image_of
from stages.errors import DamagedError, InputError
from stages.store import Artifact, Job
from tests.spp_net.conftest import PYRAMID, RANDOM, Made, make_maps

BOX = [5, 5, 25, 25]


def directly(data: Any, n: int, scale: int) -> np.ndarray:
    """The map of image n at a scale, [h, w, C], of an image that no frame surrounds."""
    net = build_backbone("tiny", RANDOM).eval()
    pixels = net.normalise(torch.from_numpy(image_of(data.train[n])).permute(2, 0, 1))[None]
    size = (scale, scale * 60 // 48)
    if size != (48, 60):
        pixels = F.interpolate(pixels, size, mode="bilinear")
    # Up to the next multiple of 32, and at least 64, as all images are framed.
    frame = F.pad(
        pixels, (0, max(-size[1] % 32, 64 - size[1]), 0, max(-size[0] % 32, 64 - size[0]))
    )
    with torch.inference_mode():
        found = net.trunk(frame)[0].permute(1, 2, 0).numpy()
    return found[: -(-size[0] // 16), : -(-size[1] // 16)]  # type: ignore[no-any-return]


# What is in it -------------------------------------------------------------------------------


def test_it_is_the_trunks_map_of_the_image_alone(toy: Any, made: Made) -> None:
    assert len(toy.train) > SHARD
    for n in (0, 3, SHARD - 1, SHARD, len(toy.train) - 1):
        found = made.cache.of(toy.train[n])
        for cells, scale in zip(found.cells, PYRAMID.scales, strict=True):
            expected = directly(toy, n, scale)
            assert cells.dtype == torch.float16
            assert cells.shape == expected.shape
            size = np.abs(expected).max()
            np.testing.assert_allclose(cells.float(), expected, rtol=2e-3, atol=2e-3 * size)
        assert found.ratios.tolist() == [[1, 1, 1, 1], [2, 2, 2, 2]]


def test_it_is_what_the_detector_computes(toy: Any, made: Made) -> None:
    # To the bit: what the SVMs learn from is what they are asked about.
    convolutions = Convolutions(build_backbone("tiny", RANDOM), "cpu", "float32", (48, 96), 500)
    for record in toy.train[:3]:
        with torch.inference_mode():
            computed = convolutions(torch.from_numpy(image_of(record)).permute(2, 0, 1))
        cached = made.cache.of(record)
        assert torch.equal(computed.ratios, cached.ratios)
        for one, other in zip(computed.cells, cached.cells, strict=True):
            assert torch.equal(one, other)


def test_sizes_and_ratios_of_all(toy: Any, made: Made) -> None:
    assert made.cache.sizes.shape == (2, len(toy.train), 2)
    assert (made.cache.sizes[0] == [3, 4]).all()
    assert (made.cache.sizes[1] == [6, 8]).all()
    assert made.cache.ratios.shape == (2, len(toy.train), 4)


def test_some_rows_alone(toy: Any, made: Made) -> None:
    for keep in (0, 2**20):
        cache = MapCache(made.maps, toy.train, keep)
        for scale, image, first, end in ((1, 0, 2, 5), (0, 17, 0, 3), (1, 0, 5, 6), (1, 16, 1, 2)):
            whole = cache.of(toy.train[image]).cells[scale].numpy()
            assert np.array_equal(cache.rows(scale, image, first, end), whole[first:end])


def test_what_was_read_stays_in_memory_as_far_as_there_is_room(
    toy: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 6 * 8 * 128 * 2  # bytes of a map at the larger scale
    cache = MapCache(made.maps, toy.train, keep=2 * 3 * one)  # three of them
    read: list[slice] = []
    plain = module._Scale._cells

    def counting(self: Any, path: Path, which: slice) -> np.ndarray:
        read.append(which)
        return plain(self, path, which)

    monkeypatch.setattr(module._Scale, "_cells", counting)
    for image in range(5):
        cache.rows(1, image, 0, 2)
    read.clear()
    for image in range(5):
        cache.rows(1, image, 3, 5)
    assert len(read) == 2
    assert all(which.stop - which.start == 2 * 8 for which in read)  # no more than was asked for


def test_from_several_threads(toy: Any, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN", 1)  # files are closed while others want to read
    cache = MapCache(made.maps, toy.train, keep=0)
    order = np.random.default_rng(0).integers(0, len(toy.train), 200)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: cache.rows(1, int(n), 0, 6), order))
    for n, rows in zip(order, found, strict=True):
        assert np.array_equal(rows, made.cache.rows(1, int(n), 0, 6))


def test_no_more_files_are_open_than_allowed(
    toy: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN", 1)
    before = len(os.listdir("/proc/self/fd"))
    cache = MapCache(made.maps, toy.train)
    assert len(os.listdir("/proc/self/fd")) <= before + len(made.maps)
    assert torch.equal(cache.of(toy.train[0]).cells[0], made.cache.of(toy.train[0]).cells[0])


def test_long_images_end_at_the_cap(toy_of: Callable[..., Any], tmp_path: Path) -> None:
    data = toy_of([[BOX]], [[1]], [[BOX]])
    cache_maps(Job(tmp_path), data, RANDOM, "tiny", 96, 90, "float32")
    cache = MapCache([Artifact(tmp_path, "")], data.train)
    assert cache.ratios[0, 0].tolist() == [1.5] * 4
    assert cache.sizes[0, 0].tolist() == [5, 6]  # 72 x 90 pixels


def test_images_smaller_than_the_smallest_frame(toy_of: Callable[..., Any], tmp_path: Path) -> None:
    data = toy_of([[BOX]], [[1]], [[BOX]])
    cache_maps(Job(tmp_path), data, RANDOM, "tiny", 10, 500, "float32")
    cache = MapCache([Artifact(tmp_path, "")], data.train)
    assert cache.sizes[0, 0].tolist() == [1, 1]


def test_no_images(toy_of: Callable[..., Any], tmp_path: Path) -> None:
    data = toy_of([], [], [])
    cache_maps(Job(tmp_path), data, RANDOM, "tiny", 48, 500, "float32")
    assert MapCache([Artifact(tmp_path, "")], data.train).sizes.shape == (1, 0, 2)


# Killed --------------------------------------------------------------------------------------


def test_only_missing_shards_are_made_and_the_result_is_the_same(
    toy: Any, made: Made, tmp_path: Path
) -> None:
    make_maps(tmp_path, toy)
    first, second = sorted((tmp_path / "48" / "maps").iterdir())
    kept, expected = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    second.with_name(f".{second.name}").write_bytes(b"half")
    make_maps(tmp_path, toy)
    assert sorted((tmp_path / "48" / "maps").iterdir()) == [first, second]
    assert first.stat().st_mtime_ns == kept
    assert second.read_bytes() == expected


def test_a_picture_that_is_gone_is_named(toy_of: Callable[..., Any], tmp_path: Path) -> None:
    data = toy_of([[BOX]] * 2, [[1]] * 2, [[BOX]] * 2)
    data.train[1].path.unlink()
    with pytest.raises(InputError, match=str(data.train[1].path)):
        cache_maps(Job(tmp_path), data, RANDOM, "tiny", 48, 500, "float32")


# Damaged -------------------------------------------------------------------------------------


def flip_a_byte_of_the_cells(path: Path) -> None:
    with h5py.File(path) as file:
        assert file["cells"].fletcher32
        chunk = file["cells"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[chunk.byte_offset + 100] ^= 1
    path.write_bytes(raw)


def without_sizes(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["sizes"]


def other(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with h5py.File(path, "a") as file:
            values = file[name][:]
            del file[name]
            file[name] = change(values)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte_of_the_cells,
        without_sizes,
        other("sizes", lambda sizes: sizes + 1),
        other("sizes", lambda sizes: -sizes),
        other("sizes", lambda sizes: sizes[:-1]),
        other("ratios", lambda ratios: ratios * np.nan),
        other("ratios", lambda ratios: ratios[:, :3]),
        other("cells", lambda cells: cells[1:]),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b"no HDF5 at all"),
        lambda path: path.unlink(),
    ],
)
def test_damage_is_found_and_named(
    toy: Any, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    artifacts = make_maps(tmp_path, toy)
    shard = sorted((tmp_path / "96" / "maps").iterdir())[0]
    damage(shard)
    with pytest.raises(DamagedError) as caught:
        MapCache(artifacts, toy.train).of(toy.train[0])
    assert caught.value.path == shard
    assert "\n" not in str(caught.value)
