"""Faster R-CNN's pictures: all are drawn, whatever the data lacks, and they show what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import faster_rcnn.pictures
from fast_rcnn.config import DetectionConfig, ScaleConfig
from faster_rcnn.config import AnchorConfig, ProposalConfig, RPNConfig
from faster_rcnn.detector import Description, build, load, save
from faster_rcnn.pictures import draw_pictures
from stages.data.decode import image_of
from stages.data.images import image_tensor
from stages.evaluation.detections_io import save_detections
from stages.proposals.cache import write_proposals
from stages.sheet import Row
from stages.store import Artifact, Job

Make = Callable[..., Any]
LEFT, RIGHT, WIDE = [0, 0, 20, 20], [20, 20, 40, 40], [5, 12, 58, 38]
RESULTS = {
    "proposals.png",
    "detections.png",
    "best_detections.png",
    "worst_mistakes.png",
    "mistakes_by_kind.png",
}
SIZES, RATIOS = (16.0, 48.0), (0.5, 1.0, 2.0)


def model_in(folder: Path, classes: tuple[str, ...], shorter: int = 96) -> Artifact:
    description = Description(
        "faster",
        "tiny",
        classes,
        ScaleConfig(test=(shorter,), longest=300),
        RPNConfig(width=16, anchors=AnchorConfig(SIZES, RATIOS)),
        ProposalConfig(after=20, least_side=4.0),
        DetectionConfig(dtype="float32"),
    )
    torch.manual_seed(0)
    model = build(description)
    with torch.no_grad():
        model.rpn.scores.weight.normal_(std=1.0)
    save(folder, description, model.state_dict())
    return Artifact(folder, "model")


class Drawing:
    """Axes that remember what is drawn on them: the corners of rectangles, with their colour."""

    def __init__(self) -> None:
        self.boxes: list[tuple[list[float], Any]] = []

    def add_patch(self, patch: Any) -> None:
        x, y = patch.get_xy()
        corners = [x, y, x + patch.get_width(), y + patch.get_height()]
        self.boxes.append((corners, patch.get_edgecolor()))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows of the sheet on the RPN, which is not drawn."""
    drawn: list[Row] = []
    monkeypatch.setattr(
        faster_rcnn.pictures, "sheet", lambda path, title, given, *_: drawn.extend(given)
    )
    monkeypatch.setattr(faster_rcnn.pictures, "draw_results", lambda *_: None)
    return drawn


def shown(data: Any, folder: Path, shorter: int = 96) -> Any:
    model = model_in(folder, data.classes, shorter)
    draw_pictures(Job(folder), data, data.proposals, model, Artifact(folder, "x"))
    return load(model.path, "cpu")


