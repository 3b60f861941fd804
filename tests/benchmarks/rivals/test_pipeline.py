"""All of `make rival` once through in seconds, and what the harness then does with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from benchmarks.command import command
from benchmarks.detectors import find_runs
from benchmarks.rivals import pipeline
from benchmarks.rivals.config import TITLES
from benchmarks.rivals.detector import load, read_description
from stages.data.images import image_tensor
from stages.data.records import Dataset
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections
from stages.store import Store

RUN = "shapes-micro-mobilenet_v2/torchvision-faster"
STAGES = ["draw_shapes", "train_torchvision", "assemble", "detect", "evaluate_detections"]


def options(runs: Path, *more: str) -> list[str]:
    shared = ["--preset", "micro", "--runs", str(runs), "--device", "cpu", "--workers", "0"]
    return ["rival", *shared, *more]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs")
    command(options(folder))
    return folder


@pytest.fixture
def metrics(runs: Path) -> dict[str, Any]:
    return json.loads((runs / RUN / "metrics.json").read_text())


def test_what_a_run_leaves(runs: Path, metrics: dict[str, Any]) -> None:
    assert {path.name for path in (runs / RUN).iterdir()} == {
        "metrics.json",
        "configuration.json",
        "summary.txt",
        "detections.json",
        "model",
    }
    assert (metrics["paper"], metrics["backbone"]) == ("torchvision-faster", "mobilenet_v2")
    assert metrics["result"]["images"] == 4
    assert "proposals" not in metrics
    assert [row["stage"] for row in metrics["stages"]] == STAGES
    seconds = {row["stage"]: row["seconds"] for row in metrics["stages"]}
    assert metrics["train_seconds"] == pytest.approx(
        seconds["train_torchvision"] + seconds["assemble"], abs=0.01
    )
    assert "mAP" in (runs / RUN / "summary.txt").read_text()


def test_difficult_objects_are_left_out_unless_asked_for(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(data: Dataset, difficult: bool) -> None:
        raise LookupError(difficult)

    monkeypatch.setattr(pipeline, "training_split", asked)
    with pytest.raises(LookupError, match="True"):
        command(options(runs, "--tag", "difficult", "--difficult"))
    with pytest.raises(LookupError, match="False"):
        command(options(runs, "--tag", "easy"))


def test_the_models_folder_is_all_a_user_needs(runs: Path) -> None:
    detector = load(runs / RUN / "model", "cpu")
    data = find_runs(runs)[0].data(Store(runs / "store"))
    assert detector.classes == data.classes
    saved = load_detections(runs / RUN / "detections.json", data.category_ids)
    for record in data.test:
        [found] = detector([image_tensor(record)])
        # The file's order of equal scores may be another; its scores have six decimals.
        assert found["scores"].tolist() == pytest.approx(
            sorted(saved[record.image_id]["scores"], reverse=True), abs=2e-6
        )


def test_a_second_run_does_no_work(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (runs / RUN / "metrics.json").stat().st_mtime_ns
    command(options(runs))
    said = capsys.readouterr()
    assert "-- " not in said.err
    assert (runs / RUN / "summary.txt").read_text() in said.out
    assert (runs / RUN / "metrics.json").stat().st_mtime_ns == before


def test_the_harness_times_and_draws_it(runs: Path, metrics: dict[str, Any]) -> None:
    command(["--runs", str(runs), "--device", "cpu", "--images", "1", "--rates"])
    [row] = pd.read_csv(runs / "report" / "benchmark.csv").to_dict("records")
    assert row["run"] == row["paper"] == "torchvision-faster"
    assert row["map"] == pytest.approx(metrics["result"]["voc07_map"], abs=1e-3)
    parts = {name.removeprefix("part: ") for name in row if name.startswith("part: ")}
    assert parts == {"decode", "resize", "convolutions", "RPN", "RoI heads", "pasting"}
    assert row["seconds_without_proposals"] == row["seconds"]  # it has none that are made before
    assert (runs / "report" / "speed_map.png").stat().st_size > 1000


def test_it_detects_in_a_photograph(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = next((runs / "store").glob("draw_shapes-*/JPEGImages/*"))
    model = ["--model", "torchvision-faster", "--runs", str(runs), "--device", "cpu"]
    command(["detect", str(photo), *model, "--threshold", "0"])
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{photo}: ")
    picture = Path(first.rpartition("; ")[2])
    assert picture.is_relative_to(runs / "detections")
    assert picture.name == f"{photo.name}.png"
    assert picture.stat().st_size > 1000


def test_masks_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--data.shapes.train", "2", "--data.shapes.test", "1", "--sgd.iterations", "1"]
    command(options(tmp_path, "--kind", "mask", *few))
    folder = tmp_path / "shapes-micro-mobilenet_v2" / "torchvision-mask"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [row["stage"] for row in metrics["stages"]] == STAGES
    assert metrics["result"]["masks"]["coco"]["AP"] is not None
    assert "\nmasks: mAP" in (folder / "summary.txt").read_text()
    rows = json.loads((folder / "detections.json").read_text())
    assert rows
    assert all(row["segmentation"]["size"] == [96, 128] for row in rows)
    (run,) = find_runs(tmp_path)
    assert run.name == run.metrics["paper"] == "torchvision-mask"
    assert run.detector("cpu").network.roi_heads.has_mask()
    capsys.readouterr()
    command(options(tmp_path, "--kind", "mask", *few))
    assert "-- " not in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "side"), [("ssd", [257, 257]), ("retinanet", [96, 1000])])
def test_one_stage_too(kind: str, side: list[int], tmp_path: Path) -> None:
    few = ["--data.shapes.train", "2", "--data.shapes.test", "1", "--sgd.iterations", "1"]
    command(options(tmp_path, "--kind", kind, *few))
    folder = tmp_path / "shapes-micro-mobilenet_v2" / kind
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["paper"] == kind
    assert [row["stage"] for row in metrics["stages"]] == STAGES
    assert metrics["result"]["images"] == 1
    assert f"{TITLES[kind]}: mAP" in (folder / "summary.txt").read_text()  # type: ignore[index]
    about = read_description(folder / "model" / "model.json")
    assert [about.shorter, about.longest] == side
    [found] = load(folder / "model", "cpu")([torch.zeros(3, 40, 60, dtype=torch.uint8)])
    assert found["boxes"].shape[1] == 4


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--backbone", "tiny"], r"^BACKBONE=tiny: .* mobilenet_v2 only$"),
        (["--shorter", "0"], "--shorter 0: takes 1 or more"),
        (["--images", "0"], "--images 0: takes 1 or more"),
        (["--square", "0"], "--square 0: takes 1 or more"),
        (["--kind", "ssd", "--square", "256"], "--square 256: SSD's six maps need 257 or more"),
        (["--clip-norm", "0"], "--clip-norm 0.0: takes more than 0"),
        (["--finest-stride", "5"], "finest-stride"),
        (["--kind", "ssd", "--finest-stride", "8"], "--finest-stride 8: of SSD it is 16"),
        (["--kind", "yolo"], "kind"),
        (["--sgd.rate", "1"], "unknown option --sgd.rate"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, more: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        command(options(tmp_path / "runs", *more))
    assert "\n" not in caught.value.line
    assert not (tmp_path / "runs").exists()  # before anything is made
