"""Training: priors and images learnt from, which layers learn, and that only (seed, s) decides."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import benchmarks.rivals.yolov3.train
from benchmarks.rivals.yolov3.clusters import cluster
from benchmarks.rivals.yolov3.config import LossConfig
from benchmarks.rivals.yolov3.train import NEW, find_priors, read_priors, train_yolov3
from fast_rcnn.config import TrainConfig
from stages.backbones.weights import Weights, load_state
from stages.data.difficult import WithoutDifficult
from stages.errors import InputError
from stages.store import Artifact, Job
from stages.training.image_batches import ImageBatches
from stages.training.sgd import SGDConfig

Make = Callable[..., Any]
SGD = SGDConfig(lr=1e-4, iterations=3, dtype="float32", seed=4)
TRAIN = TrainConfig(sgd=SGD, bias_factor=1.0, learn="all")
BOX, OTHER = [5, 6, 25, 30], [10, 10, 40, 40]


def priors_of(folder: Path, data: Any, shorter: int = 64, longest: int = 200) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    find_priors(Job(folder), data, shorter, longest)
    return Artifact(folder, "priors")


def train(
    folder: Path, data: Any, config: TrainConfig = TRAIN, seconds: float = 1e9
) -> dict[str, Tensor]:
    """Train in `folder`, or go on there; the finished weights."""
    priors = priors_of(folder / "priors", data)
    job = Job(folder, checkpoint_seconds=seconds)
    weights = Weights(None, "random")
    loss = LossConfig()
    train_yolov3(job, data, weights, "tiny", priors, 16, (64, 96), 200, 2, 0.3, loss, config)
    return load_state(folder / "weights.pt")


# Priors --------------------------------------------------------------------------------------


def test_priors_are_clusters_of_boxes_at_the_size_of_test(toy_of: Make, tmp_path: Path) -> None:
    # Images of 60 x 48: 75 x 60 at 60, 60 x 48 where the longer side ends it. Crowds do not count.
    data = toy_of([[BOX, OTHER], [], [BOX]], [[1, 2], [], [1]], [[]] * 3, crowd=[[0, 0], [], [1]])
    assert set(read_priors(priors_of(tmp_path / "a", data, 60, 200))) == {(25, 30), (37.5, 37.5)}
    assert set(read_priors(priors_of(tmp_path / "b", data, 600, 60))) == {(20, 24), (30, 30)}
    assert len(json.loads((tmp_path / "a" / "priors.json").read_text())) == 9


def test_priors_of_many_boxes(toy: Any, tmp_path: Path) -> None:
    boxes = np.concatenate([record.boxes[~record.iscrowd] for record in toy.train])
    wanted = cluster((boxes[:, 2:] - boxes[:, :2]) * 2, 9)
    np.testing.assert_allclose(read_priors(priors_of(tmp_path, toy, 96)), wanted, atol=0.006)


# What is learnt from -------------------------------------------------------------------------


def test_images_without_an_object_are_background_and_those_of_crowds_are_not_used(
    toy_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy_of(
        [[BOX], [], [BOX], [BOX, OTHER], [BOX]],
        [[1], [], [1], [1, 2], [2]],
        [[]] * 5,
        crowd=[[False], [], [True], [True, False], [False]],
    )
    data.train[4].difficult[:] = True
    seen = []

    def look(model: Any, batch: dict[str, Any], _: float) -> dict[str, Tensor]:
        seen.extend(batch["image_ids"])
        return {"loss": model.heads.scales[0].outputs.bias.sum()}

    monkeypatch.setattr(benchmarks.rivals.yolov3.train, "_losses", look)
    train(tmp_path / "run", data)
    assert set(seen) == {"000", "001", "003", "004"}
    seen.clear()
    train(tmp_path / "without", WithoutDifficult(data))
    assert set(seen) == {"000", "001", "003"}


def test_images_are_jittered_where_it_is_asked_for(toy: Any) -> None:
    given: list[Any] = []

    class Model:
        """Only looks."""

        backbone = type("Backbone", (), {"mean": torch.zeros(3, 1, 1)})

        def losses(self, images: Any, targets: Any) -> dict[str, Tensor]:
            given.append((images, targets))
            return {}

    batch = ImageBatches(toy.train, np.array([0]), 1, False, 0)[0]
    losses_of = benchmarks.rivals.yolov3.train._losses
    for by in (0.0, 0.3):
        losses_of(Model(), batch, by)  # type: ignore[arg-type]
    (plain, objects), (changed, others) = given
    assert plain[0] is batch["images"][0] and objects[0] is batch["targets"][0]
    assert changed[0].shape == plain[0].shape
    assert not torch.equal(changed[0], plain[0] / 255)
    assert not torch.equal(others[0]["boxes"], objects[0]["boxes"])


def test_with_nothing_to_learn_it_says_so(toy_of: Make, toy: Any, tmp_path: Path) -> None:
    data = toy_of([[], [BOX]], [[], [1]], [[], []], crowd=[[], [True]])
    with pytest.raises(InputError, match="YOLOv3 needs objects"):
        priors_of(tmp_path / "priors", data)
    priors, loss = priors_of(tmp_path / "others", toy), LossConfig()
    with pytest.raises(InputError, match="YOLOv3 needs objects") as caught:
        job, weights = Job(tmp_path), Weights(None, "random")
        train_yolov3(job, data, weights, "tiny", priors, 16, (64,), 200, 2, 0.3, loss, TRAIN)
    assert "\n" not in str(caught.value)


# What learns ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def start(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights before any step."""
    still = replace(TRAIN, sgd=replace(SGD, lr=0.0, iterations=1))
    return train(tmp_path_factory.mktemp("start"), toy, still)


