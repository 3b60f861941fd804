"""All of Faster R-CNN once through in seconds, by its own command, both ways: whole, and found again."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from faster_rcnn import pipeline
from faster_rcnn.command import command
from faster_rcnn.config import PRESETS, Config
from faster_rcnn.detector import load
from faster_rcnn.pipeline import run, train_and_test
from stages.data.images import image_tensor
from stages.data.load import load_data
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections
from stages.options import resolve_dtypes
from stages.proposals.cache import Proposals
from stages.store import Artifact, Store

CONFIG: Config = resolve_dtypes(PRESETS["micro"], "cpu")  # as the front door does
JOINTLY = dataclasses.replace(CONFIG, training="joint")
STAGES = [
    "draw_shapes",
    "pretrain",
    "train_rpn",
    "propose_by_rpn",
    "train_detector",
    "train_rpn",
    "propose_by_rpn",
    "train_detector",
    "assemble",
    "propose_by_rpn",
    "detect",
    "evaluate_detections",
    "draw_pictures",
]
RUN = "shapes-micro-tiny/faster"
Make = Callable[..., Any]


def options(runs: Path, *more: str) -> list[str]:
    return ["--preset", "micro", "--runs", str(runs), "--device", "cpu", "--workers", "0", *more]


def no_pictures(*_: object) -> None:
    """A stage in the place of `draw_pictures`, which takes longer than all else."""


no_pictures.version = 1  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of each way of training; pictures are drawn of the first."""
    folder = tmp_path_factory.mktemp("runs")
    command(options(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "draw_pictures", no_pictures)
        command(options(folder, "--training", "joint", "--tag", "joint"))
    return folder


def store_in(runs: Path) -> Store:
    return Store(runs / "store", workers=0)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(self: Store, artifact: Any, *_: object) -> None:
        pytest.fail(f"{artifact.path.name} was made again")

    monkeypatch.setattr(Store, "_make", made)


def metrics_of(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())


def state_of(artifact: Artifact) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(artifact.path / "weights.pt", weights_only=True)
    return state


def numbers(path: Path) -> Iterator[np.ndarray]:
    """All numbers in a file of results."""
    if path.suffix == ".pt":
        for value in torch.load(path, weights_only=True).values():
            yield value.numpy()
    elif path.suffix == ".json":
        yield from (np.array(number) for number in leaves(json.loads(path.read_text())))
    elif path.suffix == ".csv":
        with open(path, newline="") as opened:
            for row in list(csv.reader(opened))[1:]:
                yield np.array([float(value) for value in row])


def leaves(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, (int, float)):
        yield value


# Whole ---------------------------------------------------------------------------------------


def test_every_number_is_finite(runs: Path) -> None:
    seen = set()
    for path in runs.rglob("*"):
        for values in numbers(path) if path.is_file() else ():
            seen.add(path.suffix)
            assert np.isfinite(values).all(), path
    assert seen == {".pt", ".json", ".csv"}


def test_nothing_is_left_unfinished(runs: Path) -> None:
    names = {path.name for path in (runs / "store").iterdir()}
    stages = {name.rpartition("-")[0] for name in names} - {""}
    assert stages == {*STAGES, "train_jointly", "no_pictures"}
    assert list((runs / "store/unfinished").iterdir()) == []


def test_what_a_run_leaves(runs: Path) -> None:
    folder = runs / RUN
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "configuration.json",
        "summary.txt",
        "detections.json",
        "unregressed.json",
        "model",
        "rpn.png",
        "proposals.png",
        "detections.png",
        "best_detections.png",
        "worst_mistakes.png",
        "mistakes_by_kind.png",
    }
    metrics = metrics_of(folder)
    assert metrics["paper"] == "faster"
    assert metrics["result"]["images"] == metrics["result_without_box_regression"]["images"] == 4
    # The recall of its own proposals, of the split that is tested.
    assert metrics["proposals"].keys() == {"test"}
    assert [row["stage"] for row in metrics["stages"]] == STAGES


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        (
            "faster",
            # All four steps with the proposals between them; not the test split's.
            {2, 3, 4, 5, 6, 7, 8},
        ),
        ("faster-joint", {2, 3}),
    ],
)
def test_what_training_took(runs: Path, name: str, trained: set[int]) -> None:
    metrics = metrics_of(runs / "shapes-micro-tiny" / name)
    seconds = [row["seconds"] for n, row in enumerate(metrics["stages"]) if n in trained]
    assert metrics["train_seconds"] == pytest.approx(sum(seconds), abs=0.01)