def test_all_are_drawn(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([[LEFT, RIGHT], []], [[1, 2], []], [[LEFT, RIGHT, WIDE], []])
    model = model_in(tmp_path, data.classes)
    found: dict[str | int, Any] = {
        "000": {
            "boxes": np.array([LEFT], np.float32),
            "labels": np.array([1]),
            "scores": np.array([0.9], np.float32),
        }
    }
    save_detections(tmp_path / "detections.json", found, data.category_ids)
    (tmp_path / "drawn").mkdir()
    draw_pictures(Job(tmp_path / "drawn"), data, data.proposals, model, Artifact(tmp_path, "given"))
    drawn = {path.name: np.asarray(Image.open(path)) for path in (tmp_path / "drawn").glob("*.png")}
    assert drawn.keys() == RESULTS | {"rpn.png"}
    for name, pixels in drawn.items():
        assert pixels.std() > 5, name


def test_without_objects_there_is_no_rpn_to_show(
    toy_of: Make, tmp_path: Path, rows: list[Row]
) -> None:
    shown(toy_of([[]], [[]], [[LEFT]]), tmp_path)
    assert rows == []


def test_no_image_in_the_split(toy_of: Make, tmp_path: Path, rows: list[Row]) -> None:
    data = toy_of([], [], [])
    write_proposals(data.proposals.path / "proposals.h5", [], [])
    shown(data, tmp_path)
    assert rows == []


def test_a_row_is_the_anchors_of_a_position_the_rpns_answer_and_its_proposals(
    toy_of: Make, tmp_path: Path, rows: list[Row]
) -> None:
    # 48 x 60 at 96 is 96 x 120: six rows of eight cells, each of 8 pixels of the image.
    data = toy_of([[LEFT, WIDE]], [[1, 2]], [[LEFT, RIGHT, WIDE] * 10])
    model = shown(data, tmp_path)
    (row,) = rows
    anchors, answer, best = row.panels
    for panel in (anchors, best):
        assert np.array_equal(panel.image, image_of(data.test[0]))
    assert anchors.caption == "000"
    assert best.caption == "30 proposals"
    with torch.inference_mode():
        _, maps = model.look([image_tensor(data.test[0])])
        chances = model.rpn(maps)[0][0].sigmoid().unflatten(0, (6, 8, 6)).amax(dim=2)
    assert answer.image.shape == (6, 8, 3)
    assert np.array_equal(answer.image[..., 1], (255 * chances).to(torch.uint8).numpy())
    assert answer.caption == f"highest {float(chances.max()):.2f}"
    assert chances.std() > 0.02


def test_the_frames_padding_is_not_shown(toy_of: Make, tmp_path: Path, rows: list[Row]) -> None:
    # 80 x 100 in a frame of 96 x 128: five rows of seven cells are the image's.
    shown(toy_of([[WIDE]], [[1]], [[]]), tmp_path, 80)
    assert rows[0].panels[1].image.shape == (5, 7, 3)


def test_what_is_outlined(toy_of: Make, tmp_path: Path, rows: list[Row]) -> None:
    data = toy_of([[LEFT, WIDE]], [[1, 2]], [[LEFT, RIGHT, WIDE] * 10])
    shown(data, tmp_path)
    drawings = []
    for panel in rows[0].panels:
        axes = Drawing()
        assert panel.draw is not None
        panel.draw(axes)  # type: ignore[arg-type]
        drawings.append(axes.boxes)
    anchors, objects, best = drawings
    # All six about one centre, in the image's pixels: at 96 / 48 = 2 they are half the size. Each
    # rectangle is drawn twice where it has a dark rim; a colour for each ratio.
    boxes = np.array([box for box, _ in anchors])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert np.ptp(middle, axis=0).max() < 0.1
    assert np.abs(middle[0] - [30, 24]).max() <= 8
    areas = {round(float(a)) for a in (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)}
    assert areas == {64, 576}
    shapes: dict[Any, set[float]] = {}
    for box, colour in anchors:
        ratio = round((box[3] - box[1]) / (box[2] - box[0]), 2)
        shapes.setdefault(colour, set()).add(ratio)
    own = {colour: found for colour, found in shapes.items() if len(found) == 1}
    assert sorted(found.pop() for found in own.values()) == [0.5, 1.0, 2.0]
    # Objects in cells of the map, 8 pixels of the image each.
    cells = {tuple(round(float(v), 3) for v in box) for box, _ in objects}
    assert cells == {(0, 0, 2.5, 2.5), (0.625, 1.5, 7.25, 4.75)}
    # The objects, and no more than the best twenty.
    places = [tuple(round(float(v)) for v in box) for box, _ in best]
    assert set(places) == {tuple(LEFT), tuple(RIGHT), tuple(WIDE)}


def test_images_with_objects_are_shown(toy: Any, tmp_path: Path, rows: list[Row]) -> None:
    shown(toy, tmp_path)
    captions = [row.panels[0].caption for row in rows]
    assert len(set(captions)) == faster_rcnn.pictures.SHOWN
    assert "003" not in captions  # which has no object
    assert captions != ["000", "001", "002", "004"]  # from all over the split


def test_an_image_in_which_nothing_was_proposed(
    toy_of: Make, tmp_path: Path, rows: list[Row]
) -> None:
    shown(toy_of([[WIDE]], [[1]], [[]]), tmp_path)
    assert rows[0].panels[2].caption == "0 proposals"


def test_one_class(toy_of: Make, tmp_path: Path, rows: list[Row]) -> None:
    data = replace(toy_of([[WIDE]], [[1]], [[]]), classes=("only",), category_ids=(1,))
    shown(data, tmp_path)
    assert len(rows) == 1