def learnt(after: dict[str, Tensor], before: dict[str, Tensor]) -> set[str]:
    """Parameters that are others now."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert after.keys() == before.keys()
    keys = {key for key, value in after.items() if not torch.equal(value, before[key])}
    return {key for key in keys if not key.endswith(statistics)}


@pytest.mark.parametrize(
    ("learn", "still"), [("all", ()), ("default", ("backbone.trunk.0.",)), ("head", ("backbone.",))]
)
def test_what_is_to_learn_learns(
    toy: Any, tmp_path: Path, start: dict[str, Tensor], learn: Any, still: tuple[str, ...]
) -> None:
    after = train(tmp_path / "run", toy, replace(TRAIN, learn=learn))
    changed = learnt(after, start)
    new = {key for key in start if key.startswith(NEW) and key.endswith(("weight", "bias"))}
    trunk = {f"backbone.trunk.{n}.0.weight" for n in range(5)}
    frozen = {key for key in trunk if still and key.startswith(still)}
    assert changed == new | trunk - frozen
    assert all(bool(torch.isfinite(value).all()) for value in after.values())


def test_new_layers_may_learn_faster(toy: Any, tmp_path: Path, start: dict[str, Tensor]) -> None:
    plain = replace(SGD, lr=1e-6, iterations=1, momentum=0.0, weight_decay=0.0)
    once, tenfold = (
        train(tmp_path / str(factor), toy, replace(TRAIN, sgd=plain, new_layer_factor=factor))
        for factor in (1.0, 10.0)
    )
    assert all(key.startswith(NEW) for key in learnt(once, tenfold))
    key = "further.1.bias"  # starts at nought: no digits are lost
    assert float((once[key] - start[key]).abs().max()) > 0
    torch.testing.assert_close(tenfold[key], 10 * once[key])


# What it leaves ------------------------------------------------------------------------------


class KilledError(Exception):
    """The training was stopped."""


def test_an_interrupted_training_ends_the_same(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", toy)
    losses_of, steps = benchmarks.rivals.yolov3.train._losses, 0

    def twice(model: Any, batch: dict[str, Any], by: float) -> dict[str, Tensor]:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KilledError
        return losses_of(model, batch, by)

    monkeypatch.setattr(benchmarks.rivals.yolov3.train, "_losses", twice)
    with pytest.raises(KilledError):
        train(tmp_path / "killed", toy, seconds=0)
    assert (tmp_path / "killed" / "checkpoint.pt").exists()
    monkeypatch.undo()
    resumed = train(tmp_path / "killed", toy)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(value, whole[key]) for key, value in resumed.items())
    with open(tmp_path / "whole" / "losses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert {"boxes", "objectness", "classification"} < {*rows[0]}
