"""What the figures show, hand-worked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.published import published
from benchmarks.report.comparison import Comparison
from benchmarks.report.figures import mistakes, parts, precision_recall, published_speed, recall
from benchmarks.report.figures.canvas import spelled
from benchmarks.report.look import LOOKS
from stages.evaluation.voc_ap import FALSE, IGNORED, TRUE, ClassMatches
from tests.benchmarks.report.conftest import RECALL


def matches_of(outcome: list[int], positives: list[int]) -> ClassMatches:
    n = len(outcome)
    return ClassMatches(
        np.linspace(1, 0, n), np.zeros(n, np.int64), np.array(outcome, np.int8), np.array(positives)
    )


def test_precision_and_recall_of_one_class() -> None:
    outcome = [TRUE, FALSE, IGNORED, TRUE, FALSE]
    of_recall, precision = precision_recall.curve(matches_of(outcome, [3, 1]))
    assert of_recall.tolist() == [25, 25, 50, 50]
    assert precision.tolist() == pytest.approx([100, 50, 200 / 3, 50])


def test_a_class_without_objects_has_no_curve() -> None:
    of_recall, precision = precision_recall.curve(matches_of([FALSE], [0]))
    assert len(of_recall) == len(precision) == 0
    both = [matches_of([FALSE], [0]), matches_of([], [2])]
    assert precision_recall.classes_shown(both) == [2]


def test_recall_is_at_what_was_found() -> None:
    assert recall.points_of(RECALL) == ((300.0, 60.0, 30.0), (500.0, 70.0, 40.0))


def test_detectors_of_the_same_proposals_share_a_curve(compared: list[Comparison]) -> None:
    (curve,) = recall.curves(compared[0].entries)
    assert curve.label == "R-CNN; Fast R-CNN, short"
    assert recall.curves(compared[1].entries) == []


def test_parts_and_the_rest_are_the_whole() -> None:
    table = pd.DataFrame(
        {
            "seconds": [2.0, 1.0],
            "part: head": [1.0, 1.1],
            "part: something new": [np.nan, 0.0],
            "part: proposals": [0.5, np.nan],
            "part: unused": [np.nan, np.nan],
        }
    )
    seconds = parts.seconds_by_part(table)
    assert list(seconds) == ["proposals", "head", "something new", "the rest"]
    assert seconds.to_numpy().tolist() == [[0.5, 1.0, 0.0, 0.5], [0.0, 1.1, 0.0, 0.0]]
    assert parts.shares(table).iloc[0].tolist() == [25, 50, 0, 25]


def test_mistakes_are_of_as_many_as_there_are_objects(compared: list[Comparison]) -> None:
    rcnn, fast = (mistakes.shares(entry) for entry in compared[0].entries)
    assert sum(rcnn.values()) == pytest.approx(100)
    assert rcnn[0] == 100
    # Fast finds every object of the second class and half of the first's; the other half lies on
    # the second class's object.
    assert fast[0] == pytest.approx(75)
    assert sum(fast.values()) == pytest.approx(100)


def test_the_papers_panels_mix_nothing() -> None:
    table = published()
    panels = published_speed.panels_of(table)
    for _, rows in panels:
        assert len(rows[["test", "metric"]].drop_duplicates()) == 1
        assert len(rows[rows.seconds.notna()].device.unique()) == 1
    # And leave no number out.
    assert set(pd.concat([rows for _, rows in panels]).index) == set(table.index)


def test_numbers_without_a_device_or_a_speed_have_their_panel() -> None:
    panels = dict(published_speed.panels_of(published()))
    dpm = panels["VOC07 test, machine not told, as published"]
    assert set(dpm.paper) == {"DPM"} and sorted(dpm.value) == [16.0, 26.1, 33.7]
    # SSD's later numbers, which have no speed, beside its others.
    for device, papers in (("Titan X", {"SSD"}), ("K40", set())):
        rows = panels[f"VOC07 test, {device}, as published"]
        assert set(rows[rows.seconds.isna()].paper) == papers


def test_no_two_detectors_look_alike() -> None:
    others = {look for name, look in published_speed.OTHERS.items() if look not in LOOKS.values()}
    assert set(published_speed.OTHERS) - {"SSD", "RetinaNet"} == {"DPM", "YOLOv1", "YOLOv2"}
    assert len(others) == 3
    every = [*LOOKS.values(), *others]
    assert len({look.colour for look in every}) == len(every)
    assert len({(look.colour, look.marker) for look in every}) == len(every)


def test_durations_in_words() -> None:
    assert [spelled(s) for s in (0.0351, 2.345, 119, 600, 9000)] == [
        "35.1 ms",
        "2.35 s",
        "119 s",
        "10 min",
        "2.5 h",
    ]
