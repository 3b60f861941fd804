"""All of Fast R-CNN once through in seconds, by its own command: whole, found again, and decomposed."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fast_rcnn import pipeline
from fast_rcnn.command import command
from fast_rcnn.config import PRESETS, Config, SVDConfig
from fast_rcnn.detector import load, read_description
from fast_rcnn.pipeline import run, train_and_test
from stages.data.images import image_tensor
from stages.data.load import load_data
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections
from stages.options import resolve_dtypes
from stages.proposals.cache import Proposals
from stages.store import Store

CONFIG: Config = resolve_dtypes(PRESETS["micro"], "cpu")  # as the front door does
STAGES = (
    "draw_shapes",
    "pretrain",
    "search_selectively",
    "search_selectively",
    "gather_proposals",
    "train_detector",
    "assemble",
    "detect",
    "evaluate_detections",
    "draw_pictures",
)
RUN = "shapes-micro-tiny/fast"


def options(runs: Path, *more: str) -> list[str]:
    return [
        "--preset",
        "micro",
        "--runs",
        str(runs),
        "--device",
        "cpu",
        "--workers",
        "0",
        *more,
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs")
    command(options(folder))
    return folder


def store_in(runs: Path) -> Store:
    return Store(runs / "store", workers=0)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(self: Store, artifact: Any, *_: object) -> None:
        pytest.fail(f"{artifact.path.name} was made again")

    monkeypatch.setattr(Store, "_make", made)


def metrics_of(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())


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


def test_every_stage_left_an_artifact_and_nothing_else(runs: Path) -> None:
    names = {path.name for path in (runs / "store").iterdir()}
    assert {name.rpartition("-")[0] for name in names} - {""} == set(STAGES)
    assert {name for name in names if "-" not in name} <= {"locks", "unfinished"}
    assert list((runs / "store/unfinished").iterdir()) == []


def test_every_number_is_finite(runs: Path) -> None:
    seen = set()
    for path in runs.rglob("*"):
        for values in numbers(path) if path.is_file() else ():
            seen.add(path.suffix)
            assert np.isfinite(values).all(), path
    assert seen == {".pt", ".json", ".csv"}


def test_what_a_run_leaves(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs / RUN
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "configuration.json",
        "summary.txt",
        "detections.json",
        "unregressed.json",
        "model",
        "roi_pooling.png",
        "proposals.png",
        "detections.png",
        "best_detections.png",
        "worst_mistakes.png",
        "mistakes_by_kind.png",
    }
    metrics = metrics_of(folder)
    assert metrics["result"]["images"] == metrics["result_without_box_regression"]["images"] == 4
    assert [row["stage"] for row in metrics["stages"]] == list(STAGES)
    of_training = ("train_detector", "assemble")
    trained = [row["seconds"] for row in metrics["stages"] if row["stage"] in of_training]
    assert metrics["train_seconds"] == pytest.approx(sum(trained), abs=0.01)
    assert "train_detector" in (folder / "summary.txt").read_text()


def test_the_models_folder_is_all_a_user_needs(runs: Path) -> None:
    # As someone would call it who has only that and an image.
    model = load(runs / RUN / "model", "cpu")
    data = load_data(CONFIG.data, store_in(runs))
    assert model.classes == data.classes
    found = load_detections(runs / RUN / "detections.json", data.category_ids)
    proposals = next((runs / "store").glob("gather_proposals-*")) / "proposals.h5"
    reader = Proposals(proposals)
    for record in data.test:
        image = image_tensor(record)
        detections = model([image])[0]
        # Searching anew or from the cache: the same.
        cached = torch.from_numpy(reader.of(record, CONFIG.top))
        again = model([image], proposals=[cached])[0]
        for key, value in detections.items():
            assert torch.equal(value, again[key])
        saved = found[record.image_id]
        assert len(saved["scores"]) == len(detections["scores"]) > 0
        np.testing.assert_allclose(saved["scores"], detections["scores"].numpy(), atol=1e-5)
        assert saved["labels"].tolist() == detections["labels"].tolist()


# Found again ---------------------------------------------------------------------------------


def test_a_second_run_does_no_work(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid(monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in (runs / "store").rglob("*.*")}
    command(options(runs))
    said = capsys.readouterr()
    assert "-- " not in said.err
    assert (runs / RUN / "summary.txt").read_text() in said.out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_second_pipeline_finds_the_same(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch)
    first, second = (run(CONFIG, store_in(runs)) for _ in range(2))
    for field in ("proposals", "training", "model", "detections", "evaluation", "pictures"):
        assert getattr(first, field) == getattr(second, field)
    assert first.training == (first.trained, first.model)


def test_another_configuration_needs_a_name(runs: Path) -> None:
    with pytest.raises(InputError, match="TAG"):
        command(options(runs, "--detection.nms-iou", "0.4"))


class AskedError(Exception):
    """A stage was to be made."""


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"top": 50}, "train_detector"),
        ({"loss": dataclasses.replace(CONFIG.loss, box_weight=0.5)}, "train_detector"),
        ({"sampling": dataclasses.replace(CONFIG.sampling, rois=32)}, "train_detector"),
        ({"svd": SVDConfig(fc6=9)}, "decompose"),
        ({"detection": dataclasses.replace(CONFIG.detection, nms_iou=0.4)}, "assemble"),
        ({"scale": dataclasses.replace(CONFIG.scale, test=(64, 96))}, "assemble"),
        ({"scale": dataclasses.replace(CONFIG.scale, train=(64,))}, "train_detector"),
        ({"proposals": dataclasses.replace(CONFIG.proposals, min_side=10)}, "search_selectively"),
    ],
)
def test_another_value_makes_anew_only_what_it_shapes(
    runs: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], first: str
) -> None:
    def asked(self: Store, artifact: Any, *_: object) -> None:
        raise AskedError(artifact.path.name)

    monkeypatch.setattr(Store, "_make", asked)
    with pytest.raises(AskedError, match=f"^{first}"):
        train_and_test(dataclasses.replace(CONFIG, **changes), store_in(runs))


def test_difficult_objects_teach_where_they_are_asked_to(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(data: Any, difficult: bool) -> None:
        raise AskedError(str(difficult))

    monkeypatch.setattr(pipeline, "training_split", asked)
    for difficult in (True, False):
        with pytest.raises(AskedError, match=str(difficult)):
            train_and_test(dataclasses.replace(CONFIG, difficult=difficult), store_in(runs))


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


# Decomposed, and otherwise tested ------------------------------------------------------------


def test_a_run_with_truncated_svd(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The pictures are drawn by the plain run's test; here they would take longer than all else.
    monkeypatch.setattr(pipeline, "draw_pictures", no_pictures)
    command(options(runs, "--tag", "svd", "--svd.fc6", "16", "--svd.fc7", "8"))
    made = [line[3:] for line in capsys.readouterr().err.splitlines() if line.startswith("-- ")]
    # What is there already is not made again: above all, nothing is trained.
    assert made == ["decompose", "detect", "evaluate_detections", "no_pictures"]
    folder = runs / f"{RUN}-svd"
    description = read_description(folder / "model" / "model.json")
    assert description.svd == SVDConfig(16, 8)
    state = load(folder / "model", "cpu").state_dict()
    assert state["backbone.head.fc6.0.0.weight"].shape == (16, 2048)
    assert state["backbone.head.fc7.0.1.weight"].shape == (256, 8)
    metrics = metrics_of(folder)
    seconds = {row["stage"]: row["seconds"] for row in metrics["stages"]}
    assert metrics["train_seconds"] == pytest.approx(
        seconds["train_detector"] + seconds["assemble"] + seconds["decompose"], abs=0.01
    )
    smaller, whole = ((path / "model/weights.pt").stat().st_size for path in (folder, runs / RUN))
    assert smaller < whole / 2
    # The plain run is as it was.
    assert read_description(runs / RUN / "model/model.json").svd == SVDConfig()


def no_pictures(*_: object) -> None:
    """A stage in the place of `draw_pictures`."""


no_pictures.version = 1  # type: ignore[attr-defined]


def test_a_run_with_hard_examples(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "draw_pictures", no_pictures)
    command(options(runs, "--tag", "ohem", "--sampling.hard"))
    made = [line[3:] for line in capsys.readouterr().err.splitlines() if line.startswith("-- ")]
    assert made == ["train_detector", "assemble", "detect", "evaluate_detections", "no_pictures"]
    metrics = metrics_of(runs / f"{RUN}-ohem")
    assert metrics["config"]["sampling"]["hard"] is True
    assert metrics["result"]["images"] == 4


def test_a_rank_there_is_not_is_said_in_one_line(runs: Path) -> None:
    with pytest.raises(InputError, match="256 singular values") as caught:
        command(options(runs, "--tag", "much", "--svd.fc6", "257"))
    assert "\n" not in str(caught.value)


def test_a_finished_model_may_look_otherwise(runs: Path) -> None:
    store = store_in(runs)
    done = train_and_test(CONFIG, store)
    scale = dataclasses.replace(CONFIG.scale, test=(64, 96))
    changed = dataclasses.replace(CONFIG, top=7, scale=scale)
    otherwise = pipeline.assemble_from(changed, done.data, done.trained, store)
    before, after = (
        read_description(artifact.path / "model.json") for artifact in (done.model, otherwise)
    )
    assert after == dataclasses.replace(before, top=7, scale=scale)
    ours, theirs = (
        torch.load(artifact.path / "weights.pt", weights_only=True)
        for artifact in (done.model, otherwise)
    )
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())
    detections = store.run(pipeline.detect, done.data, done.proposals, otherwise)
    found = load_detections(detections.path / "unregressed.json", done.data.category_ids)
    for record in done.data.test:
        boxes = found[record.image_id]["boxes"]
        assert len({tuple(box) for box in boxes.tolist()}) <= 7


# Files of proposals --------------------------------------------------------------------------


def test_proposals_may_come_from_a_file(runs: Path, tmp_path: Path) -> None:
    store = store_in(runs)
    searched = next((runs / "store").glob("gather_proposals-*")) / "proposals.h5"
    config = dataclasses.replace(CONFIG, proposals_file=str(searched))
    done = train_and_test(config, store)
    plain = train_and_test(CONFIG, store)
    assert done.proposals != plain.proposals
    for name in ("detections.json", "unregressed.json"):
        ours, theirs = (one.detections.path / name for one in (done, plain))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_file_of_another_data_sets_proposals_is_refused(runs: Path, toy: Any) -> None:
    file = toy.proposals.path / "proposals.h5"
    with pytest.raises(InputError, match="proposals") as caught:
        command(options(runs, "--tag", "other", "--proposals-file", str(file)))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
