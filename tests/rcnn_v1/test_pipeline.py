"""All of R-CNN once through in seconds: whole, and found again."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from rcnn_v1.config import PRESETS
from rcnn_v1.detector import load
from rcnn_v1.pipeline import Finished, run
from stages.data.decode import image_of
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections
from stages.options import resolve_dtypes
from stages.proposals.cache import Proposals
from stages.ranks import Ranks
from stages.store import Store

ROOT = Path(__file__).parents[2]
CONFIG = resolve_dtypes(PRESETS["micro"], "cpu")  # as the front door does
STAGES = (
    "draw_shapes",
    "pretrain",
    "search_selectively",
    "gather_proposals",
    "fine_tune",
    "cache_features",
    "train_svms",
    "train_box_regressors",
    "assemble",
    "detect",
    "evaluate_detections",
    "find_hard_negatives",
    "draw_pictures",
)


def store_in(folder: Path) -> Store:
    return Store(folder, workers=0, checkpoint_seconds=0.0)


@dataclasses.dataclass(frozen=True)
class Whole:
    """A run that nothing interrupted."""

    root: Path
    finished: Finished
    seconds: dict[str, float]  # of each stage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root = tmp_path_factory.mktemp("whole")
    store = store_in(root)
    finished = run(CONFIG, store)
    seconds = {
        artifact.path.name.rpartition("-")[0]: artifact.manifest["seconds"]
        for artifact in store.used
    }
    return Whole(root, finished, seconds)


def numbers(path: Path) -> Iterator[np.ndarray]:
    """All numbers in a file of results."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            yield from arrays.values()
    elif path.suffix == ".pt":
        for value in torch.load(path, weights_only=True).values():
            yield value.numpy()
    elif path.suffix == ".h5":
        with h5py.File(path) as file:
            yield from (file[name][:] for name in file if name != "image_ids")
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


def test_every_stage_left_an_artifact_and_nothing_else(whole: Whole) -> None:
    assert tuple(whole.seconds) == STAGES
    folders = {path.name for path in whole.root.iterdir()}
    assert {name.rpartition("-")[0] for name in folders} - {""} == set(STAGES)
    assert {name for name in folders if "-" not in name} <= {"locks", "unfinished"}
    assert list((whole.root / "unfinished").iterdir()) == []


def test_every_number_is_finite(whole: Whole) -> None:
    seen = set()
    for artifact in whole.root.glob("*-*"):
        for path in artifact.rglob("*"):
            for values in numbers(path):
                seen.add(path.suffix)
                assert np.isfinite(values).all(), path
    assert seen == {".npz", ".pt", ".h5", ".json", ".csv"}


def test_train_time_is_of_all_that_learns(whole: Whole) -> None:
    names = [artifact.path.name.rpartition("-")[0] for artifact in whole.finished.training]
    assert names == ["fine_tune", "cache_features", "train_svms", "train_box_regressors"]


def test_detections_are_the_finished_detectors(whole: Whole) -> None:
    # As someone would call it who has only the model's folder and an image.
    finished = whole.finished
    model = load(finished.model.path, "cpu")
    assert model.classes == finished.data.classes
    found = load_detections(
        finished.detections.path / "detections.json", range(1, len(model.classes) + 1)
    )
    reader = Proposals(finished.proposals.path / "proposals.h5")
    for record in finished.data.test:
        image = torch.from_numpy(image_of(record)).permute(2, 0, 1)
        detections = model([image])[0]
        # Searching anew or from the cache: the same.
        cached = model([image], [torch.from_numpy(reader.of(record, CONFIG.top))])[0]
        for key, value in detections.items():
            assert torch.equal(value, cached[key])
        saved = found[record.image_id]
        assert len(saved["scores"]) == len(detections["scores"]) > 0
        np.testing.assert_allclose(saved["scores"], detections["scores"].numpy(), atol=1e-5)
        assert sorted(saved["labels"]) == sorted(detections["labels"].tolist())


