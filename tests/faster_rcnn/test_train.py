"""Training the RPN and the whole: what learns and how fast, what is left, and that only (seed, s) decides."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import faster_rcnn.train
from fast_rcnn.config import LossConfig, SamplingConfig, ScaleConfig, TrainConfig
from faster_rcnn.config import (
    AnchorConfig,
    JointConfig,
    LabelConfig,
    ProposalConfig,
    RPNConfig,
    RPNLossConfig,
)
from faster_rcnn.network import FasterRCNN, build_untrained
from faster_rcnn.train import load_parts, train_jointly, train_rpn
from stages.backbones.config import Name
from stages.backbones.networks import early_layers_of
from stages.backbones.weights import Weights, build_backbone, load_state
from stages.data.difficult import WithoutDifficult
from stages.errors import InputError
from stages.store import Artifact, Job
from stages.training.image_batches import ImageBatches
from stages.training.sgd import SGDConfig

Make = Callable[..., Any]
State = dict[str, Tensor]
RANDOM = Weights(None, "random")
SCALE = ScaleConfig(train=(64, 80), test=(64,), longest=200)
RPN = RPNConfig(
    width=16, anchors=AnchorConfig(sizes=(16.0, 32.0, 64.0)), labels=LabelConfig(anchors=32)
)
TRAIN = TrainConfig(sgd=SGDConfig(lr=0.01, iterations=4, dtype="float32", seed=4))
JOINT = JointConfig(
    train=TRAIN,
    proposals=ProposalConfig(before=100, after=40, least_side=4.0),
    sampling=SamplingConfig(images=2, rois=8, background_iou=(0.0, 0.5)),
)
BOX = [5, 6, 25, 30]

PREDICTOR = {
    f"predictor.{layer}.{kind}" for layer in ("scores", "offsets") for kind in ("weight", "bias")
}
HEAD = {
    f"backbone.head.{layer}.0.{kind}" for layer in ("fc6", "fc7") for kind in ("weight", "bias")
}
FIRST = {"backbone.trunk.0.0.weight"}
REST = {f"backbone.trunk.{n}.0.weight" for n in range(1, 5)}
OWN = {
    f"rpn.{layer}.{kind}" for layer in ("conv", "scores", "offsets") for kind in ("weight", "bias")
}


def rpn_alone(
    folder: Path,
    data: Any,
    config: TrainConfig = TRAIN,
    *,
    rpn: RPNConfig = RPN,
    name: Name = "tiny",
    weights: Weights = RANDOM,
    scale: ScaleConfig = SCALE,
    images: int = 2,
    detector: Artifact | None = None,
    workers: int = 0,
    seconds: float = 1e9,
) -> State:
    """Train in `folder`, or go on there; the finished weights."""
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(folder, workers=workers, checkpoint_seconds=seconds)
    train_rpn(job, data, weights, name, scale.train, scale.longest, rpn, images, config, detector)
    return load_state(folder / "weights.pt")


def jointly(
    folder: Path,
    data: Any,
    config: TrainConfig = TRAIN,
    *,
    joint: JointConfig = JOINT,
    rpn: RPNConfig = RPN,
    name: Name = "tiny",
    weights: Weights = RANDOM,
    scale: ScaleConfig = SCALE,
    workers: int = 0,
    seconds: float = 1e9,
) -> State:
    """Train in `folder`, or go on there; the finished weights."""
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(folder, workers=workers, checkpoint_seconds=seconds)
    train_jointly(
        job,
        data,
        weights,
        name,
        scale.train,
        scale.longest,
        rpn,
        LossConfig(),
        replace(joint, train=config),
    )
    return load_state(folder / "weights.pt")


Way = Callable[..., State]
WAYS = [pytest.param(rpn_alone, id="RPN"), pytest.param(jointly, id="joint")]


def sgd(**changes: Any) -> TrainConfig:
    return replace(TRAIN, sgd=replace(TRAIN.sgd, **changes))


STILL = sgd(lr=0.0, iterations=1)  # the weights before any step
SEVEN = replace(STILL.sgd, seed=7)


def changed(one: State, other: State) -> set[str]:
    assert one.keys() == other.keys()
    return {key for key, value in one.items() if not torch.equal(value, other[key])}


def losses(folder: Path) -> list[dict[str, str]]:
    """`losses.csv` without what the clock says."""
    with open(folder / "losses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return rows


def untrained(data: Any) -> FasterRCNN:
    return build_untrained(build_backbone("tiny", RANDOM), data.classes, RPN, SCALE)


@pytest.fixture(scope="module")
def starts(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[Way, State]:
    """The weights before any step."""
    return {way: way(tmp_path_factory.mktemp("start"), toy, STILL) for way in (rpn_alone, jointly)}


# Which images --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_with_nothing_to_learn_it_says_so(way: Way, toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[], [BOX]], [[], [1]], [[], []], crowd=[[], [True]])
    with pytest.raises(InputError, match="objects in the training split") as caught:
        way(tmp_path / "run", data)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run/weights.pt").exists()


@pytest.mark.parametrize("way", WAYS)
def test_images_without_objects_teach_background_and_those_of_crowds_nothing(
    way: Way, toy_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy_of(
        [[BOX], [], [BOX], [BOX], [BOX]],
        [[1], [], [1], [1], [1]],
        [[]] * 5,
        crowd=[[False], [], [True], [False], [False]],
    )
    data.train[4].difficult[:] = True
    seen: list[str] = []
    plain = ImageBatches.__getitem__

    def note(self: ImageBatches, iteration: int) -> dict[str, Any]:
        batch = plain(self, iteration)
        seen.extend(batch["image_ids"])
        return batch

    monkeypatch.setattr(ImageBatches, "__getitem__", note)
    way(tmp_path / "all", data)
    assert set(seen) == {"000", "001", "003", "004"}
    seen.clear()
    way(tmp_path / "without", WithoutDifficult(data))
    assert set(seen) == {"000", "001", "003"}
    assert len(seen) == 8  # four batches of two


# What learns ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("learn", "expected"),
    [("all", FIRST | REST), ("default", REST), ("head", set())],
)
@pytest.mark.parametrize(("way", "own"), [(rpn_alone, OWN), (jointly, OWN | HEAD | PREDICTOR)])
def test_exactly_what_is_to_learn_changes(
    toy: Any,
    tmp_path: Path,
    starts: dict[Way, State],
    way: Way,
    own: set[str],
    learn: Any,
    expected: set[str],
) -> None:
    after = way(tmp_path, toy, replace(TRAIN, learn=learn))
    assert changed(after, starts[way]) == own | expected
    assert all(torch.isfinite(value).all() for value in after.values())


def test_it_starts_from_the_weights_that_are_given(toy: Any, tmp_path: Path) -> None:
    state = {
        key: value + 0.01 for key, value in build_backbone("tiny", RANDOM).state_dict().items()
    }
    torch.save(state, tmp_path / "given.pt")
    weights = Weights(tmp_path / "given.pt", "given")
    for way in (rpn_alone, jointly):
        start = way(tmp_path / way.__name__, toy, STILL, weights=weights)
        for key in FIRST | REST:
            assert torch.equal(start[key], state[key.removeprefix("backbone.")])


def test_the_rpn_starts_as_the_paper_says(toy: Any, tmp_path: Path) -> None:
    # By a loss that standardises nothing: its offsets' layer ends as it started.
    plain = replace(RPN, loss=RPNLossConfig("paper"))
    for way in (rpn_alone, jointly):
        start = way(tmp_path / way.__name__, toy, STILL, rpn=plain)
        for key in OWN:
            if key.endswith("bias"):
                assert (start[key] == 0).all()
            else:
                assert float(start[key].std()) == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("learn", ["all", "default"])
def test_over_a_detectors_convolutions_the_rpn_alone_learns(
    toy: Any, tmp_path: Path, starts: dict[Way, State], learn: Any
) -> None:
    # Step 3: "we fix the shared convolutional layers and only fine-tune the layers unique to RPN".
    trained = jointly(tmp_path / "detector", toy, replace(TRAIN, learn="all"))
    detector = Artifact(tmp_path / "detector", "d")
    config = replace(TRAIN, learn=learn)
    after = rpn_alone(tmp_path / "rpn", toy, config, detector=detector)
    trunk = {key for key in trained if key.startswith("backbone.trunk.")}
    assert trunk
    assert all(torch.equal(after[key], trained[key]) for key in trunk)
    # The RPN's own layers begin anew, whatever RPN the file may hold, and learn.
    begun = rpn_alone(tmp_path / "begun", toy, STILL, detector=detector)
    assert all(torch.equal(begun[key], starts[rpn_alone][key]) for key in OWN)
    assert changed(after, begun) == OWN
    # They learn over those convolutions, not over others.
    elsewhere = rpn_alone(tmp_path / "elsewhere", toy, replace(config, learn="head"))
    assert changed(after, elsewhere) >= OWN


def test_a_detector_of_another_network_is_refused(toy: Any, tmp_path: Path) -> None:
    rpn_alone(tmp_path / "first", toy, STILL, name="resnet18")
    with pytest.raises(InputError, match=r"weights\.pt") as caught:
        rpn_alone(tmp_path / "second", toy, detector=Artifact(tmp_path / "first", "x"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_early_layers_stay_in_other_networks(
    name: Name, toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[set[str]] = []

    def no_training(job: Job, model: FasterRCNN, *_: object) -> None:
        held.append({key for key, p in model.named_parameters() if not p.requires_grad})

    monkeypatch.setattr(faster_rcnn.train, "train", no_training)
    rpn_alone(tmp_path / "rpn", toy, name=name)
    jointly(tmp_path / "joint", toy, name=name)
    with torch.device("meta"):
        model = build_untrained(build_backbone(name, RANDOM), toy.classes, RPN, SCALE)
    names = [key for key, _ in model.named_parameters()]
    early = {
        key
        for key in names
        if key.startswith(tuple(f"backbone.{p}" for p in early_layers_of(name)))
    }
    idle = {key for key in names if key.startswith(("backbone.head.", "predictor."))}
    assert early
    assert held == [early | idle, early]


# How fast ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_biases_learn_twice_as_fast(
    way: Way, toy: Any, tmp_path: Path, starts: dict[Way, State]
) -> None:
    # A step without momentum or decay: each moves by its rate times its gradient.
    plain = sgd(lr=1e-3, iterations=1, momentum=0.0, weight_decay=0.0)
    once, default = (
        way(tmp_path / str(n), toy, config)
        for n, config in enumerate((replace(plain, bias_factor=1.0), plain))
    )
    start = starts[way]
    for key in OWN | (PREDICTOR if way is jointly else set()):
        move = once[key] - start[key]
        assert move.abs().max() > 0
        factor = 2 if key.endswith("bias") else 1
        torch.testing.assert_close(default[key] - start[key], factor * move, rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("way", WAYS)
def test_new_layers_may_learn_faster(
    way: Way, toy: Any, tmp_path: Path, starts: dict[Way, State]
) -> None:
    plain = sgd(lr=1e-4, iterations=1, momentum=0.0, weight_decay=0.0)
    once, tenfold = (
        way(tmp_path / str(factor), toy, replace(plain, new_layer_factor=factor))
        for factor in (1.0, 10.0)
    )
    new = OWN | (PREDICTOR if way is jointly else set())
    for key in new:
        if key.endswith("weight"):
            moves = [run[key] - starts[way][key] for run in (once, tenfold)]
            assert float(moves[1].norm() / moves[0].norm()) == pytest.approx(10, rel=0.02)
    # What is pre-trained learns as it does without.
    assert changed(once, tenfold) == new


def test_new_layers_of_the_backbone_are_new_here_too(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(faster_rcnn.train, "train", lambda *given: seen.append(given[5]))
    jointly(tmp_path / "run", toy, replace(TRAIN, new_layer_factor=7.0), name="squeezenet1_1")
    (rates,) = seen
    assert set(rates.faster) == {"rpn.", "predictor.", "backbone.head."}
    assert (rates.factor, rates.bias, rates.bias_decay) == (7.0, 2.0, False)


def test_biases_do_not_decay(toy: Any, tmp_path: Path) -> None:
    plain, decayed = (
        rpn_alone(
            tmp_path / str(decay),
            toy,
            sgd(lr=1e-3, iterations=2, momentum=0.0, weight_decay=decay),
        )
        for decay in (0.0, 1.0)
    )
    # One step moves the bias from nought, and the other would pull it back by a thousandth.
    for key in OWN:
        apart = float((plain[key] - decayed[key]).abs().max())
        assert (apart < 1e-6) == key.endswith("bias"), key


# What it leaves ------------------------------------------------------------------------------


def test_what_the_rpn_leaves(toy: Any, tmp_path: Path) -> None:
    state = rpn_alone(tmp_path, toy)
    assert {path.name for path in tmp_path.iterdir()} == {"losses.csv", "tensorboard", "weights.pt"}
    whole = untrained(toy).state_dict().keys()
    # With the trunk goes what it expects of an image.
    parts = ("backbone.trunk.", "backbone.mean", "backbone.std", "rpn.")
    assert state.keys() == {key for key in whole if key.startswith(parts)}
    assert state.keys() >= OWN
    rows = losses(tmp_path)
    assert [int(row["iteration"]) for row in rows] == list(range(4))
    assert set(rows[0]) == {
        "iteration",
        "lr",
        "objectness",
        "rpn_boxes",
        "loss",
        "gradient_norm",
    }
    # New scores are near nought: an object is as likely as none.
    assert float(rows[0]["objectness"]) == pytest.approx(np.log(2), abs=0.15)


def test_what_joint_training_leaves(toy: Any, tmp_path: Path) -> None:
    state = jointly(tmp_path, toy)
    assert {path.name for path in tmp_path.iterdir()} == {"losses.csv", "tensorboard", "weights.pt"}
    assert state.keys() == untrained(toy).state_dict().keys()
    rows = losses(tmp_path)
    assert {"objectness", "rpn_boxes", "classification", "boxes", "loss"} <= rows[0].keys()
    for row in rows:
        parts = [float(row[k]) for k in ("objectness", "rpn_boxes", "classification", "boxes")]
        assert float(row["loss"]) == pytest.approx(sum(parts), rel=1e-4)
    assert float(rows[0]["classification"]) == pytest.approx(np.log(4), abs=0.3)


def test_it_loads_again_in_parts(toy: Any, tmp_path: Path) -> None:
    state = jointly(tmp_path, toy)
    trained = Artifact(tmp_path, "x")
    model = untrained(toy)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_parts(model, trained, "backbone.trunk.")
    trunk = {key for key in before if key.startswith("backbone.trunk.")}
    assert changed(model.state_dict(), before) <= trunk
    assert all(torch.equal(model.state_dict()[key], state[key]) for key in trunk)
    load_parts(model, trained, "rpn.")
    assert changed(model.state_dict(), state) == HEAD | PREDICTOR
    load_parts(model, trained, "predictor.", "backbone.head.")
    assert changed(model.state_dict(), state) == set()


def test_parts_that_are_not_there_are_refused(toy: Any, tmp_path: Path) -> None:
    rpn_alone(tmp_path / "rpn", toy, STILL)
    with pytest.raises(InputError, match=r"rpn/weights\.pt.*missing"):
        load_parts(untrained(toy), Artifact(tmp_path / "rpn", "x"), "predictor.")


# Targets brought to mean 0 and deviation 1 ---------------------------------------------------


def slow_statistics(data: Any, shorter: int, labels: LabelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the offsets of every positive anchor of every image, loop by loop."""
    every = []
    for record in data.train:
        scale = shorter / min(record.width, record.height)
        wide, high = round(record.width * scale), round(record.height * scale)
        frame_wide, frame_high = (max(64, side + -side % 32) for side in (wide, high))
        real = [box for box, crowd in zip(record.boxes, record.iscrowd, strict=True) if not crowd]
        objects = [
            [
                box[0] * wide / record.width,
                box[1] * high / record.height,
                box[2] * wide / record.width,
                box[3] * high / record.height,
            ]
            for box in np.array(real, np.float64)
        ]
        anchors = [
            [
                (column + 0.5) * 16 - size / np.sqrt(ratio) / 2,
                (row + 0.5) * 16 - size * np.sqrt(ratio) / 2,
                (column + 0.5) * 16 + size / np.sqrt(ratio) / 2,
                (row + 0.5) * 16 + size * np.sqrt(ratio) / 2,
            ]
            for row in range(frame_high // 16)
            for column in range(frame_wide // 16)
            for ratio in (0.5, 1.0, 2.0)
            for size in (16, 32, 64)
        ]
        anchors = [a for a in anchors if min(a[:2]) >= 0 and a[2] <= wide and a[3] <= high]
        overlaps = np.array([[iou(a, o) for o in objects] for a in anchors]).reshape(
            len(anchors), len(objects)
        )
        for a, row in zip(anchors, overlaps, strict=True):
            if not len(row):
                continue
            best = any(v > 0 and v >= overlaps[:, n].max() - 1e-6 for n, v in enumerate(row))
            if best or row.max() >= labels.positive_iou:
                o = objects[int(row.argmax())]
                (x, y, w, h), (gx, gy, gw, gh) = middle(a), middle(o)
                every.append([(gx - x) / w, (gy - y) / h, np.log(gw / w), np.log(gh / h)])
    assert len(every) > 20
    return np.mean(every, axis=0), np.std(every, axis=0)


def iou(a: Any, b: Any) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def middle(box: Any) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


MATLAB = replace(RPN, loss=RPNLossConfig("matlab"))


@pytest.mark.parametrize("way", WAYS)
def test_matlabs_targets_are_standardised_and_folded(way: Way, toy: Any, tmp_path: Path) -> None:
    # Nothing learnt, and weights of a hundredth: offsets are the mean, at the larger of the scales.
    state = way(tmp_path / "matlab", toy, STILL, rpn=MATLAB)
    mean, std = slow_statistics(toy, 80, RPN.labels)
    assert np.abs(mean).max() > 0.02, "the data must have a mean to find"
    found = state["rpn.offsets.bias"].unflatten(0, (9, 4))
    for of_anchor in found:
        assert of_anchor.tolist() == pytest.approx(mean.tolist(), abs=1e-4)
    # Before they were folded the weights were the ones of another scale.
    plain = way(tmp_path / "plain", toy, STILL, rpn=replace(RPN, loss=RPNLossConfig("paper")))
    ratio = (state["rpn.offsets.weight"] / plain["rpn.offsets.weight"]).unflatten(0, (9, 4))
    expected = torch.tensor(std).float()[None, :, None, None, None].expand_as(ratio)
    torch.testing.assert_close(ratio, expected, rtol=1e-3, atol=1e-4)
    assert changed(state, plain) == {"rpn.offsets.weight", "rpn.offsets.bias"}


@pytest.mark.parametrize(("way", "scale"), [(rpn_alone, "matlab"), (jointly, "python")])
def test_each_way_has_the_scale_of_the_code_released_for_it(
    way: Way, scale: Any, toy: Any, tmp_path: Path
) -> None:
    assert RPN.loss.scale == "released"
    own = way(tmp_path / "own", toy)
    asked = way(tmp_path / "asked", toy, rpn=replace(RPN, loss=RPNLossConfig(scale)))
    assert changed(own, asked) == set()
    for number, other in enumerate({"paper", "matlab", "python"} - {scale}):
        folder = tmp_path / str(number)
        config = replace(RPN, loss=RPNLossConfig(other))  # type: ignore[arg-type]
        assert "rpn.offsets.weight" in changed(own, way(folder, toy, rpn=config))


@pytest.mark.parametrize("scale", ["paper", "python"])
def test_the_other_scales_leave_targets_as_they_are(scale: Any, toy: Any, tmp_path: Path) -> None:
    state = rpn_alone(tmp_path, toy, STILL, rpn=replace(RPN, loss=RPNLossConfig(scale)))
    assert (state["rpn.offsets.bias"] == 0).all()
    assert float(state["rpn.offsets.weight"].std()) == pytest.approx(0.01, rel=0.2)


def test_where_no_anchor_is_positive_targets_stay_as_they_are(toy_of: Make, tmp_path: Path) -> None:
    # Every anchor inside the image misses the object, which is at its corner.
    data = toy_of([[[0, 0, 1, 1]]], [[1]], [[]])
    rpn = replace(MATLAB, anchors=AnchorConfig(sizes=(8.0,)))
    state = rpn_alone(tmp_path / "run", data, STILL, rpn=rpn)
    assert (state["rpn.offsets.bias"] == 0).all()
    assert all(torch.isfinite(value).all() for value in state.values())


def test_where_one_is_its_deviation_is_no_nought(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[[0, 0, 60, 48]]], [[1]], [[]])
    rpn = replace(MATLAB, anchors=AnchorConfig(sizes=(64.0,), ratios=(1.0,)))
    state = rpn_alone(tmp_path / "run", data, sgd(iterations=2), rpn=rpn)
    assert all(torch.isfinite(value).all() for value in state.values())


def test_the_detectors_box_layer_is_folded(toy: Any, tmp_path: Path) -> None:
    std = (0.1, 0.2, 0.5, 2.0)
    state = jointly(tmp_path / "run", toy, STILL, joint=replace(JOINT, box_std=std))
    rows = state["predictor.offsets.weight"].unflatten(0, (3, 4)).std(dim=2)
    torch.testing.assert_close(rows, 1e-3 * torch.tensor([std] * 3), rtol=0.2, atol=0)
    assert (state["predictor.offsets.bias"] == 0).all()


# Killed, and in threads ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(
    toy: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[Way, tuple[State, list[dict[str, str]]]]:
    """Trainings that nothing interrupted, by one thread; the RPN's with targets that are standardised."""
    done = {}
    for way in (rpn_alone, jointly):
        folder = tmp_path_factory.mktemp("whole")
        done[way] = (way(folder, toy, rpn=MATLAB), losses(folder))
    return done


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("k", [1, 3])
def test_one_that_died_ends_as_one_that_did_not(
    way: Way,
    toy: Any,
    tmp_path: Path,
    whole: dict[Way, tuple[State, list[dict[str, str]]]],
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
            way(tmp_path, toy, rpn=MATLAB, seconds=0.0)
    assert (tmp_path / "checkpoint.pt").exists()
    assert not (tmp_path / "weights.pt").exists()
    monkeypatch.setattr(ImageBatches, "__getitem__", notes)
    torch.manual_seed(987)
    after = way(tmp_path, toy, rpn=MATLAB, seconds=0.0)
    assert asked == list(range(k, 4))
    assert changed(after, whole[way][0]) == set()
    assert losses(tmp_path) == whole[way][1]


@pytest.mark.parametrize("way", WAYS)
def test_threads_do_not_shape_the_result(
    way: Way, toy: Any, tmp_path: Path, whole: dict[Way, tuple[State, list[dict[str, str]]]]
) -> None:
    torch.manual_seed(1234)
    after = way(tmp_path, toy, rpn=MATLAB, workers=2)
    assert changed(after, whole[way][0]) == set()
    assert losses(tmp_path) == whole[way][1]


@pytest.mark.parametrize("way", WAYS)
def test_the_seed_shapes_the_result(
    way: Way, toy: Any, tmp_path: Path, whole: dict[Way, tuple[State, list[dict[str, str]]]]
) -> None:
    after = way(tmp_path, toy, sgd(seed=5), rpn=MATLAB)
    expected = OWN | REST | (HEAD | PREDICTOR if way is jointly else set())
    assert changed(after, whole[way][0]) == expected


@pytest.mark.parametrize("way", WAYS)
def test_the_seed_decides_the_start_too(
    way: Way, toy: Any, tmp_path: Path, starts: dict[Way, State]
) -> None:
    other = way(tmp_path, toy, sgd(lr=0.0, iterations=1, seed=5))
    new = {key for key in OWN | PREDICTOR if key.endswith("weight")} & starts[way].keys()
    assert changed(other, starts[way]) == new


@pytest.mark.parametrize("way", WAYS)
def test_what_a_batch_is(
    way: Way, toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[ImageBatches] = []
    plain = faster_rcnn.train.train

    def note(job: Job, model: Any, batches: ImageBatches, *rest: Any) -> None:
        given.append(batches)
        plain(job, model, batches, *rest)

    monkeypatch.setattr(faster_rcnn.train, "train", note)
    for n, config in enumerate((STILL, replace(STILL, mirror=False), replace(STILL, sgd=SEVEN))):
        way(tmp_path / str(n), toy, config)
    mirrored, straight, otherwise = given
    assert mirrored.choose(0) == straight.choose(0) != otherwise.choose(0)
    pixels = [[batches[n]["images"] for n in range(6)] for batches in (mirrored, straight)]
    turned = [
        bool((one != other).any())
        for ours, theirs in zip(*pixels, strict=True)
        for one, other in zip(ours, theirs, strict=True)
    ]
    assert len(turned) == 12
    assert 0 < sum(turned) < 12


@pytest.mark.parametrize("way", WAYS)
def test_in_bfloat16_too(way: Way, toy: Any, tmp_path: Path) -> None:
    state = way(tmp_path, toy, sgd(dtype="bfloat16", iterations=2), rpn=MATLAB)
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert all(torch.isfinite(value).all() for value in state.values())
    assert all(np.isfinite(float(row["loss"])) for row in losses(tmp_path))


# It learns -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["paper", "matlab", "python"])
def test_one_image_is_learnt_by_heart(scale: Any, toy_of: Make, tmp_path: Path) -> None:
    objects = [[6, 8, 26, 32], [34, 16, 56, 30]]
    data = toy_of([objects], [[1, 2]], [[]])
    picture = np.array(Image.open(data.train[0].path)) // 4
    picture[8:32, 6:26, 0] = 230
    picture[16:30, 34:56, 2] = 230
    Image.fromarray(picture).save(data.train[0].path)
    config = TrainConfig(
        sgd=SGDConfig(lr=0.01, iterations=60, warmup=5, dtype="float32"),
        learn="all",
        mirror=False,
        # The paper's deviations of 0.01 are for layers that learn 80,000 steps.
        new_layer_factor=4.0,
    )
    rpn = replace(RPN, anchors=AnchorConfig(sizes=(32.0, 64.0)), loss=RPNLossConfig(scale))
    scales = ScaleConfig(train=(128,), test=(128,), longest=200)
    sampling = SamplingConfig(images=1, rois=32, background_iou=(0.0, 0.5))
    joint = replace(JOINT, sampling=sampling)
    state = jointly(tmp_path / "run", data, config, rpn=rpn, joint=joint, scale=scales)
    rows = losses(tmp_path / "run")
    for key in ("objectness", "rpn_boxes", "classification"):
        first, last = (np.mean([float(row[key]) for row in part]) for part in (rows[:5], rows[-5:]))
        assert last < 0.6 * first, key
    # What it proposes and detects first are the objects.
    model = build_untrained(
        build_backbone("tiny", RANDOM),
        data.classes,
        rpn,
        scales,
        proposals=ProposalConfig(after=30, least_side=4.0),
    )
    model.load_state_dict(state)
    image = torch.from_numpy(picture).permute(2, 0, 1)
    ((boxes, _),) = model.eval().propose([image])
    for box in objects:
        assert max(iou(box, one) for one in boxes[:10].tolist()) > 0.6
