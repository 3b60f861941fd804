"""Fine-tuning's batches: what is in them, and that nothing but (seed, s) decides it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnn_v1.config import FineTuneConfig
from rcnn_v1.fine_tune import WindowBatches, fine_tune, softmax_loss
from rcnn_v1.warp import crop_windows
from stages.backbones.backbone import Backbone
from stages.backbones.classifier import Classifier
from stages.backbones.networks import tiny
from stages.backbones.weights import Weights, build_backbone
from stages.data.decode import image_of
from stages.errors import InputError
from stages.proposals.windows import Windows, training_windows
from stages.store import Job
from stages.training.sgd import SGDConfig

CONTEXT = 16 / 227
CONFIG = FineTuneConfig(
    sgd=SGDConfig(lr=0.01, iterations=3, dtype="float32", seed=4), positives=6, backgrounds=10
)
RANDOM = Weights(None, "random")
BOX = [5, 5, 25, 25]
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny()


@pytest.fixture(scope="module")
def windows(toy: Any) -> Windows:
    return training_windows(toy.train, toy.reader, None)


def batches_of(
    data: Any, backbone: Backbone, config: FineTuneConfig = CONFIG
) -> tuple[WindowBatches, Windows]:
    windows = training_windows(data.train, data.reader, None)
    return WindowBatches(data.train, windows, config, backbone, CONTEXT), windows


def with_seed(seed: int) -> FineTuneConfig:
    return replace(CONFIG, sgd=replace(CONFIG.sgd, seed=seed))


def crops_of(data: Any, windows: Windows, rows: np.ndarray, backbone: Backbone) -> torch.Tensor:
    """The rows' crops, one at a time and not mirrored."""
    crops = []
    for row in rows:
        pixels = torch.from_numpy(image_of(data.train[windows.image[row]])).permute(2, 0, 1)
        box = torch.from_numpy(windows.boxes[row : row + 1])
        crops.append(crop_windows(backbone.normalise(pixels), box, backbone.crop_size, CONTEXT))
    return torch.cat(crops)


# Who is in a batch ---------------------------------------------------------------------------


def test_the_papers_batch_is_32_and_96(toy: Any, backbone: Backbone) -> None:
    config = FineTuneConfig()
    batches, _ = batches_of(toy, backbone, config)
    batch = batches[0]
    assert batch["crops"].shape == (128, 3, 64, 64)
    assert (batch["labels"][:32] > 0).all()
    assert (batch["labels"][32:] == 0).all()
    assert len(batch["image_ids"]) == 128


def test_positives_and_background_are_told_apart_at_a_half(toy: Any, backbone: Backbone) -> None:
    batches, windows = batches_of(toy, backbone)
    for s in range(50):
        rows = batches.choose(np.random.default_rng(s))
        assert (windows.overlap[rows[:6]] >= 0.5).all()
        assert (windows.overlap[rows[6:]] < 0.5).all()
        assert len(set(rows)) == 16


def test_exactly_a_half_is_positive(toy_of: Make, backbone: Backbone) -> None:
    data = toy_of([[BOX]], [[2]], [[[5, 5, 25, 15], [5, 5, 25, 14.9]]])
    batches, _ = batches_of(data, backbone)
    assert batches.positives.tolist() == [0, 1]
    assert batches.backgrounds.tolist() == [2]


def test_every_window_is_drawn_some_time(toy: Any, backbone: Backbone) -> None:
    batches, windows = batches_of(toy, backbone)
    seen = {int(row) for s in range(300) for row in batches.choose(np.random.default_rng(s))}
    assert seen == set(range(len(windows.boxes)))


