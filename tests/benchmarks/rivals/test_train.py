"""Training: what is learnt from, and that nothing but (seed, s) decides it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

import benchmarks.rivals.train
from benchmarks.rivals.config import Kind
from benchmarks.rivals.torchvision_detectors import NEW, build, find
from benchmarks.rivals.train import (
    losses_of,
    objects_of,
    train_torchvision,
)
from stages.backbones.networks import classifier
from stages.backbones.weights import Weights, load_state
from stages.data.difficult import WithoutDifficult
from stages.data.images import target_of
from stages.errors import InputError
from stages.stopwatch import OFF
from stages.store import Job
from stages.training.image_batches import images_to_learn_from
from stages.training.sgd import SGDConfig

Make = Callable[..., Any]
BOX = [5, 6, 25, 30]
SGD = SGDConfig(lr=1e-3, iterations=3, dtype="float32", seed=4)


def train(
    folder: Path,
    data: Any,
    sgd: SGDConfig = SGD,
    factor: float = 1.0,
    seconds: float = 1e9,
    kind: Kind = "faster",
) -> dict[str, Tensor]:
    """Train in `folder`, or go on there; the finished weights."""
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(folder, checkpoint_seconds=seconds)
    weights = Weights(None, "random")
    train_torchvision(job, data, kind, weights, 64, 100, 32, 3, 1, True, sgd, factor)
    return load_state(folder / "weights.pt")


def test_crowds_and_difficult_objects_are_left_out(toy_of: Make) -> None:
    other = [10, 10, 40, 40]
    data = toy_of([[BOX, other, BOX]], [[1, 2, 1]], [[]], crowd=[[True, False, False]])
    data.train[0].difficult[2] = True
    plain = objects_of(target_of(data.train[0]))
    assert plain.keys() == {"boxes", "labels"}
    assert plain["boxes"].tolist() == [other, BOX]
    assert plain["labels"].tolist() == [2, 1]
    without = objects_of(target_of(WithoutDifficult(data).train[0]))
    assert without["boxes"].tolist() == [other]
    assert without["labels"].tolist() == [2]


def test_images_of_crowds_alone_are_not_used(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of(
        [[BOX], [], [BOX], [BOX, BOX]],
        [[1], [], [1], [1, 2]],
        [[]] * 4,
        crowd=[[False], [], [True], [True, False]],
    )
    assert images_to_learn_from(data.train).tolist() == [0, 1, 3]
    data.train[0].difficult[:] = True
    assert images_to_learn_from(data.train).tolist() == [0, 1, 3]
    assert images_to_learn_from(WithoutDifficult(data).train).tolist() == [1, 3]
    seen = []

    def look(model: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
        seen.extend(batch["image_ids"])
        return {"loss": model.rpn.head.cls_logits.bias.sum()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarks.rivals.train, "losses_of", look)
        train(tmp_path / "run", data)
    assert set(seen) == {"000", "001", "003"}


def test_with_nothing_to_learn_it_says_so(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[], [BOX]], [[], [1]], [[], []], crowd=[[], [True]])
    with pytest.raises(InputError, match="needs objects") as caught:
        train(tmp_path / "run", data)
    assert "\n" not in str(caught.value)


def test_more_masks_than_torchvision_can_have_drawn_are_refused_before_it_trains(
    toy_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy_of([[BOX, BOX]], [[1, 2]], [[]])
    outline = (np.array([5.0, 6, 25, 6, 25, 30]),)
    record = replace(data.train[0], segmentations=(outline, outline))
    monkeypatch.setattr("stages.data.images.MOST_MASKS", 2 * 48 * 60 - 1)
    monkeypatch.setattr(
        benchmarks.rivals.train, "losses_of", lambda *_: pytest.fail("it has begun")
    )
    with pytest.raises(InputError, match=r"2 masks of 60x48 pixels take .*, over"):
        train(tmp_path / "run", replace(data, train=[record]), kind="mask")


def test_masks_are_learnt_of_images_that_have_them(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[BOX, BOX], [BOX]], [[1, 2], [1]], [[]] * 2, crowd=[[True, False], [False]])
    with pytest.raises(InputError, match="needs objects with masks"):
        train(tmp_path / "none", data, kind="mask")
    record = replace(data.train[0], segmentations=(None, (np.array([5.0, 6, 25, 6, 25, 30]),)))
    # Torchvision would take an object without a mask for one whose mask is empty.
    partly = replace(record, image_id="partly", iscrowd=np.array([False, False]))
    seen = []

    def look(model: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
        seen.extend(batch["image_ids"])
        (target,) = (objects_of(target) for target in batch["targets"])
        assert target["masks"].shape == (1, 48, 60)
        assert target["masks"].any()
        return {"loss": model.roi_heads.mask_predictor.mask_fcn_logits.bias.sum()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarks.rivals.train, "losses_of", look)
        train(tmp_path / "run", replace(data, train=[record, data.train[1], partly]), kind="mask")
    assert set(seen) == {"000"}


class KilledError(Exception):
    """The training was stopped."""


def test_an_interrupted_training_ends_the_same(toy: Any, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", toy)
    steps = 0

    def twice(model: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KilledError
        return losses_of(model, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarks.rivals.train, "losses_of", twice)
        with pytest.raises(KilledError):
            train(tmp_path / "killed", toy, seconds=0)
    assert (tmp_path / "killed" / "checkpoint.pt").exists()
    resumed = train(tmp_path / "killed", toy)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(value, whole[key]) for key, value in resumed.items())
    with open(tmp_path / "whole" / "losses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"} < {*rows[0]}


def test_new_layers_may_learn_faster(toy: Any, tmp_path: Path) -> None:
    one = {"lr": 1e-6, "iterations": 1, "momentum": 0.0, "weight_decay": 0.0, "dtype": "float32"}
    start = train(tmp_path / "start", toy, SGDConfig(**{**one, "lr": 0.0}))
    once, tenfold = (
        train(tmp_path / str(factor), toy, SGDConfig(**one), factor) for factor in (1.0, 10.0)
    )
    changed = {key for key, value in once.items() if not torch.equal(value, tenfold[key])}
    assert changed and all(key.startswith(NEW) for key in changed)
    key = "roi_heads.box_predictor.cls_score.bias"  # starts at nought: no digits are lost
    moves = [weights[key] - start[key] for weights in (once, tenfold)]
    torch.testing.assert_close(moves[1], 10 * moves[0])
    assert moves[0].abs().max() > 0


# It learns -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sighted(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Random weights whose batch norms know the maps of noise: without, these fade out on the way."""
    torch.manual_seed(0)
    network = classifier("mobilenet_v2").train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(4, 3, 96, 96))
    path = tmp_path_factory.mktemp("weights") / "sighted.pth"
    torch.save(network.state_dict(), path)
    return Weights(path, "sighted")


@pytest.mark.parametrize(
    ("kind", "layers", "rate", "steps"), [("ssd", 3, 0.01, 40), ("retinanet", 0, 0.003, 50)]
)
def test_one_image_is_learnt_by_heart(
    sighted: Weights, kind: Kind, layers: int, rate: float, steps: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 60, (3, 48, 60), generator=generator, dtype=torch.uint8)
    box = torch.tensor([[10.0, 12, 40, 36]])
    image[0, 12:36, 10:40] = 230
    none = torch.tensor([False])
    target = {"boxes": box, "labels": torch.tensor([2]), "iscrowd": none}
    torch.manual_seed(0)
    model = build(kind, sighted, 3, 64, 64, 16, layers).train()
    learners = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(learners, momentum=0.9)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 10)
        losses = losses_of(model, {"images": [image], "targets": [target]})
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.inference_mode():
        found = find(model.eval(), image, OFF)
    assert found["labels"][0] == 2
    assert found["scores"][0] > 0.5
    assert box_iou(found["boxes"][:1], box) > 0.7
