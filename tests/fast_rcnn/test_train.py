"""Training: what is in a batch, what learns and how fast, and that nothing but (seed, s) decides it."""

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
from PIL import Image
from torch import Tensor

import fast_rcnn.train
from fast_rcnn.config import (
    DetectionConfig,
    LossConfig,
    SamplingConfig,
    ScaleConfig,
    TrainConfig,
)
from fast_rcnn.detector import Description, build
from fast_rcnn.network import FastRCNN
from fast_rcnn.pipeline import assemble, detect
from fast_rcnn.targets import statistics
from fast_rcnn.train import (
    choose_learners,
    images_to_learn_from,
    train_detector,
)
from stages.backbones.config import Name
from stages.backbones.networks import early_layers_of
from stages.backbones.weights import Weights, build_backbone, load_state
from stages.data.difficult import WithoutDifficult
from stages.errors import InputError
from stages.evaluation.stage import evaluate_detections
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.proposals.windows import training_windows
from stages.store import Artifact, Job
from stages.training.image_batches import ImageBatches
from stages.training.sgd import SGDConfig

Make = Callable[..., Any]
RANDOM = Weights(None, "random")
SEARCH = SelectiveSearchConfig("quality", 7, 3)
SCALE = ScaleConfig(train=(64, 80), test=(64,), longest=200)
SAMPLING = SamplingConfig(rois=16)
DETECTION = DetectionConfig(per_class=9, dtype="float32")
CONFIG = TrainConfig(
    sgd=SGDConfig(lr=0.01, iterations=6, dtype="float32", seed=4), new_layer_factor=1.0
)
BOX = [5, 6, 25, 30]


def train(
    folder: Path,
    data: Any,
    config: TrainConfig = CONFIG,
    *,
    name: Name = "tiny",
    weights: Weights = RANDOM,
    sampling: SamplingConfig = SAMPLING,
    scale: ScaleConfig = SCALE,
    loss: LossConfig | None = None,
    start: Artifact | None = None,
    workers: int = 0,
    seconds: float = 1e9,
) -> dict[str, Tensor]:
    """Train in `folder`, or go on there; the finished weights."""
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(folder, workers=workers, checkpoint_seconds=seconds)
    train_detector(
        job,
        data,
        data.proposals,
        weights,
        name,
        None,
        scale.train,
        scale.longest,
        sampling,
        loss or LossConfig(),
        config,
        start,
    )
    return load_state(folder / "weights.pt")


def sgd(**changes: Any) -> TrainConfig:
    return replace(CONFIG, sgd=replace(CONFIG.sgd, **changes))


