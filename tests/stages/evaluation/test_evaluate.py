"""The table of a detector's accuracy: its numbers in percent, its gaps null, all of it JSON."""

from __future__ import annotations

import json

import pytest

from stages.evaluation.bootstrap import interval, resampled_map
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


def test_nothing_to_measure_is_null(record):
    table = evaluate([record("one", [])], {}, ["cat"], draws=10)
    assert table["voc07_map"] is None
    assert table["area_interval"] == [None, None]
    assert set(table["coco"].values()) == {None}
    json.dumps(table, allow_nan=False)
