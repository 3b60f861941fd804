"""Training: what is learnt from, and that nothing but (seed, s) decides it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import benchmarks.rivals.train
from benchmarks.rivals.torchvision_detectors import NEW
from benchmarks.rivals.train import images_to_learn_from, objects_of, train_torchvision
from stages.backbones.weights import Weights, load_state
from stages.data.difficult import WithoutDifficult
from stages.data.images import target_of
from stages.errors import InputError
from stages.store import Job
from stages.training.sgd import SGDConfig

Make = Callable[..., Any]
BOX = [5, 6, 25, 30]
SGD = SGDConfig(lr=1e-3, iterations=3, dtype="float32", seed=4)


def train(
    folder: Path, data: Any, sgd: SGDConfig = SGD, factor: float = 1.0, seconds: float = 1e9
) -> dict[str, Tensor]:
    """Train in `folder`, or go on there; the finished weights."""
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(folder, checkpoint_seconds=seconds)
    train_torchvision(job, data, Weights(None, "random"), 64, 100, 32, 3, 1, True, sgd, factor)
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


def test_images_without_an_object_are_not_used(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of(
        [[BOX], [], [BOX], [BOX, BOX]],
        [[1], [], [1], [1, 2]],
        [[]] * 4,
        crowd=[[False], [], [True], [True, False]],
    )
    assert images_to_learn_from(data.train).tolist() == [0, 3]
    data.train[0].difficult[:] = True
    assert images_to_learn_from(data.train).tolist() == [0, 3]
    assert images_to_learn_from(WithoutDifficult(data).train).tolist() == [3]
    seen = []

    def look(model: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
        seen.extend(batch["image_ids"])
        return {"loss": model.rpn.head.cls_logits.bias.sum()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarks.rivals.train, "losses_of", look)
        train(tmp_path / "run", data)
    assert set(seen) == {"000", "003"}


def test_with_nothing_to_learn_it_says_so(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[], [BOX]], [[], [1]], [[], []], crowd=[[], [True]])
    with pytest.raises(InputError, match="needs objects") as caught:
        train(tmp_path / "run", data)
    assert "\n" not in str(caught.value)


class KilledError(Exception):
    """The training was stopped."""


def test_an_interrupted_training_ends_the_same(toy: Any, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", toy)
    losses_of, steps = benchmarks.rivals.train.losses_of, 0

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
