"""Fast R-CNN's pictures: all are drawn, whatever the data lacks, and they show what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fast_rcnn.pictures
from fast_rcnn.config import DetectionConfig, ScaleConfig
from fast_rcnn.detector import Description, build, load, save
from fast_rcnn.pictures import draw_pictures
from stages.data.decode import image_of
from stages.evaluation.detections_io import save_detections
from stages.proposals.cache import write_proposals
from stages.proposals.selective_search import SelectiveSearchConfig
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


def model_in(folder: Path, classes: tuple[str, ...], scale: ScaleConfig | None = None) -> Artifact:
    description = Description(
        "fast",
        "tiny",
        classes,
        None,
        SelectiveSearchConfig(),
        scale or ScaleConfig(test=(96,), longest=300),
        DetectionConfig(dtype="float32"),
    )
    torch.manual_seed(0)
    save(folder, description, build(description).state_dict())
    return Artifact(folder, "model")


def draw(folder: Path, data: Any, found: Any) -> dict[str, np.ndarray]:
    """Every picture as pixels."""
    folder.mkdir()
    model = model_in(folder, data.classes)
    save_detections(folder / "detections.json", found, data.category_ids)
    draw_pictures(Job(folder), data, data.proposals, model, Artifact(folder, "given"), 100)
    return {path.name: np.asarray(Image.open(path)) for path in folder.glob("*.png")}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows of the sheet on RoI pooling, which is not drawn."""
    drawn: list[Row] = []
    monkeypatch.setattr(
        fast_rcnn.pictures, "sheet", lambda path, title, given, *_: drawn.extend(given)
    )
    monkeypatch.setattr(fast_rcnn.pictures, "draw_results", lambda *_: None)
    return drawn


def test_it_is_drawn(toy_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_rcnn.pictures, "draw_results", lambda *_: None)
    data = toy_of([[LEFT, RIGHT], [WIDE]], [[1, 2], [2]], [[LEFT, RIGHT], [LEFT]])
    drawn = draw(tmp_path / "drawn", data, {})
    assert drawn.keys() == {"roi_pooling.png"}
    assert drawn["roi_pooling.png"].std() > 10


def test_without_objects_there_is_no_roi_to_show(
    toy_of: Make, tmp_path: Path, rows: list[Row]
) -> None:
    shown(toy_of([[]], [[]], [[LEFT]]), tmp_path)
    assert rows == []


def test_no_image_in_the_split(toy_of: Make, tmp_path: Path) -> None:
    data = toy_of([], [], [])
    write_proposals(data.proposals.path / "proposals.h5", [], [])
    assert draw(tmp_path / "drawn", data, {}).keys() == RESULTS


def shown(data: Any, tmp_path: Path, scale: ScaleConfig | None = None) -> Any:
    model = model_in(tmp_path, data.classes, scale)
    draw_pictures(Job(tmp_path), data, data.proposals, model, Artifact(tmp_path, "x"), None)
    return load(model.path, "cpu")


def test_a_row_is_the_image_a_channel_of_its_map_and_what_is_pooled(
    toy_of: Make, tmp_path: Path, rows: list[Row]
) -> None:
    # 48 x 60 at 96 is 96 x 120: cells of 8 pixels, 6 x 7.5 of them.
    data = toy_of([[LEFT, WIDE]], [[1, 2]], [[]])
    model = shown(data, tmp_path)
    assert len(rows) == 1
    image, channel_map, pooled = rows[0].panels
    assert np.array_equal(image.image, image_of(data.test[0]))
    assert image.caption == "000"
    channel = int(channel_map.caption.removeprefix("channel "))
    with torch.inference_mode():
        maps, _ = model.look(torch.from_numpy(image_of(data.test[0])).permute(2, 0, 1))
        # The larger object, in cells rounded as the operator does: 0.6, 1.5, 7.25, 4.75.
        cells = torch.tensor([[0.0, 1, 2, 7, 5]])
        expected = model.pool(maps, cells)[0, channel]
    values = maps[0][0, channel, :6, :8].clone()
    assert channel_map.image.shape == (6, 8, 3)
    assert np.array_equal(
        channel_map.image[..., 0], (255 * values / values.max()).to(torch.uint8).numpy()
    )
    assert pooled.image.shape == (4, 4, 3)
    assert np.array_equal(
        pooled.image[..., 1], (255 * expected / expected.max()).to(torch.uint8).numpy()
    )
    assert pooled.caption == "4x4 maxima"


def test_objects_of_several_images_are_shown(toy: Any, tmp_path: Path, rows: list[Row]) -> None:
    shown(toy, tmp_path)
    captions = [row.panels[0].caption for row in rows]
    assert len(set(captions)) == fast_rcnn.pictures.SHOWN
    assert "003" not in captions  # which has no object


def test_with_several_scales_too(toy_of: Make, tmp_path: Path, rows: list[Row]) -> None:
    data = toy_of([[WIDE]], [[1]], [[]])
    shown(data, tmp_path, ScaleConfig(test=(64, 96), longest=300))
    assert len(rows[0].panels) == 3


def test_one_class(toy_of: Make, tmp_path: Path, rows: list[Row]) -> None:
    data = replace(toy_of([[WIDE]], [[1]], [[]]), classes=("only",), category_ids=(1,))
    shown(data, tmp_path)
    assert len(rows) == 1