def test_labels_are_the_best_objects(
    toy: Any, windows: Windows, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, _ = batches_of(toy, backbone)
    rows = np.arange(len(windows.boxes))
    monkeypatch.setattr(WindowBatches, "choose", lambda self, rng: rows)
    batch = batches[0]
    expected = np.where(windows.overlap >= 0.5, windows.label, 0)
    assert batch["labels"].tolist() == expected.tolist()
    assert batch["labels"].dtype == torch.int64
    assert set(expected) == {0, 1, 2}
    assert batch["image_ids"] == [toy.train[n].image_id for n in windows.image]


def test_too_few_positives_are_taken_more_than_once(toy_of: Make, backbone: Backbone) -> None:
    data = toy_of([[BOX]], [[1]], [[[30, 30, 50, 45], [30, 2, 50, 14]]])
    batch = batches_of(data, backbone)[0][0]
    assert batch["labels"].tolist() == [1] * 6 + [0] * 10


@pytest.mark.parametrize(
    ("objects", "labels", "proposals"),
    [
        pytest.param([[]], [[]], [[BOX]], id="no object"),
        pytest.param([[BOX]], [[1]], [[]], id="no background"),
    ],
)
def test_without_objects_or_background_there_is_nothing_to_learn(
    toy_of: Make, backbone: Backbone, objects: Any, labels: Any, proposals: Any
) -> None:
    data = toy_of(objects, labels, proposals)
    with pytest.raises(InputError) as caught:
        batches_of(data, backbone)
    assert "fine-tuning" in str(caught.value)


# A function of (seed, s) ---------------------------------------------------------------------


def test_a_batch_is_a_function_of_seed_and_iteration(toy: Any, backbone: Backbone) -> None:
    expected = batches_of(toy, backbone)[0][5]
    other, _ = batches_of(toy, backbone)
    other[9], other[0]
    torch.manual_seed(99), np.random.seed(99)
    again = other[5]
    assert torch.equal(again["crops"], expected["crops"])
    assert torch.equal(again["labels"], expected["labels"])
    assert again["image_ids"] == expected["image_ids"]
    assert not torch.equal(other[6]["crops"], expected["crops"])
    assert not torch.equal(
        batches_of(toy, backbone, with_seed(5))[0][5]["crops"], expected["crops"]
    )


def test_neighbouring_seeds_do_not_share_batches(toy: Any, backbone: Backbone) -> None:
    mine, theirs = (batches_of(toy, backbone, with_seed(seed))[0] for seed in (4, 5))
    assert not torch.equal(mine[1]["crops"], theirs[0]["crops"])


# What a crop shows ---------------------------------------------------------------------------


def test_crops_are_the_windows_half_of_them_mirrored(
    toy: Any, windows: Windows, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, _ = batches_of(toy, backbone)
    rows = np.random.default_rng(0).permutation(len(windows.boxes))[:60]
    monkeypatch.setattr(WindowBatches, "choose", lambda self, rng: rows)
    straight = crops_of(toy, windows, rows, backbone)
    mirrored = straight.flip(-1)
    assert not torch.isclose(straight, mirrored, atol=1e-3).flatten(1).all(dim=1).any()
    count = np.zeros(len(rows))
    for s in range(6):
        crops = batches[s]["crops"]
        as_is = torch.isclose(crops, straight, atol=1e-4).flatten(1).all(dim=1)
        turned = torch.isclose(crops, mirrored, atol=1e-4).flatten(1).all(dim=1)
        assert (as_is ^ turned).all()
        count += turned.numpy()
    assert 0.4 < count.sum() / (6 * 60) < 0.6
    assert 0 < count[0] + count[1] + count[2] < 18


def test_outside_the_image_is_the_mean(toy_of: Make, backbone: Backbone) -> None:
    # A box in the corner: its context lies outside.
    data = toy_of([[[0, 0, 30, 30]]], [[1]], [[[40, 30, 60, 48]]])
    batch = batches_of(data, backbone)[0][0]
    for crop, label in zip(batch["crops"], batch["labels"], strict=True):
        edge = crop[:, 0] if label else crop[:, -1]
        assert torch.equal(edge, torch.zeros(3, 64))
        assert (crop[:, 20:40, 20:40] != 0).all()


# The stage -----------------------------------------------------------------------------------


def test_the_loss_is_cross_entropy(backbone: Backbone) -> None:
    torch.manual_seed(0)
    model = Classifier(backbone, 4).eval()
    batch = {"crops": torch.randn(3, 3, 64, 64), "labels": torch.tensor([0, 3, 1])}
    with torch.no_grad():
        losses = softmax_loss(model, batch)
        chances = model(batch["crops"]).softmax(dim=1)
    assert list(losses) == ["classification"]
    expected = -chances[[0, 1, 2], [0, 3, 1]].log().mean()
    torch.testing.assert_close(losses["classification"], expected)


def test_the_stage_trains_all_layers_and_leaves_a_backbone(toy: Any, tmp_path: Path) -> None:
    arguments = (toy, toy.proposals, RANDOM, "tiny", None, CONTEXT, CONFIG)
    fine_tune(Job(tmp_path), *arguments)
    before = dict(build_backbone("tiny", RANDOM).named_parameters())
    tuned = build_backbone("tiny", Weights(tmp_path / "weights.pt", ""))
    for name, p in tuned.named_parameters():
        assert torch.isfinite(p).all()
        # Batch norm, its affine part too, is frozen.
        moved = not torch.equal(p, before[name])
        assert moved != bool(re.match(r"trunk\.\d\.1\.", name)), name
    with open(tmp_path / "losses.csv", newline="") as file:
        first = float(next(csv.DictReader(file))["classification"])
    # New scores are near nought: no class is likelier than another.
    assert first == pytest.approx(np.log(len(toy.classes) + 1), abs=0.5)


def moves_of(toy: Any, folder: Path, **changed: Any) -> dict[str, torch.Tensor]:
    """What one step without momentum and decay moves, of `tiny`."""
    sgd = SGDConfig(lr=1e-4, iterations=1, momentum=0, weight_decay=0, dtype="float32")
    folder.mkdir()
    config = FineTuneConfig(sgd=sgd, positives=1, backgrounds=1, **changed)
    fine_tune(Job(folder), toy, toy.proposals, RANDOM, "tiny", None, CONTEXT, config)
    tuned = build_backbone("tiny", Weights(folder / "weights.pt", ""))
    start = dict(build_backbone("tiny", RANDOM).named_parameters())
    return {name: (p - start[name]).detach() for name, p in tuned.named_parameters()}


def test_biases_learn_twice_as_fast(toy: Any, tmp_path: Path) -> None:
    assert FineTuneConfig().bias_factor == 2
    once = moves_of(toy, tmp_path / "once", bias_factor=1.0)
    twice = moves_of(toy, tmp_path / "twice")
    for layer in ("head.fc6.0", "head.fc7.0"):
        assert float(once[f"{layer}.bias"].abs().max()) > 0
        torch.testing.assert_close(twice[f"{layer}.bias"], 2 * once[f"{layer}.bias"])
        torch.testing.assert_close(twice[f"{layer}.weight"], once[f"{layer}.weight"])


def test_new_layers_learn_faster(toy: Any, tmp_path: Path) -> None:
    # One step without decay, from the same start: only SqueezeNet's new head may differ by factor.
    sgd = SGDConfig(lr=1e-4, iterations=1, momentum=0, weight_decay=0, dtype="float32")
    moves = []
    for factor in (1.0, 10.0):
        folder = tmp_path / str(factor)
        folder.mkdir()
        config = FineTuneConfig(sgd=sgd, positives=1, backgrounds=1, new_layer_factor=factor)
        fine_tune(Job(folder), toy, toy.proposals, RANDOM, "squeezenet1_1", None, CONTEXT, config)
        tuned = build_backbone("squeezenet1_1", Weights(folder / "weights.pt", ""))
        start = dict(build_backbone("squeezenet1_1", RANDOM).named_parameters())
        moves.append({name: p - start[name] for name, p in tuned.named_parameters()})
    once, tenfold = moves
    assert torch.equal(once["trunk.0.weight"], tenfold["trunk.0.weight"])
    head = "head.fc7.0.weight"
    assert float(once[head].detach().abs().max()) > 0
    assert float(tenfold[head].detach().norm() / once[head].detach().norm()) == pytest.approx(
        10, rel=0.02
    )
