"""What of a `metrics.json` the harness counts on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.metrics import check_metrics
from stages.errors import InputError

RESULTS = sorted((Path(__file__).parents[2] / "benchmarks/results").glob("*/metrics.json"))
SHAPES = {"train": 4, "test": 4, "objects": 0}
PATH = Path("runs/a/rcnn/metrics.json")


@pytest.fixture
def metrics() -> dict[str, Any]:
    return {
        "paper": "rcnn",
        "backbone": "tiny",
        "classes": ["cat"],
        "data": "toy",
        "data_fingerprint": "0",
        "preset": "micro",
        "config": {"is": "Config", "data": {"is": "DataConfig", "name": "toy"}, "top": 5},
        "result": {
            "voc07_map": None,
            "voc07_interval": [None, 60.0],
            "area_map": 51,
            "coco": {"AP": 30.0},
            "images": 4,
        },
    }


def refused(metrics: Any) -> str:
    with pytest.raises(InputError) as caught:
        check_metrics(json.dumps(metrics).encode(), PATH)
    said = str(caught.value)
    assert said.startswith(f"{PATH}: not of a finished run")
    return said


def test_a_run_with_only_what_every_run_has(metrics: dict[str, Any]) -> None:
    assert check_metrics(json.dumps(metrics).encode(), PATH).config.data.name == "toy"
    del metrics["result"]  # of a detector taken as it is
    assert check_metrics(json.dumps(metrics).encode(), PATH).result.images == 0


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_every_published_run(path: Path) -> None:
    assert check_metrics(path.read_bytes(), path).result.voc07_map is not None


@pytest.mark.parametrize(
    "name", ["paper", "backbone", "classes", "data", "data_fingerprint", "preset", "config"]
)
def test_what_is_missing_is_named(metrics: dict[str, Any], name: str) -> None:
    del metrics[name]
    assert name in refused(metrics)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda m: m.update(classes=[]), "no classes"),
        (lambda m: m["config"].update(detection=5), "config.detection"),
        (lambda m: m["config"].update(features={"dtype": [1]}), "config.features.dtype"),
        (lambda m: m.update(classes=[1]), "classes.0"),
        (lambda m: m.update(result=None), "result"),
        (lambda m: m.update(usual_scores=None), "usual_scores"),
        (lambda m: m.update(usual_scores={"cat": "high"}), "usual_scores.cat"),
        (lambda m: m["result"].update(voc07_interval=[1.0]), "result.voc07_interval"),
        (lambda m: m["result"].update(mistakes={"all": {"correct": 1}}), "a kind is missing"),
        (lambda m: m.update(proposals={"test": [{"proposals": "some"}]}), "proposals.test.0"),
        (lambda m: m.update(stages=[{}]), "stages.0.device"),
        (lambda m: m["config"].update(data={}), "no data set"),
        (lambda m: m["config"].update(data={"is": "DataConfig"}), "no data set"),
        (lambda m: m["config"]["data"].update(first="all"), "config.data.first"),
        (lambda m: m["config"]["data"].update(shapes=SHAPES), "objects"),
    ],
)
def test_what_is_of_another_kind_is_named(
    metrics: dict[str, Any], change: Callable[[dict[str, Any]], Any], place: str
) -> None:
    change(metrics)
    assert place in refused(metrics)
