"""The table of a detector's accuracy: its numbers in percent, its gaps null, all of it JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from stages.evaluation.bootstrap import interval, resampled_map
from stages.evaluation.coco_ap import coco_evaluation
from stages.evaluation.coco_bootstrap import resampled_coco_ap
from stages.evaluation.evaluate import evaluate
from stages.evaluation.voc_ap import match


def test_a_small_table_by_hand(record, detected):
    # cat: 2 objects, found true, false, true -> 11-point (6 + 5 * 2/3) / 11, area 5/6.
    # dog: 1 object, not found. fox: only a difficult object. cow: none at all.
    a, b = [0.0, 0.0, 40.0, 40.0], [100.0, 100.0, 140.0, 140.0]
    records = [
        record("one", [a, b], [1, 2]),
        record("two", [a, b], [1, 3], difficult=[False, True]),
        record("three", []),
    ]
    detections = {
        "one": detected([a], [0.9], [1]),
        "two": detected([a, b], [0.7, 0.9], [1, 3]),
        "three": detected([b], [0.8], [1]),
    }
    table = evaluate(records, detections, ["cat", "dog", "fox", "cow"], draws=100)
    cat_07, cat_area = 100 * (6 + 5 * 2 / 3) / 11, 100 * 5 / 6
    assert table["per_class"]["cat"] == pytest.approx(
        {"ap_11_point": cat_07, "ap_area": cat_area, "recall": 100.0, "objects": 2}
    )
    assert table["per_class"]["dog"] == {
        "ap_11_point": 0.0,
        "ap_area": 0.0,
        "recall": 0.0,
        "objects": 1,
    }
    nothing = {"ap_11_point": None, "ap_area": None, "recall": None, "objects": 0}
    assert table["per_class"]["fox"] == table["per_class"]["cow"] == nothing
    assert table["voc07_map"] == pytest.approx(cat_07 / 2)
    assert table["area_map"] == pytest.approx(cat_area / 2)
    for metric in ("voc07", "area"):
        low, high = table[f"{metric}_interval"]
        assert 0 <= low <= table[f"{metric}_map"] <= high <= 100
    # 101 recalls: 51 see a precision of 1, 50 see 2/3; the mean with dog's 0.
    assert table["coco"]["AP50"] == pytest.approx(100 * (51 + 50 * 2 / 3) / 101 / 2, abs=1e-6)
    assert table["coco"]["APs"] is None
    assert table["images"] == 3
    assert table["iou"] == 0.5
    assert table["difficult"] == "neither found nor missed"
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_intervals_are_those_of_their_metric(scene):
    made = scene(1)
    table = evaluate(made.records, made.detections, ["a", "b", "c"], draws=50)
    samples = resampled_map(match(made.records, made.detections, 3), draws=50)
    for metric in ("voc07", "area"):
        expected = [100 * end for end in interval(samples[metric])]
        assert table[f"{metric}_interval"] == pytest.approx(expected)
    assert table["voc07_interval"] != table["area_interval"]
    samples = resampled_coco_ap(coco_evaluation(made.records, made.detections, 3), draws=50)
    assert table["coco_interval"] == pytest.approx([100 * end for end in interval(samples)])
    low, high = table["coco_interval"]
    assert low <= table["coco"]["AP"] <= high
    assert "masks" not in table


def test_nothing_to_measure_is_null(record):
    table = evaluate([record("one", [])], {}, ["cat"], draws=10)
    assert table["voc07_map"] is None
    assert table["area_interval"] == [None, None]
    assert set(table["coco"].values()) == {None}
    assert table["coco_interval"] == [None, None]
    assert "masks" not in table
    json.dumps(table, allow_nan=False)


CLASSES = ["a", "b", "c"]


def test_masks_of_whole_boxes_score_as_the_boxes(scene, rectangles):
    made = rectangles(scene(1, difficult=0.2))
    table = evaluate(made.records, made.detections, CLASSES, draws=30)
    both = ["per_class", "coco", "coco_interval"]
    both += [f"{metric}_{what}" for metric in ("voc07", "area") for what in ("map", "interval")]
    both.append("voc07_map_devkit")
    assert sorted(table["masks"]) == sorted([*both, "objects_without_mask"])
    assert table["masks"]["objects_without_mask"] == 0
    for name in both:
        assert table["masks"][name] == table[name]
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_masks_are_scored_by_themselves(record, detected, masked, filled):
    # The box is right, the mask is the wrong half of it.
    box = [0, 0, 20, 10]
    records = [masked(record("one", [box]), [filled([0, 0, 10, 10])]), record("two", [])]
    found = {**detected([box], [0.9]), "segmentation": np.array([filled([10, 0, 20, 10])])}
    nothing = detected([], [])  # of which no mask is asked
    table = evaluate(records, {"one": found, "two": nothing}, ["cat"], draws=10)
    assert [table["voc07_map"], table["coco"]["AP"]] == pytest.approx([100.0, 100.0])
    assert table["masks"]["voc07_map"] == table["masks"]["coco"]["AP"] == 0.0
    assert table["masks"]["per_class"]["cat"]["objects"] == 1
    assert table["masks"]["coco_interval"] == [0.0, 0.0]


def test_one_object_without_a_mask_is_ignored_and_the_others_are_evaluated(
    record, detected, masked, filled, capsys
):
    """As masks; as a box it counts like any other."""
    a, b = [0, 0, 20, 20], [100, 100, 140, 140]
    records = [masked(record("one", [a, b]), [filled(a), None]), masked(record("two", []), [])]
    beside = [200, 200, 220, 220]
    boxes = [a, b, b, beside]  # the bare object is found twice
    found = detected(boxes, [0.7, 0.9, 0.8, 0.6])
    found["segmentation"] = np.array([filled(box) for box in boxes])
    table = evaluate(records, {"one": found}, ["cat"], draws=10)
    assert table["per_class"]["cat"]["objects"] == 2
    assert table["mistakes"]["all"]["localisation"] == 1  # of the boxes: the duplicate
    masks = table["masks"]
    assert masks["objects_without_mask"] == 1
    assert masks["per_class"]["cat"]["objects"] == 1
    # Neither detection of the bare object is false, though both score more than the one that is right.
    assert masks["voc07_map"] == masks["area_map"] == pytest.approx(100.0)
    assert masks["coco"]["AP"] == pytest.approx(100.0)
    assert table["coco"]["AP"] < 100
    assert masks["coco_interval"] == pytest.approx([100.0, 100.0])
    assert capsys.readouterr().err == (
        f"objects without a mask, neither found nor missed as masks: 1: object 2 of {records[0].path}\n"
    )


def test_what_misses_an_object_without_a_mask_by_its_box_is_false(record, detected, masked, filled):
    a, b = [0, 0, 20, 20], [100, 100, 140, 140]
    records = [masked(record("one", [a, b]), [filled(a), None])]
    near = [100, 100, 140, 119]  # less than half of it
    for box, expected in ((near, 50.0), (b, 100.0)):
        found = detected([a, box], [0.7, 0.9])
        found["segmentation"] = np.array([filled(a), filled(box)])
        masks = evaluate(records, {"one": found}, ["cat"], draws=2)["masks"]
        assert masks["area_map"] == pytest.approx(expected)
        assert masks["coco"]["AP50"] == pytest.approx(expected)


def test_objects_that_are_ignored_anyway_are_not_counted_as_without_a_mask(
    record, detected, masked, filled, capsys
):
    box = [0, 0, 20, 20]
    bare = record("two", [box] * 3, difficult=[True, False, False], iscrowd=[False, True, False])
    records = [masked(record("one", [box]), [filled(box)]), bare]
    found = {**detected([box], [0.9]), "segmentation": np.array([filled(box)])}
    masks = evaluate(records, {"one": found}, ["cat"], draws=2)["masks"]
    assert masks["objects_without_mask"] == 1
    assert f"1: object 3 of {bare.path}\n" in capsys.readouterr().err


def test_the_devkits_eleven_points_are_told_apart(record, detected):
    # Of ten objects in a row three are found, then nothing: a recall of 0.3, which the devkit's fourth
    # point, 0.30000000000000004, is above.
    boxes = [[20.0 * i, 0.0, 20.0 * i + 10, 10.0] for i in range(10)]
    found = {"one": detected(boxes[:3], [0.9, 0.8, 0.7])}
    table = evaluate([record("one", boxes)], found, ["cat"], draws=2)
    assert table["voc07_map"] == pytest.approx(100 * 4 / 11)
    assert table["voc07_map_devkit"] == pytest.approx(100 * 3 / 11)


def test_masks_are_left_where_some_are_unknown(scene, rectangles):
    made = rectangles(scene(2, n_images=6))
    first = next(r.image_id for r in made.records if len(made.detections[r.image_id]["scores"]))
    without = {key: v for key, v in made.detections[first].items() if key != "segmentation"}
    some = {**made.detections, first: without}
    assert "masks" not in evaluate(made.records, some, CLASSES, draws=2)
    records = [replace(r, segmentations=None) for r in made.records]
    assert "masks" not in evaluate(records, made.detections, CLASSES, draws=2)
    records = [replace(r, segmentations=(None,) * len(r.labels)) for r in made.records]
    assert "masks" not in evaluate(records, made.detections, CLASSES, draws=2)
    assert "masks" not in evaluate(made.records, {}, CLASSES, draws=2)
