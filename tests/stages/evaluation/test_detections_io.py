"""Detections on disk: COCO's format, the same after a round trip, and bad files named."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stages.errors import InputError
from stages.evaluation.detections_io import load_detections, save_detections

GOOD = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 2, 2], "score": 0.5}


def test_format_and_order(tmp_path, detected):
    path = tmp_path / "detections.json"
    detections = {
        "b": detected([[1, 2, 4, 6]], [0.25], [2]),
        "a": detected([[0, 0, 1, 1.00004999], [0, 0, 2, 1 / 3]], [-0.5, 0.12345678], [1, 2]),
        "none": detected([], []),
    }
    save_detections(path, detections, [7, 90])
    assert json.loads(path.read_text()) == [
        {"image_id": "a", "category_id": 90, "bbox": [0, 0, 2, 0.3333], "score": 0.123457},
        {"image_id": "a", "category_id": 7, "bbox": [0, 0, 1, 1.0], "score": -0.5},
        {"image_id": "b", "category_id": 90, "bbox": [1, 2, 3, 4], "score": 0.25},
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["detections.json"]


def test_round_trip(tmp_path, scene):
    made = scene(1, ties=True)
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    save_detections(first, made.detections, [5, 6, 7])
    loaded = load_detections(first, [5, 6, 7])
    save_detections(second, loaded, [5, 6, 7])
    assert first.read_text() == second.read_text()
    assert set(loaded) == {name for name, d in made.detections.items() if len(d["scores"])}
    for image_id, found in loaded.items():
        original = made.detections[image_id]
        order = np.argsort(-original["scores"], kind="stable")
        assert np.allclose(found["boxes"], original["boxes"][order], atol=2e-4, rtol=0)
        assert np.array_equal(found["labels"], original["labels"][order])
        assert np.allclose(found["scores"], original["scores"][order], atol=1e-6, rtol=0)


def test_numbered_images_come_in_the_order_of_numbers(tmp_path, detected):
    path = tmp_path / "detections.json"
    one = detected([[0, 0, 1, 1]], [0.5])
    save_detections(path, {10: one, 9: one}, [1])
    assert list(load_detections(path, [1])) == [9, 10]


def test_no_detections_at_all(tmp_path):
    path = tmp_path / "detections.json"
    save_detections(path, {}, [1])
    assert json.loads(path.read_text()) == []
    assert load_detections(path, [1]) == {}


def test_what_else_a_detection_carries_is_left(tmp_path):
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([{**GOOD, "segmentation": {"size": [1, 1], "counts": "1"}}]))
    assert load_detections(path, [3])[1]["boxes"].tolist() == [[0, 0, 2, 2]]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, detected):
    path = tmp_path / "detections.json"
    path.write_text("before")
    for bad in (
        detected([[0, 0, 1, 1]], [math.nan]),
        detected([[0, 0, 1, math.inf]], [0.5]),
        detected([[0, 0, 1, 1]], [0.5], [2]),
        detected([[0, 0, 1, 1]], [0.5], [0]),
        detected([[3, 0, 1, 1]], [0.5]),
    ):
        with pytest.raises(ValueError):
            save_detections(path, {"a": bad}, [1])
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["detections.json"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path, detected, monkeypatch):
    path = tmp_path / "detections.json"
    path.write_text("before")

    def fail(source, target):
        assert json.loads(source.read_text())  # all of it was written, beside
        raise OSError("no")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no"):
        save_detections(path, {"a": detected([[0, 0, 1, 1]], [0.5])}, [1])
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["detections.json"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("[{]", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"annotations": []}', "a list"),
        ("[1]", "detection 0: not an object"),
        (json.dumps([GOOD, {"image_id": 1}]), "detection 1: no category_id"),
        (json.dumps([{**GOOD, "image_id": None}]), "image_id None"),
        (json.dumps([{**GOOD, "category_id": 4}]), "category_id 4"),
        (json.dumps([{**GOOD, "category_id": [3]}]), r"category_id \[3\]"),
        (json.dumps([{**GOOD, "bbox": [0, 0, 2]}]), "four numbers"),
        (json.dumps([{**GOOD, "bbox": [0, 0, -2, 2]}]), "negative"),
        (json.dumps([{**GOOD, "bbox": [0, 0, "2", 2]}]), "bbox is not a finite"),
        (json.dumps([{**GOOD, "score": math.nan}]), "score is not a finite"),
        (json.dumps([{**GOOD, "score": 10**400}]), "score is not a finite"),
    ],
)
def test_a_malformed_file_is_named_in_one_line(tmp_path, text, complaint):
    path = tmp_path / "detections.json"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint) as raised:
        load_detections(path, [3])
    assert raised.value.line.startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json: No such file"):
        load_detections(tmp_path / "nowhere.json", [1])
    (tmp_path / "photo.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match=r"photo\.json: not JSON"):
        load_detections(tmp_path / "photo.json", [1])
