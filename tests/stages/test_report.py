"""What a run says of itself: its numbers are those of its artifacts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.data.records import Record
from stages.errors import InputError
from stages.evaluation.detections_io import save_detections
from stages.evaluation.evaluate import evaluate
from stages.report import metrics_of, read_json, result_line, stage_rows, stage_table
from stages.store import Artifact, Job, Store, stage

BOX = [0, 0, 20, 20]
MIB = 2**20
# Three stages; the second and the third train.
MADE = {
    "search-1": ("stages.search", 1.5, 0.5),
    "fit-2": ("paper.fit", 2.0004, 1.0),
    "fit-3": ("paper.fit", 0.25, 0.25),
}


def record(image_id: str, labels: list[int]) -> Record:
    n = len(labels)
    return Record(
        image_id,
        Path(f"{image_id}.jpg"),
        60,
        48,
        np.array([BOX] * n, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.zeros(n, bool),
        np.zeros(n, bool),
    )


@dataclass(frozen=True)
class Data:
    """One cat an image to train on; no dog."""

    train: list[Record] = field(default_factory=lambda: [record("t", [1])])
    test: list[Record] = field(default_factory=lambda: [record("a", [1, 2])])
    classes: tuple[str, ...] = ("cat", "dog")
    category_ids: tuple[int, ...] = (11, 12)
    name: str = "made up"
    fingerprint: str = "made up"


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Artifact]:
    """`MADE`, of two files each."""
    made = []
    for name, (of_stage, seconds, mib) in MADE.items():
        folder = tmp_path / name
        folder.mkdir()
        manifest = {
            "stage": of_stage,
            "seconds": seconds,
            "peak_memory_bytes": 300 * MIB,
            "peak_cuda_bytes": 0,
            "files": {
                **{file: {"bytes": int(mib * MIB / 2)} for file in ("a", "b")},
                # Logs are as long as the clock made them: they are not counted.
                "losses.csv": {"bytes": 5 * MIB},
                "tensorboard/events.1": {"bytes": 7 * MIB},
            },
            "device": "cpu",
            "commit": "abc",
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        made.append(Artifact(folder, name))
    (made[0].path / "recall.json").write_text('{"test": [1, 2]}')
    return made


@pytest.fixture
def metrics(tmp_path: Path, artifacts: list[Artifact]) -> dict[str, Any]:
    """Of two cats and a dog that were detected."""
    save_detections(
        tmp_path / "detections.json",
        {
            "a": {
                "boxes": np.array([BOX, BOX, BOX]),
                "labels": np.array([1, 1, 2]),
                "scores": np.array([0.75, 0.5, 9]),
            }
        },
        [11, 12],
    )
    (tmp_path / "one.json").write_text('{"voc07_map": 50}')
    (tmp_path / "other.json").write_text('{"voc07_map": 40}')
    return metrics_of(
        "fast",
        "tiny",
        Data(),
        {"result": tmp_path / "one.json", "result_otherwise": tmp_path / "other.json"},
        tmp_path / "detections.json",
        artifacts[0],
        artifacts[1:],
        artifacts,
    )


def test_metrics(metrics: dict[str, Any], artifacts: list[Artifact]) -> None:
    rows = metrics.pop("stages")
    assert metrics == {
        "paper": "fast",
        "backbone": "tiny",
        "classes": ("cat", "dog"),
        "result": {"voc07_map": 50},
        "result_otherwise": {"voc07_map": 40},
        "usual_scores": {"cat": 0.75},  # one cat an image; a dog was never to be learnt
        "proposals": {"test": [1, 2]},
        "train_seconds": 2.25,
        "train_disk_mib": 1.25,
    }
    assert rows == stage_rows(artifacts)


def test_metrics_are_json_in_the_order_of_their_keys(metrics: dict[str, Any]) -> None:
    text = json.dumps(metrics, allow_nan=False)
    assert list(json.loads(text)) == [
        "paper",
        "backbone",
        "classes",
        "result",
        "result_otherwise",
        "usual_scores",
        "proposals",
        "train_seconds",
        "train_disk_mib",
        "stages",
    ]


def test_an_artifact_named_twice_is_counted_once(
    tmp_path: Path, metrics: dict[str, Any], artifacts: list[Artifact]
) -> None:
    again = metrics_of(
        "fast",
        "tiny",
        Data(),
        {},
        tmp_path / "detections.json",
        artifacts[0],
        [*artifacts[1:], artifacts[1]],
        artifacts,
    )
    assert again["train_seconds"] == metrics["train_seconds"]
    assert "result" not in again


def test_a_detector_that_makes_its_own_proposals(
    tmp_path: Path, metrics: dict[str, Any], artifacts: list[Artifact]
) -> None:
    without = metrics_of(
        "faster",
        "tiny",
        Data(),
        {"result": tmp_path / "one.json", "result_otherwise": tmp_path / "other.json"},
        tmp_path / "detections.json",
        None,
        artifacts[1:],
        artifacts,
    )
    expected = {**metrics, "paper": "faster"}
    del expected["proposals"]
    assert without == expected


def test_no_detections_there(tmp_path: Path, artifacts: list[Artifact]) -> None:
    with pytest.raises(InputError, match=r"missing\.json"):
        metrics_of("fast", "tiny", Data(), {}, tmp_path / "missing.json", artifacts[0], [], [])


@stage(version=1)
def write_some(job: Job, size: int) -> None:
    """An artifact of `size` bytes."""
    (job.folder / "some").write_bytes(bytes(size))


def test_rows_are_of_the_stores_manifests(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = store.run(write_some, 3 * MIB)
    [row] = stage_rows(store.used)
    assert (row["stage"], row["artifact"]) == ("write_some", made.path.name)
    assert row["device"] == made.manifest["device"]
    assert row["disk_mib"] == 3
    assert row["seconds"] == made.manifest["seconds"] >= 0
    assert row["peak_memory_mib"] > 0


def test_rows_as_text(artifacts: list[Artifact]) -> None:
    head, *lines = stage_table(stage_rows(artifacts)).splitlines()
    assert head.split()[0] == "stage"
    assert [line.split() for line in lines] == [
        ["search", "1.5", "300", "0.5"],
        ["fit", "2.0", "300", "1.0"],
        ["fit", "0.2", "300", "0.2"],
    ]


def test_a_result_in_a_line() -> None:
    data = Data()
    found = {
        "a": {"boxes": np.array([BOX]), "labels": np.array([1]), "scores": np.array([1.0])},
    }
    line = result_line("with", evaluate(data.test, found, data.classes, draws=10))
    assert line.startswith("with: mAP 50.0 [50.0, 50.0] (VOC07, 11-point), 50.0 (area), COCO AP")
    assert line.endswith("; 1 images")
    empty = result_line("without", evaluate([], {}, data.classes, draws=10))
    assert empty.startswith("without: mAP n/a [n/a, n/a]")


def test_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, null]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, None]}