def test_joint_training_is_one_stage(runs: Path) -> None:
    metrics = metrics_of(runs / f"{RUN}-joint")
    assert [row["stage"] for row in metrics["stages"]] == [
        "draw_shapes",
        "pretrain",
        "train_jointly",
        "assemble",
        "propose_by_rpn",
        "detect",
        "evaluate_detections",
        "no_pictures",
    ]
    # It starts from the same drawings and pre-training, which are not made again.
    alternating = metrics_of(runs / RUN)
    for n in range(2):
        assert metrics["stages"][n]["artifact"] == alternating["stages"][n]["artifact"]


@pytest.mark.parametrize("name", ["faster", "faster-joint"])
def test_the_models_folder_is_all_a_user_needs(runs: Path, name: str) -> None:
    # As someone would call it who has only that and an image.
    folder = runs / "shapes-micro-tiny" / name
    model = load(folder / "model", "cpu")
    data = load_data(CONFIG.data, store_in(runs))
    assert model.classes == data.classes
    found = load_detections(folder / "detections.json", data.category_ids)
    still = load_detections(folder / "unregressed.json", data.category_ids)
    for record in data.test:
        detections = model([image_tensor(record)])[0]
        saved = found[record.image_id]
        assert len(saved["scores"]) == len(detections["scores"]) > 0
        np.testing.assert_allclose(saved["scores"], detections["scores"].numpy(), atol=1e-5)
        np.testing.assert_allclose(saved["boxes"], detections["boxes"].numpy(), atol=0.02)
        assert saved["labels"].tolist() == detections["labels"].tolist()
        # Without box regression: the proposals' own boxes.
        ((proposed, _),) = model.propose([image_tensor(record)])
        boxes = torch.from_numpy(still[record.image_id]["boxes"]).float()
        assert float(torch.cdist(boxes, proposed, p=1).amin(dim=1).max()) < 0.05


@pytest.mark.parametrize("config", [CONFIG, JOINTLY])
def test_the_proposals_that_are_measured_are_the_models_own(
    runs: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch)
    done = train_and_test(config, store_in(runs))
    model = load(done.model.path, "cpu")
    reader = Proposals(done.proposals.path / "proposals.h5")
    for record in done.data.test:
        ((boxes, _),) = model.propose([image_tensor(record)])
        assert 0 < len(boxes) <= 40
        np.testing.assert_allclose(reader.of(record), boxes.numpy(), atol=1e-3)


def test_the_model_is_the_trainings(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch)
    done = train_and_test(CONFIG, store_in(runs))
    assert len(done.training) == 7
    assert (done.rpn, done.detector) == (done.training[3], done.training[5])
    assert done.model == done.training[6]
    state, rpn, detector = (state_of(a) for a in (done.model, done.rpn, done.detector))
    for key, value in state.items():
        source = rpn if key.startswith("rpn.") else detector
        assert torch.equal(value, source[key]), key
    joint = train_and_test(JOINTLY, store_in(runs))
    assert joint.rpn == joint.detector
    assert joint.training == (joint.rpn, joint.model)
    one, other = state_of(joint.model), state_of(joint.rpn)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


# Found again ---------------------------------------------------------------------------------


