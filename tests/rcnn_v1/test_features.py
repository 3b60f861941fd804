"""The feature cache: what the network says of each window, in order, killed or not, or an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from rcnn_v1.config import FeaturesConfig
from rcnn_v1.features import SHARD, FeatureCache, cache_features
from rcnn_v1.pipeline import feature_layer
from rcnn_v1.warp import crop_windows
from stages.backbones.backbone import Backbone
from stages.backbones.weights import Weights, build_backbone
from stages.data.decode import image_of
from stages.errors import InputError
from stages.proposals.windows import windows_of
from stages.shards import shards
from stages.store import Job

CONTEXT = 16 / 227
RANDOM = Weights(None, "random")
TOP = 9
BOX = [5, 5, 25, 25]


def cache(
    folder: Path,
    data: Any,
    layer: str = "fc7",
    dtype: Any = "float32",
    weights: Weights = RANDOM,
    workers: int = 0,
    batch: int = 7,
) -> list[np.ndarray]:
    folder.mkdir(exist_ok=True, parents=True)
    config = FeaturesConfig(layer, batch, dtype)
    job = Job(folder, workers=workers)
    cache_features(job, data, data.proposals, weights, "tiny", TOP, CONTEXT, config)
    return list(FeatureCache(folder))


def directly(data: Any, n: int, boxes: np.ndarray, layer: str, net: Backbone) -> np.ndarray:
    """Features of boxes of image n, each window by itself, in single precision."""
    image = net.normalise(torch.from_numpy(image_of(data.train[n])).permute(2, 0, 1))
    rows = []
    with torch.inference_mode():
        for box in torch.from_numpy(boxes):
            crop = crop_windows(image, box[None], net.crop_size, CONTEXT)
            rows.append(net.until(layer, net.pool5(net.trunk(crop)))[0].numpy())
    return np.stack(rows)


@pytest.fixture(scope="module")
def network() -> Backbone:
    return build_backbone("tiny", RANDOM).eval()


@pytest.fixture(scope="module")
def cached(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    folder = tmp_path_factory.mktemp("cached")
    return folder, cache(folder, toy)


# What is in it -------------------------------------------------------------------------------


def test_every_image_has_its_windows_in_order(
    toy: Any, network: Backbone, cached: tuple[Path, list[np.ndarray]]
) -> None:
    _, found = cached
    assert len(found) == len(toy.train) > 2 * SHARD
    for n, record in enumerate(toy.train):
        expected = directly(toy, n, windows_of(record, toy.reader, TOP), "fc7", network)
        assert found[n].dtype == np.float16
        np.testing.assert_allclose(found[n], expected, rtol=2e-3, atol=2e-3 * expected.max())


def test_ground_truth_comes_first(
    toy: Any, network: Backbone, cached: tuple[Path, list[np.ndarray]]
) -> None:
    _, found = cached
    for n in (0, 7):  # 7 has a crowd, which is left out
        record = toy.train[n]
        boxes = record.boxes[~record.iscrowd]
        if len(boxes):
            expected = directly(toy, n, boxes, "fc7", network)
            np.testing.assert_allclose(
                found[n][: len(boxes)], expected, rtol=2e-3, atol=2e-3 * expected.max()
            )
        assert len(found[n]) == len(boxes) + TOP


@pytest.mark.parametrize(("layer", "width"), [("pool5", 2048), ("fc6", 256)])
def test_other_layers(toy: Any, network: Backbone, tmp_path: Path, layer: str, width: int) -> None:
    found = cache(tmp_path, toy, layer)
    assert found[0].shape[1] == width
    for n in (0, SHARD):
        expected = directly(toy, n, windows_of(toy.train[n], toy.reader, TOP), layer, network)
        np.testing.assert_allclose(found[n], expected, rtol=2e-3, atol=2e-3 * expected.max())


def test_in_bfloat16_it_is_the_same_but_for_rounding(
    toy: Any, tmp_path: Path, cached: tuple[Path, list[np.ndarray]]
) -> None:
    coarse, fine = (
        np.concatenate(rows) for rows in (cache(tmp_path, toy, dtype="bfloat16"), cached[1])
    )
    coarse, fine = coarse.astype(np.float32), fine.astype(np.float32)
    assert not np.array_equal(coarse, fine)
    error = np.linalg.norm(coarse - fine, axis=1) / np.linalg.norm(fine, axis=1)
    assert error.max() < 0.05


def test_fine_tuned_weights_are_taken_where_there_are_any(
    toy: Any, tmp_path: Path, cached: tuple[Path, list[np.ndarray]]
) -> None:
    net = build_backbone("tiny", RANDOM)
    with torch.no_grad():
        net.head.fc7[0].weight.mul_(2)
    torch.save(net.state_dict(), tmp_path / "tuned.pt")
    tuned = cache(tmp_path / "tuned", toy, weights=Weights(tmp_path / "tuned.pt", "tuned"))
    np.testing.assert_allclose(tuned[0], 2 * cached[1][0], rtol=2e-3)


@pytest.mark.parametrize(("workers", "batch"), [(2, 7), (0, 128)])
def test_workers_and_batches_do_not_shape_it(
    toy: Any,
    tmp_path: Path,
    cached: tuple[Path, list[np.ndarray]],
    workers: int,
    batch: int,
) -> None:
    found = cache(tmp_path, toy, workers=workers, batch=batch)
    for one, other in zip(found, cached[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


def test_an_image_without_any_window(toy_of: Callable[..., Any], tmp_path: Path) -> None:
    data = toy_of([[BOX], [], [BOX]], [[1], [], [2]], [[BOX], [], []])
    found = cache(tmp_path / "cache", data)
    assert [len(rows) for rows in found] == [2, 0, 1]
    assert np.array_equal(found[0][0], found[0][1])


def test_a_shard_without_any_window(toy_of: Callable[..., Any], tmp_path: Path) -> None:
    data = toy_of([[]] * SHARD + [[BOX]], [[]] * SHARD + [[1]], [[]] * (SHARD + 1))
    assert [len(rows) for rows in cache(tmp_path / "cache", data)] == [0] * SHARD + [1]


@pytest.mark.parametrize(
    ("name", "last"), [("tiny", "fc7"), ("resnet18", "pool"), ("mobilenet_v2", "pool")]
)
def test_the_last_layer_and_one_that_is_not_there(name: Any, last: str) -> None:
    assert feature_layer(name, "last") == last
    assert feature_layer(name, "pool5") == "pool5"
    with pytest.raises(InputError, match=rf"{name} has no layer 'fc8', but pool5, .*{last}$"):
        feature_layer(name, "fc8")


# Killed --------------------------------------------------------------------------------------


def test_only_missing_shards_are_made_and_the_result_is_the_same(
    toy: Any, tmp_path: Path, cached: tuple[Path, list[np.ndarray]]
) -> None:
    cache(tmp_path, toy)
    first, second, third = sorted((tmp_path / "features").iterdir())
    kept = first.stat().st_mtime_ns
    second.unlink()
    # What a kill leaves of a shard that was being written.
    second.with_name(f".{second.name}").write_bytes(b"half")
    found = cache(tmp_path, toy)
    assert sorted((tmp_path / "features").iterdir()) == [first, second, third]
    assert first.stat().st_mtime_ns == kept
    for one, other in zip(found, cached[1], strict=True):
        assert np.array_equal(one, other)


def test_a_picture_that_is_gone_ends_it_and_its_shard(
    toy_of: Callable[..., Any], tmp_path: Path
) -> None:
    data = toy_of([[BOX]] * (SHARD + 2), [[1]] * (SHARD + 2), [[BOX]] * (SHARD + 2))
    data.train[SHARD + 1].path.unlink()
    with pytest.raises(InputError, match=str(data.train[SHARD + 1].path)):
        cache(tmp_path / "cache", data)
    every = shards(tmp_path / "cache" / "features", SHARD + 2, SHARD, ".h5")
    assert [shard.path.exists() for shard in every] == [True, False]


# Damaged -------------------------------------------------------------------------------------


def damaged(toy: Any, folder: Path, damage: Callable[[Path], None]) -> None:
    """Damage the second shard; reading must name it, after giving all that is whole."""
    cache(folder, toy)
    shard = sorted((folder / "features").iterdir())[1]
    damage(shard)
    read = 0
    with pytest.raises(InputError) as caught:
        for _ in FeatureCache(folder):
            read += 1
    assert str(shard) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read == SHARD


def flip_a_byte_of_the_features(path: Path) -> None:
    with h5py.File(path) as file:
        chunk = file["features"].id.get_chunk_info(0)
        assert file["features"].fletcher32
    raw = bytearray(path.read_bytes())
    raw[chunk.byte_offset + 100] ^= 1
    path.write_bytes(raw)


def cut_short(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def without_offsets(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["offsets"]


def with_offsets(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with h5py.File(path, "a") as file:
            offsets = file["offsets"][:]
            del file["offsets"]
            file["offsets"] = change(offsets)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte_of_the_features,
        cut_short,
        without_offsets,
        with_offsets(lambda offsets: offsets[:-1]),
        with_offsets(lambda offsets: offsets[::-1].copy()),
        with_offsets(lambda offsets: offsets + np.arange(len(offsets))),
        with_offsets(lambda offsets: offsets.astype(float)),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no HDF5 at all"),
    ],
)
def test_damage_is_found_and_named(
    toy: Any, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damaged(toy, tmp_path, damage)