def changed(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {key for key, value in one.items() if not torch.equal(value, other[key])}


def losses(folder: Path) -> list[dict[str, str]]:
    """`losses.csv` without what the clock says."""
    with open(folder / "losses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return rows


# Which images --------------------------------------------------------------------------------


def usable(data: Any, sampling: SamplingConfig = SAMPLING) -> list[int]:
    windows = training_windows(data.train, data.reader, None)
    return [int(n) for n in images_to_learn_from(windows, len(data.train), sampling)]


def test_images_without_anything_to_learn_are_left_out(toy_of: Make) -> None:
    data = toy_of(
        [[BOX], [], [BOX], [BOX], []],
        [[1], [], [1], [1], []],
        [[BOX], [BOX], [], [], []],
        crowd=[[False], [], [False], [True], []],
    )
    # With no object nothing overlaps one by a tenth.
    assert usable(data) == [0, 2]
    # Where everything is background it is otherwise.
    assert usable(data, replace(SAMPLING, background_iou=(0.0, 0.5))) == [0, 1, 2]
    assert usable(data, replace(SAMPLING, hard=True)) == [0, 1, 2]


def test_images_of_difficult_objects_alone(toy_of: Make) -> None:
    data = toy_of([[BOX], [BOX]], [[1], [2]], [[BOX], [BOX]])
    data.train[0].difficult[:] = True
    assert usable(data) == [0, 1]
    without = WithoutDifficult(data)
    windows = training_windows(without.train, data.reader, None)
    assert images_to_learn_from(windows, 2, SAMPLING).tolist() == [1]


def test_with_nothing_to_learn_it_says_so(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[], [BOX]], [[], [1]], [[BOX], [BOX]], crowd=[[], [True]])
    with pytest.raises(InputError, match="objects") as caught:
        train(tmp_path / "run", data)
    assert "\n" not in str(caught.value)


def test_proposals_of_another_data_set_are_refused(toy: Any, toy_of: Make, tmp_path: Path) -> None:
    other = toy_of([[BOX]], [[1]], [[BOX]])
    with pytest.raises(InputError, match="another data set") as caught:
        train(tmp_path / "run", replace(toy, proposals=other.proposals))
    assert "\n" not in str(caught.value)


# What learns ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def start(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights before any step: training at a rate of nought."""
    return train(tmp_path_factory.mktemp("start"), toy, sgd(lr=0.0, iterations=1))


PREDICTOR = {
    f"predictor.{layer}.{kind}" for layer in ("scores", "offsets") for kind in ("weight", "bias")
}
HEAD = {
    f"backbone.head.{layer}.0.{kind}" for layer in ("fc6", "fc7") for kind in ("weight", "bias")
}
FIRST = {"backbone.trunk.0.0.weight"}
REST = {f"backbone.trunk.{n}.0.weight" for n in range(1, 5)}


@pytest.mark.parametrize(
    ("learn", "expected"),
    [
        ("all", PREDICTOR | HEAD | FIRST | REST),
        ("default", PREDICTOR | HEAD | REST),
        ("head", PREDICTOR | HEAD),
        ("boxes", {"predictor.offsets.weight", "predictor.offsets.bias"}),
    ],
)
def test_exactly_what_is_to_learn_changes(
    toy: Any, tmp_path: Path, start: dict[str, Tensor], learn: Any, expected: set[str]
) -> None:
    after = train(tmp_path, toy, replace(CONFIG, learn=learn))
    # The box layer changes by folding alone, even at a rate of nought: it is compared in learning.
    assert changed(after, start) == expected
    assert all(torch.isfinite(value).all() for value in after.values())


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v2", "squeezenet1_1"])
def test_which_parameters_learn(name: Name) -> None:
    with torch.device("meta"):
        model = build(Description("fast", name, ("a",), None, SEARCH, SCALE, DETECTION))
    names = {key for key, _ in model.named_parameters()}
    early = {
        key
        for key in names
        if any(key.startswith(f"backbone.{prefix}") for prefix in early_layers_of(name))
    }
    trunk = {key for key in names if key.startswith("backbone.trunk.")}
    assert early
    assert early < trunk < names
    for learn, still in (
        ("all", set()),
        ("default", early),
        ("head", trunk),
        ("all", set()),  # what was held learns again
        ("boxes", names - {"predictor.offsets.weight", "predictor.offsets.bias"}),
    ):
        choose_learners(model, model.backbone.name, learn)
        assert {key for key, p in model.named_parameters() if not p.requires_grad} == still


def test_biases_learn_twice_as_fast(toy: Any, tmp_path: Path, start: dict[str, Tensor]) -> None:
    # A step without momentum or decay: each moves by its rate times its gradient.
    plain = {"lr": 1e-3, "iterations": 1, "momentum": 0.0, "weight_decay": 0.0}
    moves = []
    for factor in (1.0, 2.0, CONFIG.bias_factor):
        config = replace(sgd(**plain), bias_factor=factor)
        after = train(tmp_path / str(factor), toy, config)
        moves.append({key: after[key] - start[key] for key in after})
    once, twice, default = moves
    for key in HEAD | {"predictor.scores.weight", "predictor.scores.bias"}:
        assert once[key].abs().max() > 0
        factor = 2 if key.endswith("bias") else 1
        torch.testing.assert_close(twice[key], factor * once[key], rtol=1e-2, atol=1e-7)
        assert torch.equal(twice[key], default[key])


def test_biases_do_not_decay(toy: Any, tmp_path: Path) -> None:
    # Biases that are not nought, which decay would move.
    state = build_backbone("tiny", RANDOM).state_dict()
    for key in state:
        if key.startswith("head.") and key.endswith("bias"):
            state[key] = torch.full_like(state[key], 0.25)
    torch.save(state, tmp_path / "weights.pt")
    weights = Weights(tmp_path / "weights.pt", "w")
    plain, decayed = (
        train(
            tmp_path / str(decay),
            toy,
            sgd(lr=1e-3, iterations=1, momentum=0.0, weight_decay=decay),
            weights=weights,
        )
        for decay in (0.0, 10.0)
    )
    for key in HEAD:
        if key.endswith("bias"):
            assert torch.equal(decayed[key], plain[key])
            assert float(plain[key].mean()) == pytest.approx(0.25, abs=0.01)
        else:
            before = state[key.removeprefix("backbone.")]
            torch.testing.assert_close(
                decayed[key], plain[key] - 1e-3 * 10 * before, rtol=1e-3, atol=1e-6
            )


def test_new_layers_may_learn_faster(toy: Any, tmp_path: Path) -> None:
    plain = sgd(lr=1e-4, iterations=1, momentum=0.0, weight_decay=0.0)
    runs = [
        train(
            tmp_path / str(factor),
            toy,
            replace(plain, new_layer_factor=factor),
            name="squeezenet1_1",
            sampling=replace(SAMPLING, images=1, rois=4),
        )
        for factor in (1.0, 10.0)
    ]
    once, tenfold = runs
    start = build_backbone("squeezenet1_1", RANDOM).state_dict()
    key = "head.fc7.0.weight"
    moves = [run[f"backbone.{key}"] - start[key] for run in runs]
    assert float(moves[1].norm() / moves[0].norm()) == pytest.approx(10, rel=0.02)
    # The outputs are new too; what is pre-trained learns as it does without.
    assert changed(once, tenfold) == HEAD | PREDICTOR


def test_boxes_alone_on_a_finished_network(toy: Any, tmp_path: Path) -> None:
    first = train(tmp_path / "first", toy, loss=LossConfig(box_weight=0.0))
    begun = Artifact(tmp_path / "first", "x")
    second = train(tmp_path / "second", toy, replace(CONFIG, learn="boxes"), start=begun)
    assert changed(first, second) == {"predictor.offsets.weight", "predictor.offsets.bias"}
    # The box layer begins anew, not where the first left it.
    zero = sgd(lr=0.0, iterations=1)
    one = train(tmp_path / "one", toy, replace(zero, learn="boxes"), start=begun)
    other = train(tmp_path / "other", toy, zero)
    assert torch.equal(one["predictor.offsets.weight"], other["predictor.offsets.weight"])
    assert torch.equal(one["predictor.scores.weight"], first["predictor.scores.weight"])


def test_a_start_of_another_network_is_refused(toy: Any, tmp_path: Path) -> None:
    train(tmp_path / "first", toy, sgd(iterations=1))
    with pytest.raises(InputError, match=r"weights\.pt"):
        train(
            tmp_path / "second",
            replace(toy, classes=("cat", "dog")),
            start=Artifact(tmp_path / "first", "x"),
        )


# The finished model --------------------------------------------------------------------------


def test_what_it_leaves(toy: Any, tmp_path: Path) -> None:
    state = train(tmp_path, toy)
    assert {path.name for path in tmp_path.iterdir()} == {"losses.csv", "tensorboard", "weights.pt"}
    model = FastRCNN(build_backbone("tiny", RANDOM), toy.classes, SCALE)
    assert model.state_dict().keys() == state.keys()
    rows = losses(tmp_path)
    assert [int(row["iteration"]) for row in rows] == list(range(6))
    assert {"classification", "boxes", "loss"} <= rows[0].keys()
    # New scores are near nought: no class is likelier than another.
    assert float(rows[0]["classification"]) == pytest.approx(np.log(4), abs=0.3)


def test_the_box_layer_is_folded(toy: Any, tmp_path: Path) -> None:
    # Nothing learnt, and weights of a thousandth: offsets are the classes' mean.
    state = train(tmp_path, toy, sgd(lr=0.0, iterations=1))
    windows = training_windows(toy.train, toy.reader, None)
    mean, std = statistics(toy.train, windows, 3, 0.5)
    torch.testing.assert_close(state["predictor.offsets.bias"], mean.flatten())
    # Each row has its class's deviation: of 256 weights about a thousandth of it.
    rows = state["predictor.offsets.weight"].std(dim=1)
    torch.testing.assert_close(rows, 1e-3 * std.flatten(), rtol=0.2, atol=0)


# Killed, and in threads ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(
    toy: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Tensor], list[dict[str, str]]]:
    """A training that nothing interrupted, by one thread."""
    folder = tmp_path_factory.mktemp("whole")
    return train(folder, toy), losses(folder)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_one_that_died_ends_as_one_that_did_not(
    toy: Any,
    tmp_path: Path,
    whole: tuple[dict[str, Tensor], list[dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
    k: int,
) -> None:
    plain = ImageBatches.__getitem__
    asked: list[int] = []

    def dies(self: ImageBatches, iteration: int) -> dict[str, Any]:
        if iteration == k:
            raise ZeroDivisionError
        return plain(self, iteration)

    def notes(self: ImageBatches, iteration: int) -> dict[str, Any]:
        asked.append(iteration)
        return plain(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(ImageBatches, "__getitem__", dies)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path, toy, seconds=0.0)
    assert (tmp_path / "checkpoint.pt").exists()
    assert not (tmp_path / "weights.pt").exists()
    monkeypatch.setattr(ImageBatches, "__getitem__", notes)
    torch.manual_seed(987)
    after = train(tmp_path, toy, seconds=0.0)
    assert asked == list(range(k, 6))
    assert changed(after, whole[0]) == set()
    assert losses(tmp_path) == whole[1]


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_do_not_shape_the_result(
    toy: Any,
    tmp_path: Path,
    whole: tuple[dict[str, Tensor], list[dict[str, str]]],
    workers: int,
) -> None:
    after = train(tmp_path, toy, workers=workers)
    assert changed(after, whole[0]) == set()
    assert losses(tmp_path) == whole[1]


def test_in_bfloat16_too(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = sgd(dtype="bfloat16")
    expected = train(tmp_path / "whole", toy, config)
    plain = ImageBatches.__getitem__

    def dies(self: ImageBatches, iteration: int) -> dict[str, Any]:
        if iteration == 3:
            raise ZeroDivisionError
        return plain(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(ImageBatches, "__getitem__", dies)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path / "died", toy, config, seconds=0.0)
    assert changed(train(tmp_path / "died", toy, config), expected) == set()


def test_hard_examples_are_learnt_from_and_nothing_but_the_seed_chooses_them(
    toy: Any, tmp_path: Path, whole: tuple[dict[str, Tensor], list[dict[str, str]]]
) -> None:
    hard = replace(SAMPLING, rois=4, hard=True)
    once, again = (train(tmp_path / name, toy, sampling=hard) for name in ("once", "again"))
    assert changed(once, again) == set()
    # In the same images RoIs that are worse than those of `whole`, which are drawn by chance.
    first, by_chance = losses(tmp_path / "once")[0], whole[1][0]
    assert float(first["loss"]) > float(by_chance["loss"])


def test_the_seed_shapes_the_result(
    toy: Any, tmp_path: Path, whole: tuple[dict[str, Tensor], list[dict[str, str]]]
) -> None:
    assert changed(train(tmp_path, toy, sgd(seed=5)), whole[0]) == PREDICTOR | HEAD | REST


def test_a_broken_image_is_said_from_a_thread_too(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[BOX]], [[1]], [[BOX]])
    data.train[0].path.write_bytes(b"no image")
    for workers in (0, 2):
        with pytest.raises(InputError) as caught:
            train(tmp_path / str(workers), data, workers=workers)
        assert str(data.train[0].path) in caught.value.line


def test_a_loss_that_is_no_number_names_its_images(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fast_rcnn.train.losses_of

    def poisoned(model: FastRCNN, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {key: value * torch.nan for key, value in plain(model, batch).items()}

    monkeypatch.setattr(fast_rcnn.train, "losses_of", poisoned)
    with pytest.raises(InputError, match="iteration 0:") as caught:
        train(tmp_path, toy)
    ids = [
        toy.train[n].image_id
        for n in ImageBatches(toy.train, np.array(usable(toy)), 2, True, 4).choose(0)
    ]
    assert all(image_id in str(caught.value) for image_id in ids)


# It learns -----------------------------------------------------------------------------------


def test_one_image_is_learnt_by_heart(toy_of: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    objects = [[6, 8, 26, 32], [34, 16, 56, 30]]
    # Proposals that are near an object but never it: the boxes have to be moved.
    near = [
        np.clip(np.array(box) + rng.choice([-1, 1], 4) * rng.uniform(1.5, 4, 4), 0, [60, 48] * 2)
        for box in objects
        for _ in range(12)
    ]
    far = [[2, 30, 20, 46], [20, 0, 40, 12], [0, 0, 60, 48], [24, 30, 50, 48], [40, 2, 60, 14]]
    data = toy_of([objects], [[1, 2]], [[*(box.tolist() for box in near), *far]])
    picture = np.array(Image.open(data.train[0].path)) // 4
    picture[8:32, 6:26, 0] = 230
    picture[16:30, 34:56, 2] = 230
    Image.fromarray(picture).save(data.train[0].path)
    config = TrainConfig(
        sgd=SGDConfig(lr=0.01, iterations=90, lr_steps=(72,), warmup=10, dtype="float32"),
        learn="all",
    )
    # Cells of five pixels of the image: a finer place than that the map does not know.
    scale = ScaleConfig(train=(160,), test=(160,), longest=200)
    sampling = SamplingConfig(images=1, rois=32)
    train(tmp_path / "run", data, config, sampling=sampling, scale=scale)
    rows = losses(tmp_path / "run")
    assert float(rows[-1]["loss"]) < 0.2 * float(rows[0]["loss"])
    for name in ("model", "found"):
        (tmp_path / name).mkdir()
    trained = Artifact(tmp_path / "run", "x")
    model = Artifact(tmp_path / "model", "y")
    assemble(Job(model.path), data.classes, trained, "tiny", None, SEARCH, scale, DETECTION)
    detect(Job(tmp_path / "found"), data, data.proposals, model)
    (tmp_path / "worth").mkdir()
    evaluate_detections(Job(tmp_path / "worth"), data, Artifact(tmp_path / "found", "y"))
    result, still = (
        json.loads((tmp_path / "worth" / f"{kind}.json").read_text())
        for kind in ("detections", "unregressed")
    )
    assert result["coco"]["AP50"] == pytest.approx(100)
    assert result["voc07_map"] == pytest.approx(100)
    # Regression is what puts the boxes where they belong.
    assert result["coco"]["AP"] > still["coco"]["AP"] + 30
