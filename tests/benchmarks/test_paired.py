"""Two detectors on the same images: whose is the higher figure, and is that more than chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.command import command
from benchmarks.detectors import Run
from stages.data.records import Record
from stages.errors import InputError
from stages.evaluation.detections_io import save_detections
from tests.conftest import Toy

FOLDER = "toy-small-tiny"
MEASURED = {
    "result": {
        "voc07_map": 0.0,
        "voc07_interval": [0.0, 0.0],
        "area_map": 0.0,
        "coco": {"AP": 0.0},
        "images": 18,
    }
}


def detections(records: list[Record], missing: int = 0) -> dict[str | int, dict[str, Any]]:
    """Every object, but in the first `missing` images."""
    return {
        record.image_id: {
            "boxes": record.boxes.astype(np.float64),
            "labels": record.labels,
            "scores": np.linspace(0.9, 0.5, len(record.labels)),
        }
        for record in records[missing:]
    }


@pytest.fixture
def two(
    finish: Callable[..., Path], toy: Toy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[int, int], list[str]]:
    monkeypatch.setattr(Run, "data", lambda self, store: toy)

    def made(missing_of_a: int, missing_of_b: int) -> list[str]:
        for name, missing in (("fast-a", missing_of_a), ("fast-b", missing_of_b)):
            folder = finish(FOLDER, name, **MEASURED)
            found = detections(toy.test, missing)
            save_detections(folder / "detections.json", found, toy.category_ids)
        return ["paired", "fast-a", "fast-b", "--runs", str(tmp_path / "runs")]

    return made


@pytest.mark.parametrize(
    ("missing", "verdict"),
    [((0, 12), "A is above"), ((12, 0), "B is above"), ((2, 2), "not separated")],
)
def test_who_is_above(
    two: Callable[[int, int], list[str]],
    capsys: pytest.CaptureFixture[str],
    missing: tuple[int, int],
    verdict: str,
) -> None:
    command(two(*missing))
    a, b, images, *lines = capsys.readouterr().out.splitlines()
    assert a.endswith(f"{FOLDER}/fast-a") and b.endswith(f"{FOLDER}/fast-b")
    assert images == "18 images"
    assert [line.partition(":")[0] for line in lines] == ["boxes, mAP (VOC07)", "boxes, COCO's AP"]
    assert all(line.endswith(f": {verdict}") for line in lines)
    if verdict == "A is above":
        assert all(": 100.0 and " in line for line in lines)


def test_the_same_is_no_difference(
    two: Callable[[int, int], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    command(two(3, 3))
    assert capsys.readouterr().out.count("+0.0 [+0.0, +0.0]: not separated") == 2


def test_others_are_refused(finish: Callable[..., Path], tmp_path: Path) -> None:
    runs = ["--runs", str(tmp_path / "runs")]
    finish(FOLDER, "fast-a", **MEASURED)
    finish(FOLDER, "fast-b", **{**MEASURED, "data_fingerprint": "other"})
    finish(FOLDER, "mask-published")
    with pytest.raises(InputError, match="not of the same data"):
        command(["paired", "fast-a", "fast-b", *runs])
    with pytest.raises(InputError, match="mask-published: measured on nothing"):
        command(["paired", "mask-published", "fast-b", *runs])
    with pytest.raises(InputError, match="neither a paper nor a finished run"):
        command(["paired", "fast-a", "fast-c", *runs])
