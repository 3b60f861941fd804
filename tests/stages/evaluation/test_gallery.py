"""Which detections are shown, what is said of them, and that there is always something to draw."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.evaluation.gallery import (
    COLUMNS,
    best_detections,
    commonest,
    detections_over,
    of_how_many,
    worst_mistakes,
)
from stages.evaluation.mistake_chart import chart
from stages.evaluation.mistakes import find_mistakes
from stages.sheet import Row, sheet

CLASSES = ("cat", "dog")
A, B = [0, 0, 40, 40], [200, 200, 280, 280]


@pytest.fixture
def photographed(record, tmp_path):
    """`record`, with a picture."""

    def make(image_id, *args, **kwargs):
        made = dataclasses.replace(record(image_id, *args, **kwargs), path=tmp_path / "noise.png")
        if not made.path.exists():
            noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
            Image.fromarray(noise).save(made.path)
        return made

    return make


def captions(rows):
    return {row.name: [panel.caption for panel in row.panels] for row in rows}


def test_what_is_said_of_each(photographed, detected):
    records = [photographed("a", [A, B], [1, 2]), photographed("b", [A, B], [1, 2])]
    found = {
        "a": detected(
            [A, [0, 0, 40, 36], [0, 0, 40, 8], B, [300, 0, 340, 40]], [5, 4, 3, 2, 1], [1] * 5
        )
    }
    mistakes = find_mistakes(records, found, 2)
    assert captions(best_detections(records, mistakes, CLASSES, [1, 2])) == {
        "cat": ["5.00, IoU 1.00"],
        "dog": [],
    }
    # One of a class and image, and no image twice: not the third box, nor the dog missed in b.
    assert captions(worst_mistakes(records, mistakes, CLASSES)) == {
        "localisation": ["cat 4.00\nIoU 0.90, a duplicate"],
        "other class": ["cat 2.00\non dog, IoU 1.00"],
        "background": ["cat 1.00\nmeets no object"],
        "missed": ["missed dog\nnothing near", "missed cat\nnothing near"],
    }


def test_similar_classes_have_a_row_where_there_are_any(photographed, detected):
    records = [photographed("a", [A], [1])]
    found = {"a": detected([A], [1.0], [2])}
    rows = worst_mistakes(records, find_mistakes(records, found, 2, [{1, 2}]), CLASSES)
    assert captions(rows)["similar class"] == ["dog 1.00\non cat, IoU 1.00"]


def test_the_worst_are_of_many_images_and_classes(photographed, detected):
    # Ten images; in each, cat is wrong twice and surely, dog once and hardly.
    records = [photographed(f"{i}", []) for i in range(10)]
    found = {f"{i}": detected([A, B, B], [9 - i / 10, 8, i / 100], [1, 1, 2]) for i in range(10)}
    [row] = [
        r
        for r in worst_mistakes(records, find_mistakes(records, found, 2), CLASSES)
        if r.name == "background"
    ]
    said = [panel.caption.split("\n")[0] for panel in row.panels]
    assert len(said) == COLUMNS
    assert sum("cat" in line for line in said) == 3
    assert said[:2] == ["cat 9.00", "dog 0.09"]


def test_commonest():
    objects = np.array([3, 0, 9, 3, 3])
    assert commonest(objects, 3) == [1, 3, 4]
    assert commonest(objects) == [1, 2, 3, 4, 5]
    assert of_how_many(5, 5) == ""
    assert "10" in of_how_many(10, 80)
    assert "80" in of_how_many(10, 80)


@dataclass
class Data:
    train: list
    test: list
    classes: tuple = CLASSES


def test_as_many_detections_as_the_training_split_has_objects(photographed, detected):
    # One cat an image to train on, no dog; so two of the five cats are shown in two images.
    data = Data([photographed("t", [A], [1])], [photographed("a", [A, B]), photographed("b", [])])
    found = {
        "a": detected([A, B, A], [3, 1, 9], [1, 1, 2]),
        "b": detected([A, B, B], [2, 0, -1], [1, 1, 1]),
    }
    panels = detections_over(data.test, data, found)
    assert [panel.caption for panel in panels] == [
        "a: detections 1, objects 2",
        "b: detections 1, objects 0",
    ]
    assert detections_over(data.test, data, {})[0].caption == "a: detections 0, objects 2"


# Always something to draw --------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [1, 80])
@pytest.mark.parametrize("what", ["usual", "no objects", "no detections", "no images"])
def test_always_something_to_draw(photographed, detected, tmp_path, what, n_classes):
    names = [f"$ class {i} of a rather long name" for i in range(n_classes)]
    objects = [] if what == "no objects" else [A, B]
    records = [photographed(f"{i}", objects, [n_classes] * len(objects)) for i in range(3)]
    label = [n_classes, 1, 1]
    found = {"0": detected([A, [0, 0, 40, 30], B], [1, 2, 3], label)}
    if what == "no images":
        records, found = [], {}
    if what == "no detections":
        found = {}
    mistakes = find_mistakes(records, found, n_classes)
    shown = commonest(mistakes.objects)
    best = best_detections(records, mistakes, names, shown)
    worst = worst_mistakes(records, mistakes, names)
    assert len(best) == min(n_classes, 10)
    assert [row.name for row in worst][-1] == "missed"
    save(tmp_path, best, worst)
    chart(tmp_path / "chart.png", "title", mistakes, names, shown)
    assert Image.open(tmp_path / "chart.png").size[1] < 1000


def save(folder: Path, *all_rows: list[Row]) -> None:
    for rows in all_rows:
        sheet(folder / "sheet.png", "title", rows, 1)
        assert (np.asarray(Image.open(folder / "sheet.png").convert("L")) < 128).any()
