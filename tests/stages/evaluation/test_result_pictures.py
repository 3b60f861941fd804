"""What every paper shows of its results: all is drawn, whatever the data lacks, and says what it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.data.records import Record
from stages.errors import InputError
from stages.evaluation.detections_io import save_detections
from stages.evaluation.result_pictures import IMAGES, _proposals, _spread, draw_results
from stages.proposals.cache import Proposals, write_proposals

A, B, FAR = [0, 0, 40, 40], [200, 200, 280, 280], [300, 20, 380, 90]
NAMES = {
    "proposals.png",
    "detections.png",
    "best_detections.png",
    "worst_mistakes.png",
    "mistakes_by_kind.png",
}
BLUE, ORANGE = (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)


@dataclasses.dataclass(frozen=True)
class Data:
    """Every image is in both splits."""

    train: list[Record]
    classes: tuple[str, ...] = ("cat", "dog")
    name: str = "made up"
    fingerprint: str = "made up"

    @property
    def test(self) -> list[Record]:
        return self.train

    @property
    def category_ids(self) -> tuple[int, ...]:
        return tuple(range(11, 11 + len(self.classes)))


@pytest.fixture
def photographed(record: Callable[..., Record], tmp_path: Path) -> Callable[..., Record]:
    """`record`, with a picture."""
    path = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return lambda *args: dataclasses.replace(record(*args), path=path)


def draw(
    folder: Path,
    data: Data,
    proposals: Sequence[list[float]],
    found: Mapping[str | int, Mapping[str, np.ndarray]],
    top: int | None = None,
) -> dict[str, np.ndarray]:
    """Every picture as pixels; the proposals are each image's."""
    folder.mkdir()
    boxes = np.array(proposals, np.float32).reshape(-1, 4)
    write_proposals(folder / "proposals.h5", data.test, [boxes] * len(data.test))
    save_detections(folder / "detections.json", found, data.category_ids)
    reader = Proposals(folder / "proposals.h5")
    draw_results(folder, data, reader, folder / "detections.json", top)
    drawn = {path.name: np.asarray(Image.open(path)) for path in folder.glob("*.png")}
    assert drawn.keys() == NAMES
    return drawn


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture[..., :3] == colour).all(axis=-1).any())


def test_all_are_there_and_the_same_again(photographed: Any, detected: Any, tmp_path: Path) -> None:
    data = Data([photographed(f"{i}", [A, B], [1, 2]) for i in range(3)])
    found = {"0": detected([A, B, FAR], [0.5, -0.5, 3.0], [1, 2, 2]), "2": detected([A], [1.0])}
    first, second = (draw(tmp_path / name, data, [A, FAR], found) for name in "ab")
    for name in NAMES:
        assert np.array_equal(first[name], second[name]), name


@pytest.mark.parametrize("lacking", ["objects", "detections", "proposals", "all", "images"])
def test_without(photographed: Any, detected: Any, tmp_path: Path, lacking: str) -> None:
    bare = lacking == "all"
    objects = [] if bare or lacking == "objects" else [A, B]
    records = [photographed(f"{i}", objects, [1, 2][: len(objects)]) for i in range(2)]
    proposals = [] if bare or lacking == "proposals" else [A, FAR]
    found = {} if bare or lacking == "detections" else {"0": detected([A], [2.0])}
    if lacking == "images":
        records, found = [], {}
    draw(tmp_path / "drawn", Data(records), proposals, found)


@pytest.mark.parametrize("classes", [1, 80])
def test_one_class_and_eighty(
    photographed: Any, detected: Any, tmp_path: Path, classes: int
) -> None:
    names = tuple(f"class {i} of a very long name, and $" for i in range(classes))
    data = Data([photographed("0", [A, B], [classes, 1])], names)
    found = {"0": detected([A, FAR], [2.0, 1.0], [classes, 1])}
    drawn = draw(tmp_path / "drawn", data, [A], found)
    # Ten classes at most, each a row of about two inches.
    assert drawn["best_detections.png"].shape[0] < 2500
    assert drawn["mistakes_by_kind.png"].shape[0] < 1000


def test_of_the_proposals_the_detector_sees(photographed: Any, tmp_path: Path) -> None:
    # The object's own box is the second: with `top` 1 there is but the first, of IoU 0.4.
    data = Data([photographed("0", [A], [1])])
    proposals = [[0, 0, 40, 16], A]
    every = draw(tmp_path / "every", data, proposals, {})["proposals.png"]
    first = draw(tmp_path / "first", data, proposals, {}, top=1)["proposals.png"]
    assert (has(every, BLUE), has(every, ORANGE)) == (True, False)
    assert (has(first, BLUE), has(first, ORANGE)) == (False, True)


def test_proposals_are_counted(photographed: Any) -> None:
    boxes = np.array([A, FAR, [200, 200, 280, 230]], np.float32)  # the last: IoU 0.375 with B
    said = _proposals(photographed("7", [A, B], [1, 2]), boxes).caption
    assert said == "7: 1 of 2 objects among 3 proposals"
    nothing = _proposals(photographed("7", [A, B], [1, 2]), boxes[:0]).caption
    assert nothing == "7: 0 of 2 objects among 0 proposals"


def test_images_from_all_over_the_split(record: Callable[..., Record]) -> None:
    # Every other one has an object.
    records = [record(i, [A] if i % 2 else []) for i in range(10 * IMAGES)]
    ids = [int(shown.image_id) for shown in _spread(records)]
    assert len(ids) == IMAGES
    assert all(i % 2 for i in ids)
    assert ids[-1] - ids[0] >= 8 * (IMAGES - 1)
    assert _spread(records[:2]) == records[1:2]
    without = [record(i, []) for i in range(IMAGES + 1)]
    assert _spread(without) == without[:IMAGES]
    assert _spread([]) == []


def test_another_data_sets_proposals(photographed: Any, tmp_path: Path) -> None:
    write_proposals(tmp_path / "proposals.h5", [], [])
    save_detections(tmp_path / "detections.json", {}, [11, 12])
    reader = Proposals(tmp_path / "proposals.h5")
    data = Data([photographed("0", [A], [1])])
    with pytest.raises(InputError, match="another data set"):
        draw_results(tmp_path, data, reader, tmp_path / "detections.json", None)