def test_a_second_run_does_no_work(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid(monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in (runs / "store").rglob("*.*")}
    command(options(runs))
    command(options(runs, "--training", "joint", "--tag", "joint"))
    said = capsys.readouterr()
    assert "-- " not in said.err
    assert (runs / RUN / "summary.txt").read_text() in said.out
    assert (runs / f"{RUN}-joint" / "summary.txt").read_text() in said.out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_second_pipeline_finds_the_same(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch)
    first, second = (run(CONFIG, store_in(runs)) for _ in range(2))
    for field in ("rpn", "detector", "training", "model", "proposals", "detections", "pictures"):
        assert getattr(first, field) == getattr(second, field)


@pytest.mark.parametrize(
    "change", [("--training", "joint"), ("--rpn.width", "8"), ("--proposals.after", "30")]
)
def test_another_configuration_needs_a_name(runs: Path, change: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="TAG"):
        command(options(runs, *change))


class AskedError(Exception):
    """A stage was to be made."""


def asked(runs: Path, monkeypatch: pytest.MonkeyPatch, config: Config) -> str | None:
    """The first stage that is not there yet."""

    def refuse(self: Store, artifact: Any, *_: object) -> None:
        raise AskedError(artifact.path.name.rpartition("-")[0])

    monkeypatch.setattr(Store, "_make", refuse)
    try:
        train_and_test(config, store_in(runs))
    except AskedError as error:
        return str(error)
    return None


def changed(config: Any, path: str, value: Any) -> Any:
    """`config` with another value at "a.b.c"."""
    name, _, rest = path.partition(".")
    return dataclasses.replace(
        config, **{name: changed(getattr(config, name), rest, value) if rest else value}
    )


@pytest.mark.parametrize(
    ("path", "value", "first"),
    [
        ("scale.train", (64,), "train_rpn"),
        ("scale.test", (64,), "propose_by_rpn"),
        ("rpn.width", 16, "train_rpn"),
        ("rpn.labels.positive_iou", 0.6, "train_rpn"),
        ("rpn.anchors.centre", 0.0, "train_rpn"),
        ("rpn.loss.scale", "paper", "train_rpn"),
        ("rpn.loss.scale", "matlab", None),  # as it is by itself
        ("rpn.loss.box_weight", 10.0, None),
        ("alternating.rpn_images", 2, "train_rpn"),
        ("alternating.rpn.mirror", False, "train_rpn"),
        ("alternating.proposals.after", 50, "propose_by_rpn"),
        ("alternating.detector.mirror", False, "train_detector"),
        ("alternating.sampling.rois", 32, "train_detector"),
        ("loss.box_weight", 0.5, "train_detector"),
        ("proposals.after", 30, "assemble"),
        ("detection.nms_iou", 0.4, "assemble"),
        # Idle here: the other way's.
        ("joint.sampling.rois", 32, None),
        ("joint.proposals.after", 50, None),
    ],
)
def test_another_value_makes_anew_only_what_it_shapes(
    runs: Path, monkeypatch: pytest.MonkeyPatch, path: str, value: Any, first: str | None
) -> None:
    assert asked(runs, monkeypatch, changed(CONFIG, path, value)) == first


@pytest.mark.parametrize(
    ("path", "value", "first"),
    [
        ("joint.sampling.rois", 32, "train_jointly"),
        ("joint.proposals.after", 50, "train_jointly"),
        ("joint.box_std", (1.0, 1.0, 1.0, 1.0), "train_jointly"),
        ("rpn.loss.scale", "paper", "train_jointly"),
        ("rpn.loss.scale", "python", None),  # as it is by itself
        ("loss.box_weight", 0.5, "train_jointly"),
        ("proposals.after", 30, "assemble"),
        ("scale.test", (64,), "assemble"),
        ("alternating.sampling.rois", 32, None),
        ("alternating.proposals.after", 50, None),
    ],
)
def test_and_of_joint_training(
    runs: Path, monkeypatch: pytest.MonkeyPatch, path: str, value: Any, first: str | None
) -> None:
    assert asked(runs, monkeypatch, changed(JOINTLY, path, value)) == first


def test_a_damaged_model_is_made_again_and_the_same(runs: Path) -> None:
    done = train_and_test(CONFIG, store_in(runs))
    weights = done.model.path / "weights.pt"
    before = torch.load(weights, weights_only=True)
    weights.write_bytes(weights.read_bytes()[:-1])
    again = train_and_test(CONFIG, store_in(runs))
    assert again.model == done.model
    after = torch.load(weights, weights_only=True)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())


# What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("training", ["alternating", "joint"])
def test_several_scales_at_test_are_refused_before_anything_is_trained(
    tmp_path: Path, runs: Path, training: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--tag", "scales", "--training", training, "--scale.test", "64", "96")
    with pytest.raises(InputError, match=r"scale\.test") as caught:
        command(options(runs, *more))
    assert "\n" not in str(caught.value)
    assert "-- " not in capsys.readouterr().err


@pytest.mark.parametrize(
    "part", ["joint.train", "alternating.rpn", "alternating.detector"], ids=str
)
def test_the_box_layer_alone_is_refused(tmp_path: Path, part: str) -> None:
    with pytest.raises(InputError, match="learn boxes"):
        command(options(tmp_path, f"--{part}.learn", "boxes"))


def test_an_unknown_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        command(options(tmp_path, "--training", "exact"))
    assert "\n" not in str(caught.value)


def test_difficult_objects_are_not_learnt(
    runs: Path, toy_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy_of([[[5, 6, 25, 30], [30, 6, 50, 30]]], [[1, 2]], [[]])
    data.train[0].difficult[1] = True
    given: list[Any] = []

    def take(config: Config, learnt: Any, *_: object) -> None:
        given.append(learnt)
        raise AskedError

    monkeypatch.setattr(pipeline, "load_data", lambda *_: data)
    monkeypatch.setattr(pipeline, "alternate", take)
    assert not CONFIG.difficult, "the released codes learn without them"
    for difficult in (False, True):
        with pytest.raises(AskedError):
            train_and_test(dataclasses.replace(CONFIG, difficult=difficult), store_in(runs))
    without, whole = given
    assert whole.train is data.train
    assert not hasattr(whole, "test")
    assert without.train[0].iscrowd.tolist() == [False, True]
    assert without.fingerprint != whole.fingerprint