def test_unregressed_boxes_are_proposals(whole: Whole) -> None:
    finished = whole.finished
    classes = range(1, len(finished.data.classes) + 1)
    found = load_detections(finished.detections.path / "unregressed.json", classes)
    moved = load_detections(finished.detections.path / "detections.json", classes)
    reader = Proposals(finished.proposals.path / "proposals.h5")
    elsewhere = 0
    for record in finished.data.test:
        proposals = {tuple(box) for box in reader.of(record, CONFIG.top).tolist()}
        assert {tuple(box) for box in found[record.image_id]["boxes"].tolist()} <= proposals
        boxes = moved[record.image_id]["boxes"]
        assert (boxes >= -1e-4).all()
        assert (boxes[:, 2] <= record.width + 1e-3).all()
        assert (boxes[:, 3] <= record.height + 1e-3).all()
        elsewhere += len({tuple(box) for box in boxes.tolist()} - proposals)
    assert elsewhere > 0, "regression moved no box"


def test_pictures_are_there(whole: Whole) -> None:
    names = {path.name for path in whole.finished.pictures.path.glob("*.png")}
    assert names == {
        "proposals.png",
        "crops.png",
        "hardest_negatives.png",
        "detections.png",
        "best_detections.png",
        "worst_mistakes.png",
        "mistakes_by_kind.png",
    }


# Found again ---------------------------------------------------------------------------------


def test_a_second_run_does_no_work(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object) -> None:
        pytest.fail("a finished stage was made again")

    before = {path: path.stat().st_mtime_ns for path in whole.root.rglob("*") if path.is_file()}
    monkeypatch.setattr(Store, "_make", made)
    again = run(CONFIG, store_in(whole.root))
    for field in ("proposals", "training", "model", "detections", "evaluation", "pictures"):
        assert getattr(again, field) == getattr(whole.finished, field)
    artifacts = {path: stamp for path, stamp in before.items() if path.parent.name != "locks"}
    assert {path: path.stat().st_mtime_ns for path in artifacts} == artifacts


class AskedError(Exception):
    """A stage was to be made."""


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"svms": dataclasses.replace(CONFIG.svms, c=0.01)}, "train_svms"),
        ({"box_regression": dataclasses.replace(CONFIG.box_regression, seed=1)}, "train_box"),
        ({"detection": dataclasses.replace(CONFIG.detection, nms_iou=0.4)}, "assemble"),
        ({"context": 0.1}, "fine_tune"),
        ({"top": 50}, "fine_tune"),
        ({"proposals": dataclasses.replace(CONFIG.proposals, min_side=10)}, "search_selectively"),
    ],
)
def test_another_value_makes_anew_only_what_it_shapes(
    whole: Whole, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], first: str
) -> None:
    def asked(self: Store, artifact: Any, *_: object) -> None:
        raise AskedError(artifact.path.name)

    monkeypatch.setattr(Store, "_make", asked)
    with pytest.raises(AskedError, match=f"^{first}"):
        run(dataclasses.replace(CONFIG, **changes), store_in(whole.root))


def test_without_fine_tuning_the_pre_trained_network_is_used(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def asked(self: Store, artifact: Any, stage: Any, inputs: Any, described: Any) -> None:
        made.append(stage.__name__)
        raise AskedError

    monkeypatch.setattr(Store, "_make", asked)
    sgd = dataclasses.replace(CONFIG.fine_tune.sgd, iterations=0)
    tune = dataclasses.replace(CONFIG.fine_tune, sgd=sgd)
    with pytest.raises(AskedError):
        run(dataclasses.replace(CONFIG, fine_tune=tune), store_in(whole.root))
    assert made == ["cache_features"]


def test_a_damaged_artifact_is_made_again_and_the_same(
    whole: Whole, capsys: pytest.CaptureFixture[str]
) -> None:
    svms = whole.finished.training[2].path / "svms.npz"
    with np.load(svms) as arrays:
        before = dict(arrays)
    svms.write_bytes(svms.read_bytes()[:-1])
    capsys.readouterr()
    run(CONFIG, store_in(whole.root))
    said = capsys.readouterr().err
    assert "-- train_svms" in said
    assert said.count("-- ") == 1
    with np.load(svms) as arrays:
        assert all(np.array_equal(arrays[key], value) for key, value in before.items())


def test_more_ranks_than_windows_a_step_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="windows of a step: "):
        run(CONFIG, Store(tmp_path / "store", ranks=Ranks(0, 999)))
    assert not list((tmp_path / "store").glob("*/manifest.json"))
