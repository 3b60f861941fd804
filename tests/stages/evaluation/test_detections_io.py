"""Detections on disk: COCO's format, the same after a round trip, and bad files named."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stages.errors import InputError
from stages.evaluation.detections_io import load_detections, save_detections, sizes_of

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


def test_boxes_as_the_file_says_come_too(tmp_path):
    path = tmp_path / "detections.json"
    box = [53.7, 85.7, 40.1, 20]
    path.write_text(json.dumps([{**GOOD, "bbox": box}, {**GOOD, "bbox": [1, 2, 3, 4]}]))
    found = load_detections(path, [3])[1]
    assert found["xywh"].dtype == np.float64
    assert found["xywh"].tolist() == [box, [1, 2, 3, 4]]
    assert found["boxes"].tolist() == [[53.7, 85.7, 53.7 + 40.1, 85.7 + 20], [1, 2, 4, 6]]


def test_masks_as_cocos_results_have_them(tmp_path, detected):
    # Two by three, all of it; and none of it: "6 zeros" and "0 zeros, 6 ones", 48 + each.
    path = tmp_path / "detections.json"
    found = detected([[0, 0, 1, 1], [0, 0, 3, 2]], [0.25, 0.5])
    masks = np.array([b"6", b"06"])
    save_detections(path, {"a": {**found, "segmentation": masks}}, [1], {"a": (2, 3)})
    rows = json.loads(path.read_text())
    assert [row["segmentation"] for row in rows] == [
        {"size": [2, 3], "counts": "06"},
        {"size": [2, 3], "counts": "6"},
    ]
    assert list(rows[0]) == ["image_id", "category_id", "bbox", "score", "segmentation"]
    for sizes in (None, {"a": (2, 3)}, {"b": (1, 1)}):
        loaded = load_detections(path, [1], sizes)["a"]["segmentation"]
        assert loaded.dtype == "S2"
        assert loaded.tolist() == [b"06", b"6"]


def test_round_trip_of_masks(tmp_path, scene, rectangles):
    made = rectangles(scene(1))
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    sizes = sizes_of(made.records)
    save_detections(first, made.detections, [5, 6, 7], sizes)
    loaded = load_detections(first, [5, 6, 7], sizes)
    save_detections(second, loaded, [5, 6, 7], sizes)
    assert first.read_text() == second.read_text()
    for image_id, found in loaded.items():
        original = made.detections[image_id]
        order = np.argsort(-original["scores"], kind="stable")
        assert np.array_equal(found["segmentation"], original["segmentation"][order])


def test_masks_are_given_of_images_where_every_detection_has_one(tmp_path):
    path = tmp_path / "detections.json"
    mask = {"size": [1, 1], "counts": "1"}
    polygons = [[0, 0, 1, 0, 1, 1]]
    rows = [
        {**GOOD, "segmentation": mask},
        {**GOOD, "image_id": 2, "segmentation": mask},
        {**GOOD, "image_id": 2, "segmentation": polygons},
        {**GOOD, "image_id": 3, "segmentation": mask},
        {**GOOD, "image_id": 3},
        {**GOOD, "image_id": 4, "segmentation": None},
    ]
    path.write_text(json.dumps(rows))
    loaded = load_detections(path, [3])
    assert {image_id for image_id, found in loaded.items() if "segmentation" in found} == {1}
    assert [len(found["scores"]) for found in loaded.values()] == [1, 2, 2, 1]


def test_no_detections_need_no_size(tmp_path, detected):
    path = tmp_path / "detections.json"
    nothing = {**detected([], []), "segmentation": np.array([], np.bytes_)}
    save_detections(path, {"a": nothing}, [1])
    assert json.loads(path.read_text()) == []


@pytest.mark.parametrize(
    ("masks", "sizes", "complaint"),
    [
        ([b"6"], None, "no size"),
        ([b"6"], {"b": (2, 3)}, "no size"),
        ([b"6"], {"a": (2, 4)}, "6 pixels, but its image has 8"),
        ([b"6", b"6"], {"a": (2, 3)}, "differ in number"),
        ([], {"a": (2, 3)}, "differ in number"),
        ([b"!"], {"a": (2, 3)}, "damaged"),
        ([b"\xff"], {"a": (2, 3)}, "image 'a'"),
    ],
)
def test_masks_that_cannot_be_written(tmp_path, detected, masks, sizes, complaint):
    path = tmp_path / "detections.json"
    found = {**detected([[0, 0, 1, 1]], [0.5]), "segmentation": np.array(masks, np.bytes_)}
    with pytest.raises(ValueError, match=complaint):
        save_detections(path, {"a": found}, [1], sizes)
    assert not path.exists()


@pytest.mark.parametrize(
    ("mask", "complaint"),
    [
        ("06", "not {size, counts"),
        ({}, "not {size, counts"),
        ({"size": [2, 3], "counts": [0, 6]}, "not {size, counts"),
        ({"counts": "06"}, "size None"),
        ({"size": [2], "counts": "06"}, r"size \[2\]"),
        ({"size": [2, 3.0], "counts": "06"}, r"size \[2, 3.0\]"),
        ({"size": [True, 6], "counts": "06"}, r"size \[True, 6\]"),
        ({"size": [-2, -3], "counts": "06"}, r"size \[-2, -3\]"),
        ({"size": [0, 3], "counts": ""}, r"size \[0, 3\]"),
        ({"size": [2, 4], "counts": "06"}, "6 pixels, but its image has 8"),
        ({"size": [2, 3], "counts": ""}, "damaged"),
        ({"size": [2, 3], "counts": "0V"}, "damaged"),
        ({"size": [2, 3], "counts": "0\ud800"}, "damaged"),
        ({"size": [2, 3], "counts": "6O1"}, "run lengths of"),  # 6, -1, 1
    ],
)
def test_a_bad_mask_is_named_in_one_line(tmp_path, mask, complaint):
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([GOOD, {**GOOD, "segmentation": mask}]))
    with pytest.raises(InputError, match=complaint) as raised:
        load_detections(path, [3])
    assert raised.value.line.startswith(f"{path}: detection 1: segmentation: ")


def test_a_mask_of_another_size_than_the_image(tmp_path):
    # As many pixels, but lying: its own size does not tell.
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([{**GOOD, "segmentation": {"size": [3, 2], "counts": "06"}}]))
    assert "segmentation" in load_detections(path, [3])[1]
    with pytest.raises(InputError, match=r"detection 0: .*size \[3, 2\].*\[2, 3\]"):
        load_detections(path, [3], {1: (2, 3)})


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
        (json.dumps([{**GOOD, "bbox": [1e308, 0, 1e308, 2]}]), "bbox is not a finite"),
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
