"""Fine-tuning: what is in its batches, that (seed, s) decides it, that only the head learns."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spp_net import fine_tune as module
from spp_net.config import FineTuneConfig
from spp_net.fine_tune import FullyConnected, PyramidBatches, fine_tune, softmax_loss
from spp_net.maps import Maps
from spp_net.network import PyramidNetwork, add_pyramid, build
from stages.data.decode import image_of
from stages.errors import InputError
from stages.proposals.windows import Windows, training_windows
from stages.stopwatch import OFF
from stages.store import Artifact, Job
from stages.training.sgd import SGDConfig
from tests.spp_net.conftest import PYRAMID, RANDOM, Made

CONFIG = FineTuneConfig(
    sgd=SGDConfig(lr=0.01, iterations=3, dtype="float32", seed=4), positives=6, backgrounds=10
)
BOX = [5, 5, 25, 25]
Make = Callable[..., Any]


def batches_of(
    data: Any, made: Made, config: FineTuneConfig = CONFIG, mirrored: bool = True
) -> tuple[PyramidBatches, Windows]:
    windows = training_windows(data.train, data.reader, None)
    backbone = build("tiny", PYRAMID.levels, made.network.path / "weights.pt")
    other = made.mirrored_cache if mirrored else None
    return PyramidBatches(
        data.train,
        windows,
        made.cache,
        config,
        PYRAMID.levels,
        backbone,
        mirrored=other,
    ), windows


# Who is in a batch ---------------------------------------------------------------------------


def test_the_papers_batch_is_a_quarter_positive(toy: Any, made: Made) -> None:
    batch = batches_of(toy, made, FineTuneConfig())[0][0]
    assert batch["pooled"].shape == (128, 128 * 21)
    assert batch["pooled"].dtype == torch.float32
    assert (batch["labels"][:32] > 0).all()
    assert (batch["labels"][32:] == 0).all()
    assert len(batch["image_ids"]) == 128


def test_background_overlaps_a_little(toy: Any, made: Made) -> None:
    batches, windows = batches_of(toy, made)
    seen = set()
    for s in range(200):
        rows = batches.choose(np.random.default_rng(s))
        assert (windows.overlap[rows[:6]] >= 0.5).all()
        assert (windows.overlap[rows[6:]] < 0.5).all()
        assert (windows.overlap[rows[6:]] >= 0.1).all()
        seen |= set(rows.tolist())
    assert seen == set(np.flatnonzero(windows.overlap >= 0.1))
    assert (windows.overlap < 0.1).any()


def test_from_a_tenth_on_by_hand(toy_of: Make, made: Made) -> None:
    # Overlaps of 1, 1/2, just less, 1/10 and just less.
    proposals = [[5, 5, 25, 15], [5, 5, 25, 14.9], [5, 5, 25, 7.001], [5, 5, 25, 6.9]]
    batches, _ = batches_of(toy_of([[BOX]], [[2]], [proposals]), made)
    assert batches.positives.tolist() == [0, 1]
    assert batches.backgrounds.tolist() == [2, 3]


def test_labels_are_the_best_objects(toy: Any, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, windows = batches_of(toy, made)
    rows = np.arange(len(windows.boxes))
    monkeypatch.setattr(PyramidBatches, "choose", lambda self, rng: rows)
    batch = batches[0]
    expected = np.where(windows.overlap >= 0.5, windows.label, 0)
    assert batch["labels"].tolist() == expected.tolist()
    assert batch["image_ids"] == [toy.train[n].image_id for n in windows.image]


@pytest.mark.parametrize(
    ("objects", "labels", "proposals"),
    [
        pytest.param([[]], [[]], [[BOX]], id="no object"),
        pytest.param([[BOX]], [[1]], [[]], id="no background"),
        pytest.param([[BOX]], [[1]], [[[40, 30, 60, 48]]], id="background too far away"),
    ],
)
def test_without_objects_or_background_there_is_nothing_to_learn(
    toy_of: Make, made: Made, objects: Any, labels: Any, proposals: Any
) -> None:
    with pytest.raises(InputError, match="objects and background"):
        batches_of(toy_of(objects, labels, proposals), made)


# What it shows -------------------------------------------------------------------------------


def test_pyramids_are_the_networks_own(
    toy: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Cut out of a map and pooled alone, or pooled by the operator from the whole map: the same.
    batches, windows = batches_of(toy, made)
    rows = np.arange(len(windows.boxes))
    net = PyramidNetwork(
        build("tiny", PYRAMID.levels, made.network.path / "weights.pt"),
        "cpu",
        "float32",
        PYRAMID,
        1000,
    )
    for scale in (0, 1):
        crops = batches.crops(rows, np.full(len(rows), scale), np.zeros(len(rows), bool))
        pooled = module.pool_crops(crops, PYRAMID.levels)
        for n in (0, 7, len(toy.train) - 1):
            of_image = windows.image == n
            maps = made.cache.of(toy.train[n])
            alone = Maps(maps.cells[scale : scale + 1], maps.ratios[scale : scale + 1])
            (expected,) = net.pooled(alone, torch.from_numpy(windows.boxes[of_image]), OFF)
            assert torch.equal(pooled[of_image], expected)


@pytest.mark.parametrize("mirrored", [True, False])
def test_every_scale_and_side_is_as_likely(
    toy: Any, made: Made, monkeypatch: pytest.MonkeyPatch, mirrored: bool
) -> None:
    batches, _ = batches_of(toy, made, mirrored=mirrored)
    drawn: list[np.ndarray] = []
    plain = PyramidBatches.crops

    def noting(self: Any, rows: np.ndarray, scales: np.ndarray, flipped: np.ndarray) -> Any:
        drawn.append(2 * scales + flipped)
        return plain(self, rows, scales, flipped)

    monkeypatch.setattr(PyramidBatches, "crops", noting)
    for s in range(80):
        batches[s]
    together = np.concatenate(drawn)
    kinds = [0, 1, 2, 3] if mirrored else [0, 2]
    assert sorted(set(together.tolist())) == kinds
    for kind in kinds:
        assert (together == kind).mean() == pytest.approx(1 / len(kinds), abs=0.05)


def test_a_mirrored_windows_pyramid_is_the_mirrored_images(toy: Any, made: Made) -> None:
    """As the network gives it of the image turned by hand, in which the window lies mirrored."""
    batches, windows = batches_of(toy, made)
    rows = np.arange(len(windows.boxes))
    network = build("tiny", PYRAMID.levels, made.network.path / "weights.pt")
    for scale in (0, 1):
        crops = batches.crops(rows, np.full(len(rows), scale), np.ones(len(rows), bool))
        pooled = module.pool_crops(crops, PYRAMID.levels)
        one = replace(PYRAMID, scales=(PYRAMID.scales[scale],))
        net = PyramidNetwork(network, "cpu", "float32", one, 1000)
        for n in (0, 7, len(toy.train) - 1):
            of_image = windows.image == n
            x1, y1, x2, y2 = windows.boxes[of_image].T
            turned = torch.from_numpy(np.stack([60 - x2, y1, 60 - x1, y2], axis=1))
            image = torch.from_numpy(image_of(toy.train[n])[:, ::-1].copy()).permute(2, 0, 1)
            with torch.inference_mode():
                (expected,) = net.pooled(net.convolutions(image), turned, OFF)
            assert torch.equal(pooled[of_image], expected)
        straight = batches.crops(rows, np.full(len(rows), scale), np.zeros(len(rows), bool))
        assert not torch.equal(pooled, module.pool_crops(straight, PYRAMID.levels))


def test_of_each_window_the_side_that_was_drawn(toy: Any, made: Made) -> None:
    batches, windows = batches_of(toy, made)
    rows = np.arange(len(windows.boxes))
    scales, flipped = rows % 2, rows % 3 == 0
    found = batches.crops(rows, scales, flipped)
    for row, crop in zip(rows, found, strict=True):
        (alone,) = batches.crops(rows[[row]], scales[[row]], flipped[[row]])
        assert torch.equal(crop, alone)


def test_the_same_windows_with_and_without_mirroring(toy: Any, made: Made) -> None:
    with_it, without = (batches_of(toy, made, mirrored=m)[0][3] for m in (True, False))
    assert with_it["image_ids"] == without["image_ids"]
    assert torch.equal(with_it["labels"], without["labels"])
    same = (with_it["pooled"] == without["pooled"]).all(dim=1)
    assert 0 < same.sum() < len(same)


# Nothing but (seed, s) -----------------------------------------------------------------------


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert torch.equal(one["pooled"], other["pooled"])
    assert torch.equal(one["labels"], other["labels"])
    assert one["image_ids"] == other["image_ids"]


def test_a_batch_is_a_function_of_seed_and_number(toy: Any, made: Made) -> None:
    first, second = (batches_of(toy, made)[0] for _ in range(2))
    expected = first[5]
    for s in (0, 9, 3):
        second[s]
    assert_same(second[5], expected)
    assert not torch.equal(first[6]["pooled"], expected["pooled"])
    seeded = replace(CONFIG, sgd=replace(CONFIG.sgd, seed=5))
    assert not torch.equal(batches_of(toy, made, seeded)[0][5]["pooled"], expected["pooled"])


# The stage -----------------------------------------------------------------------------------


def tune(folder: Path, data: Any, made: Made, config: FineTuneConfig = CONFIG, **job: Any) -> Any:
    folder.mkdir(exist_ok=True)
    fine_tune(
        Job(folder, **job),
        data,
        data.proposals,
        made.maps,
        made.mirrored,
        made.network,
        "tiny",
        None,
        PYRAMID.levels,
        config,
    )
    return torch.load(folder / "weights.pt", weights_only=True)


def test_only_fully_connected_layers_learn(toy: Any, made: Made, tmp_path: Path) -> None:
    tuned = tune(tmp_path, toy, made)
    before = torch.load(made.network.path / "weights.pt", weights_only=True)
    assert tuned.keys() == before.keys()
    for key, value in tuned.items():
        assert torch.isfinite(value).all()
        assert torch.equal(value, before[key]) != key.startswith("head."), key
    with open(tmp_path / "losses.csv", newline="") as file:
        first = float(next(csv.DictReader(file))["classification"])
    # Scores begin near nought: no class is likelier than another.
    assert first == pytest.approx(np.log(len(toy.classes) + 1), abs=0.5)


def test_threads_do_not_shape_it(toy: Any, made: Made, tmp_path: Path) -> None:
    one, other = (tune(tmp_path / str(n), toy, made, workers=n) for n in (0, 2))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_resumed_it_ends_the_same(
    toy: Any, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, sgd=replace(CONFIG.sgd, iterations=6))
    whole = tune(tmp_path / "whole", toy, made, config)

    class KilledError(Exception):
        pass

    plain = PyramidBatches.__getitem__

    def dies(self: PyramidBatches, iteration: int) -> dict[str, Any]:
        if iteration == 4:
            raise KilledError
        return plain(self, iteration)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(PyramidBatches, "__getitem__", dies)
        tune(tmp_path / "killed", toy, made, config, checkpoint_seconds=0.0)
    assert (tmp_path / "killed" / "checkpoint.pt").exists()
    resumed = tune(tmp_path / "killed", toy, made, config)
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


@pytest.mark.parametrize(("levels", "factor"), [((2, 1), 10.0), ((4, 2, 1), 1.0)])
def test_a_new_fc6_learns_faster_and_nothing_else(
    toy: Any, made: Made, tmp_path: Path, levels: tuple[int, ...], factor: float
) -> None:
    # One step without momentum and decay: a move is the rate times the gradient.
    sgd = SGDConfig(lr=1e-4, iterations=1, momentum=0, weight_decay=0, dtype="float32")
    add_pyramid(Job(tmp_path), RANDOM, "tiny", levels)
    before = torch.load(tmp_path / "weights.pt", weights_only=True)
    moves = []
    for of_new in (1.0, 10.0):
        job = Job(tmp_path / str(of_new))
        job.folder.mkdir()
        config = replace(CONFIG, sgd=sgd, new_layer_factor=of_new)
        network = Artifact(tmp_path, "")
        fine_tune(job, toy, toy.proposals, made.maps, (), network, "tiny", None, levels, config)
        after = torch.load(job.folder / "weights.pt", weights_only=True)
        heads = [key for key in after if key.startswith("head.")]
        moves.append({key: (after[key] - before[key]).norm() for key in heads})
    for layer, expected in (("fc6", factor), ("fc7", 1.0)):
        once, more = (move[f"head.{layer}.0.weight"] for move in moves)
        assert float(once) > 0
        assert float(more / once) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_biases_learn_faster(toy: Any, made: Made, tmp_path: Path, factor: float) -> None:
    sgd = SGDConfig(lr=1e-3, iterations=1, momentum=0, weight_decay=0, dtype="float32")
    before = torch.load(made.network.path / "weights.pt", weights_only=True)
    moved = []
    for number, of_biases in enumerate((1.0, factor)):
        config = replace(CONFIG, sgd=sgd, bias_factor=of_biases)
        after = tune(tmp_path / str(number), toy, made, config)
        moved.append({key: after[key] - before[key] for key in after if "head." in key})
    for key, once in moved[0].items():
        assert once.abs().max() > 0
        expected = factor * once if key.endswith("bias") else once
        torch.testing.assert_close(moved[1][key], expected, rtol=1e-3, atol=1e-9)


def test_without_mirrored_maps_no_window_is_mirrored(
    toy: Any, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tune(tmp_path / "mirrored", toy, made)
    none = tune(tmp_path / "none", toy, replace(made, mirrored=()))
    assert not torch.equal(none["head.fc6.0.weight"], whole["head.fc6.0.weight"])
    # As if each window came out the way it was.
    straight = tune(tmp_path / "straight", toy, replace(made, mirrored=made.maps))
    monkeypatch.setattr(module, "mirror", lambda boxes, _: boxes)
    same = tune(tmp_path / "same", toy, replace(made, mirrored=made.maps))
    assert all(torch.equal(same[key], none[key]) for key in none)
    assert not torch.equal(straight["head.fc6.0.weight"], none["head.fc6.0.weight"])


def test_the_loss_is_cross_entropy(made: Made) -> None:
    backbone = build("tiny", PYRAMID.levels, made.network.path / "weights.pt")
    model = FullyConnected(backbone, 4).eval()
    batch = {"pooled": torch.rand(3, 128 * 21), "labels": torch.tensor([0, 3, 1])}
    with torch.no_grad():
        losses = softmax_loss(model, batch)
        chances = model(batch["pooled"]).softmax(dim=1)
    expected = -chances[[0, 1, 2], [0, 3, 1]].log().mean()
    torch.testing.assert_close(losses["classification"], expected)
