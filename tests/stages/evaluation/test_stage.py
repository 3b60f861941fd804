"""The evaluation stage: its artifact, and which classes are similar in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.data.records import Record
from stages.evaluation.detections_io import save_detections, sizes_of
from stages.evaluation.similar import VOC
from stages.evaluation.stage import evaluate_detections
from stages.store import Artifact, Store

TWENTY = tuple(sorted({name for group in VOC for name in group}))
BOX = [10.0, 10.0, 50.0, 50.0]


@dataclass(frozen=True)
class Data:
    classes: Sequence[str]
    test: Sequence[Record]
    name: str = "made up"
    fingerprint: str = "0"

    @property
    def category_ids(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.classes) + 1))


@pytest.fixture
def found(
    tmp_path: Path, record: Callable[..., Record], detected: Callable[..., Any]
) -> Callable[[Sequence[str]], tuple[Data, Artifact]]:
    """A cat, and a detection of a dog in its place."""

    def made(classes: Sequence[str]) -> tuple[Data, Artifact]:
        cat, dog = (classes.index(name) + 1 for name in ("cat", "dog"))
        data = Data(classes, [record("1", [BOX], [cat]), record("2", [BOX], [dog])])
        folder = tmp_path / "found"
        folder.mkdir()
        detections = {"1": detected([BOX], [0.9], [dog]), "2": detected([], [], [])}
        save_detections(
            folder / "detections.json", detections, data.category_ids, sizes_of(data.test)
        )
        return data, Artifact(folder, "found")

    return made


@pytest.mark.parametrize(
    ("classes", "kind"), [(TWENTY, "similar class"), (("cat", "dog"), "other class")]
)
def test_a_dog_is_similar_to_a_cat_in_voc(
    tmp_path: Path, found: Any, classes: Sequence[str], kind: str
) -> None:
    data, detections = found(classes)
    store = Store(tmp_path / "store", "cpu", 0)
    worth = store.run(evaluate_detections, data, detections)
    counts = json.loads((worth.path / "detections.json").read_text())["mistakes"]["all"]
    assert counts["objects"] == 2 and counts[kind] == 1
    assert counts["similar class"] + counts["other class"] == 1
