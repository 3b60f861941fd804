"""Recall of proposals, against a case worked by hand."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from stages.data.records import Record
from stages.proposals.cache import Proposals, write_proposals
from stages.proposals.recall import (
    COUNTS,
    average_recall,
    best_overlaps,
    measure_recall,
    recall_table,
)

Boxes = list[list[float]]


def record(image_id: str, boxes: Boxes, difficult: list[bool] | None = None) -> Record:
    n = len(boxes)
    flags = np.array(difficult if difficult is not None else [False] * n, bool)
    crowd, labels = np.zeros(n, bool), np.ones(n, np.int64)
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return Record(image_id, Path(image_id), 200, 200, corners, labels, flags, crowd)


def proposals_of(tmp_path: Path, records: list[Record], boxes: list[Boxes]) -> Proposals:
    arrays = [np.array(b, np.float32).reshape(-1, 4) for b in boxes]
    write_proposals(tmp_path / "proposals.h5", records, arrays)
    return Proposals(tmp_path / "proposals.h5")


# An object of 10x10; boxes that share 10x6, 10x4 of 10x10 boxes beside it, and all of it.
OBJECT = [0.0, 0.0, 10.0, 10.0]
IOU_60_OF_140 = [0.0, 4.0, 10.0, 14.0]  # 60 / (100 + 100 - 60)
IOU_60_OF_100 = [0.0, 0.0, 10.0, 6.0]
IOU_40_OF_160 = [6.0, 0.0, 16.0, 10.0]
FAR = [100.0, 100.0, 110.0, 110.0]


def test_a_case_by_hand(tmp_path: Path) -> None:
    records = [record("a", [OBJECT, FAR]), record("b", [OBJECT]), record("c", [OBJECT])]
    found = [[IOU_40_OF_160, IOU_60_OF_140, IOU_60_OF_100], [OBJECT, FAR], []]
    proposals = proposals_of(tmp_path, records, found)
    best = [0.6, 0.0, 1.0, 0.0]
    assert best_overlaps(records, proposals, None) == pytest.approx(best)
    assert best_overlaps(records, proposals, 2) == pytest.approx([60 / 140, 0.0, 1.0, 0.0])
    assert best_overlaps(records, proposals, 1) == pytest.approx([40 / 160, 0.0, 1.0, 0.0])
    rows = measure_recall(records, proposals)
    assert [row["proposals"] for row in rows] == [300, 1000, 2000, "all"]
    for row in rows:
        assert row["recall_50"] == 50.0
        assert row["recall_70"] == 25.0
        assert row["mean_best_overlap"] == 40.0
        assert row["found_on_average"] == pytest.approx(5 / 3, abs=0.05)


def test_average_recall_by_hand() -> None:
    # Found up to IoU 1, 0.75, 0.5 and never: recall is 3/4 at 0.5, then 2/4 to 0.75, then 1/4.
    best = np.array([1.0, 0.75, 0.5, 0.2])
    assert average_recall(best) == pytest.approx(100 * (0.5 * 2 / 4 + 0.5 * 1 / 4))
    fine = np.arange(0.5, 1, 1e-4)
    by_sum = np.mean([(best >= iou).mean() for iou in fine])
    assert average_recall(best) == pytest.approx(100 * by_sum, abs=0.02)
    assert average_recall(np.ones(3)) == 100
    assert np.isnan(average_recall(np.zeros(0)))


def test_an_overlap_of_exactly_a_half_counts(tmp_path: Path) -> None:
    records = [record("a", [OBJECT])]
    (row, *_) = measure_recall(records, proposals_of(tmp_path, records, [[[0, 0, 10, 5]]]))
    assert (row["recall_50"], row["recall_70"]) == (100.0, 0.0)


def test_only_the_best_ranked_count(tmp_path: Path) -> None:
    records = [record("a", [OBJECT])]
    boxes = [FAR] * 299 + [IOU_60_OF_100] + [FAR] * 700 + [OBJECT]  # 300th and 1,001st
    rows = measure_recall(records, proposals_of(tmp_path, records, [boxes]))
    assert [row["mean_best_overlap"] for row in rows] == [60.0, 60.0, 100.0, 100.0]
    assert {row["found_on_average"] for row in rows} == {1001.0}


def test_difficult_objects_are_left_out(tmp_path: Path) -> None:
    records = [record("a", [FAR, OBJECT], [True, False]), record("b", [OBJECT], [True])]
    proposals = proposals_of(tmp_path, records, [[OBJECT], [FAR]])
    assert best_overlaps(records, proposals, None).tolist() == [1.0]
    assert measure_recall(records, proposals)[0]["recall_70"] == 100.0


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record("a", [])],
        [record("a", [OBJECT], [True])],
        [record("a", []), record("b", [OBJECT, FAR], [True, True])],
    ],
)
@pytest.mark.parametrize("found", [[], [OBJECT]])
def test_no_objects_to_find(tmp_path: Path, records: list[Record], found: Boxes) -> None:
    proposals = proposals_of(tmp_path, records, [found] * len(records))
    assert best_overlaps(records, proposals, None).shape == (0,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measure_recall(records, proposals) == []
    assert recall_table("test", []).startswith("test: ")


def test_no_proposals_find_nothing(tmp_path: Path) -> None:
    records = [record("a", [OBJECT, FAR])]
    rows = measure_recall(records, proposals_of(tmp_path, records, [[]]))
    assert [row["mean_best_overlap"] for row in rows] == [0.0] * len(COUNTS)
    assert rows[0]["recall_50"] == rows[0]["found_on_average"] == 0.0


def test_the_table_has_a_line_for_each_row(tmp_path: Path) -> None:
    records = [record("a", [OBJECT])]
    rows = measure_recall(records, proposals_of(tmp_path, records, [[IOU_60_OF_100]]))
    lines = recall_table("train", rows).splitlines()
    assert len(lines) == 1 + len(rows)
    assert [line.split() for line in lines[1:]] == [
        [count, "100.0", "0.0", "60.0"] for count in ("300", "1000", "2000", "all")
    ]
