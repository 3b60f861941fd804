"""All of SPPnet once through in seconds, by the command: whole, found again, with another value."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcnn_v1.config import PRESETS as RCNN
from spp_net import pipeline
from spp_net.command import command
from spp_net.config import PRESETS
from spp_net.detector import load
from spp_net.pipeline import run
from stages.data.decode import image_of
from stages.data.load import load_data
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections
from stages.options import resolve_dtypes
from stages.proposals.cache import Proposals
from stages.ranks import Ranks
from stages.store import Store

CONFIG = resolve_dtypes(PRESETS["micro"], "cpu")  # as the front door does
OPTIONS = ["--preset", "micro", "--device", "cpu", "--workers", "0"]
STAGES = [
    "draw_shapes",
    "pretrain",
    "search_selectively",
    "search_selectively",
    "gather_proposals",
    "cache_maps",
    "cache_maps",
    "add_pyramid",
    "cache_mirrored_maps",
    "cache_mirrored_maps",
    "fine_tune",
    "cache_features",
    "train_svms",
    "train_box_regressors",
    "assemble",
    "detect",
    "evaluate_detections",
    "draw_pictures",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    command([*OPTIONS, "--runs", str(folder)])
    return folder


@pytest.fixture
def run_folder(runs: Path) -> Path:
    return runs / "shapes-micro-tiny" / "spp"


def test_what_it_leaves(runs: Path, run_folder: Path) -> None:
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert metrics["paper"] == "spp"
    assert [row["stage"] for row in metrics["stages"]] == STAGES
    assert metrics["result"]["images"] == 4
    trained = STAGES[5:14]
    seconds = [row["seconds"] for row in metrics["stages"] if row["stage"] in trained]
    assert metrics["train_seconds"] == pytest.approx(sum(seconds), abs=0.01)
    assert {path.name for path in run_folder.glob("*.png")} == {
        "proposals.png",
        "pyramid.png",
        "detections.png",
        "best_detections.png",
        "worst_mistakes.png",
        "mistakes_by_kind.png",
    }
    assert not list((runs / "store" / "unfinished").iterdir())


def test_detections_are_the_finished_detectors(runs: Path, run_folder: Path) -> None:
    model = load(run_folder / "model", "cpu")
    store = Store(runs / "store")
    data = load_data(CONFIG.data, store)
    found = load_detections(run_folder / "detections.json", data.category_ids)
    (proposals,) = (runs / "store").glob("gather_proposals-*")
    reader = Proposals(proposals / "proposals.h5")
    for record in data.test:
        image = torch.from_numpy(image_of(record)).permute(2, 0, 1)
        detections = model([image])[0]
        cached = model([image], [torch.from_numpy(reader.of(record, CONFIG.top))])[0]
        for key, value in detections.items():
            assert torch.equal(value, cached[key])
        saved = found[record.image_id]
        assert len(saved["scores"]) == len(detections["scores"]) > 0
        np.testing.assert_allclose(saved["scores"], detections["scores"].numpy(), atol=1e-5)


def test_a_finished_run_is_recognised(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(*_: object) -> None:
        pytest.fail("a finished run was made again")

    monkeypatch.setattr(pipeline, "run", made)
    command([*OPTIONS, "--runs", str(runs)])
    assert "with box regression: mAP" in capsys.readouterr().out


class AskedError(Exception):
    """A stage was to be made."""


def first_made(config: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    def asked(self: Store, artifact: Any, stage: Any, inputs: Any, described: Any) -> None:
        raise AskedError(stage.__name__)

    monkeypatch.setattr(Store, "_make", asked)
    with pytest.raises(AskedError) as caught:
        run(config, Store(runs / "store", checkpoint_seconds=0.0))
    return str(caught.value)


@pytest.mark.parametrize(
    ("part", "changes", "first"),
    [
        ("pyramid", {"scales": (96, 120)}, "cache_maps"),
        ("pyramid", {"scales": (144,)}, "fine_tune"),  # its maps are there
        ("pyramid", {"levels": (2, 1)}, "add_pyramid"),
        ("pyramid", {"window_side": 50}, "cache_features"),  # fine-tuning's scales are random
        ("fine_tune", {"positives": 16}, "fine_tune"),
        ("fine_tune", {"mirror": False}, "fine_tune"),  # which reads no maps of mirrored images
        ("svms", {"negative_nms": None}, "train_svms"),
        ("box_regression", {"ridge": 1.0}, "train_box_regressors"),
        ("detection", {"nms_iou": 0.4}, "assemble"),
    ],
)
def test_another_value_makes_anew_only_what_it_shapes(
    runs: Path, monkeypatch: pytest.MonkeyPatch, part: str, changes: dict[str, Any], first: str
) -> None:
    replaced = dataclasses.replace(getattr(CONFIG, part), **changes)
    config = dataclasses.replace(CONFIG, **{part: replaced})
    assert first_made(config, runs, monkeypatch) == first


def test_without_fine_tuning_the_pre_trained_network_is_used(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sgd = dataclasses.replace(CONFIG.fine_tune.sgd, iterations=0)
    tune = dataclasses.replace(CONFIG.fine_tune, sgd=sgd)
    config = dataclasses.replace(CONFIG, fine_tune=tune)
    assert first_made(config, runs, monkeypatch) == "cache_features"


@pytest.mark.slow
def test_without_mirroring_no_maps_are_made_for_it(tmp_path: Path) -> None:
    command([*OPTIONS, "--fine-tune.no-mirror", "--runs", str(tmp_path)])
    assert not list((tmp_path / "store").glob("cache_mirrored_maps-*"))
    assert list((tmp_path / "store").glob("fine_tune-*"))


def test_difficult_objects_teach_where_they_are_asked_to(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(data: Any, difficult: bool) -> None:
        raise AskedError(str(difficult))

    monkeypatch.setattr(pipeline, "training_split", asked)
    for difficult in (True, False):
        with pytest.raises(AskedError, match=str(difficult)):
            run(dataclasses.replace(CONFIG, difficult=difficult), Store(runs / "store"))


def test_rcnn_finds_its_images_proposals_and_pre_training_there(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rcnn_v1.pipeline import run as run_rcnn

    def asked(self: Store, artifact: Any, stage: Any, inputs: Any, described: Any) -> None:
        raise AskedError(stage.__name__)

    monkeypatch.setattr(Store, "_make", asked)
    with pytest.raises(AskedError, match=r"^fine_tune$"):
        run_rcnn(resolve_dtypes(RCNN["micro"], "cpu"), Store(runs / "store"))


def test_a_network_without_fully_connected_layers_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="BACKBONE=resnet18"):
        command([*OPTIONS, "--runs", str(tmp_path), "--backbone", "resnet18"])
    assert [path.name.rpartition("-")[0] for path in (tmp_path / "store").glob("*-*")] == [
        "draw_shapes"
    ]


def test_more_ranks_than_windows_a_step_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="windows of a step: "):
        run(CONFIG, Store(tmp_path / "store", ranks=Ranks(0, 999)))
    assert not list((tmp_path / "store").glob("*/manifest.json"))
