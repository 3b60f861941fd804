"""All of YOLOv3 once through in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rivals.yolov3 import pipeline
from benchmarks.rivals.yolov3.command import yolov3
from benchmarks.rivals.yolov3.config import PRESETS, check
from benchmarks.rivals.yolov3.detector import load
from stages.data.images import image_tensor
from stages.data.load import load_data
from stages.data.records import Dataset
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections
from stages.store import Store

RUN = "shapes-micro-tiny/yolov3"
STAGES = [
    "draw_shapes",
    "find_priors",
    "pretrain",
    "train_yolov3",
    "assemble",
    "detect",
    "evaluate_detections",
]


def options(runs: Path, *more: str) -> list[str]:
    shared = ["--preset", "micro", "--runs", str(runs), "--device", "cpu", "--workers", "0"]
    return [*shared, *more]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs")
    yolov3(options(folder))
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
    assert (metrics["paper"], metrics["backbone"]) == ("yolov3", "tiny")
    assert metrics["result"]["images"] == 4
    assert [row["stage"] for row in metrics["stages"]] == STAGES
    seconds = {row["stage"]: row["seconds"] for row in metrics["stages"]}
    assert metrics["train_seconds"] == pytest.approx(
        seconds["find_priors"] + seconds["train_yolov3"] + seconds["assemble"], abs=0.01
    )
    assert "mAP" in (runs / RUN / "summary.txt").read_text()


def test_the_models_folder_is_all_a_user_needs(runs: Path) -> None:
    detector = load(runs / RUN / "model", "cpu")
    data = load_data(PRESETS["micro"].data, Store(runs / "store"))
    assert detector.classes == data.classes
    saved = load_detections(runs / RUN / "detections.json", data.category_ids)
    for record in data.test:
        [found] = detector([image_tensor(record)])
        wanted = sorted(saved[record.image_id]["scores"], reverse=True)
        # The file's order of equal scores may be another; its scores have six decimals.
        assert found["scores"].tolist() == pytest.approx(wanted, abs=2e-6)


def test_a_second_run_does_no_work(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (runs / RUN / "metrics.json").stat().st_mtime_ns
    yolov3(options(runs))
    said = capsys.readouterr()
    assert "-- " not in said.err
    assert (runs / RUN / "summary.txt").read_text() in said.out
    assert (runs / RUN / "metrics.json").stat().st_mtime_ns == before


def test_difficult_objects_are_left_out_unless_asked_for(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(data: Dataset, difficult: bool) -> None:
        raise LookupError(difficult)

    monkeypatch.setattr(pipeline, "training_split", asked)
    with pytest.raises(LookupError, match="True"):
        yolov3(options(runs, "--tag", "difficult", "--difficult"))
    with pytest.raises(LookupError, match="False"):
        yolov3(options(runs, "--tag", "easy"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--backbone", "vgg16"], r"^BACKBONE=vgg16: YOLOv3 takes tiny, "),
        (["--width", "0"], "--width 0: takes multiples of 4"),
        (["--width", "30"], "--width 30: takes multiples of 4"),
        (["--images", "0"], "1 or more"),
        (["--jitter", "0.5"], "--jitter 0.5: takes 0 or more, below 0.5"),
        (["--clip-norm", "0"], "--clip-norm 0.0: takes more than 0"),
        (["--scale.test", "96", "128"], "one size"),
        (["--scale.train", "0"], "1 or more"),
        (["--train.learn", "boxes"], "learn boxes"),
        (["--loss.ignored-by", "nobody"], "ignored-by"),
        (["--sgd.rate", "1"], "unknown option --sgd.rate"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, more: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        yolov3(options(tmp_path / "runs", *more))
    assert "\n" not in caught.value.line
    assert not (tmp_path / "runs").exists()  # before anything is made


def test_presets_can_be() -> None:
    for config in PRESETS.values():
        check(config)
