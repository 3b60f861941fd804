"""Recall against IoU: whose proposals cover the objects, and how well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from faster_rcnn.recall_plot import COUNTS, IOUS, draw_recalls, recalls

BOX = [0.0, 0.0, 20.0, 20.0]
HALF = [0.0, 0.0, 20.0, 10.0]  # IoU 0.5 with BOX
NEAR = [0.0, 0.0, 20.0, 17.0]  # 0.85
AWAY = [40.0, 30.0, 50.0, 40.0]


def recall_at(table: Any, count: int, iou: float) -> float:
    row = table[(table["proposals"] == count) & ((table["iou"] - iou).abs() < 1e-9)]
    return float(row["recall"].iloc[0])


def test_recall_is_of_the_best_among_so_many(toy_of: Callable[..., Any]) -> None:
    # The near one of the first image is its 60th.
    data = toy_of([[BOX], [BOX]], [[1], [2]], [[HALF] + [AWAY] * 58 + [NEAR], [AWAY]])
    table = recalls(data.test, {"by hand": data.reader})
    assert len(table) == len(COUNTS) * len(IOUS)
    assert recall_at(table, 50, 0.5) == 50
    assert recall_at(table, 50, 0.55) == 0
    assert recall_at(table, 100, 0.85) == 50
    assert recall_at(table, 100, 0.9) == 0


def test_methods_are_kept_apart(toy_of: Callable[..., Any]) -> None:
    data = toy_of([[BOX]], [[1]], [[NEAR]])
    table = recalls(data.test, {"one": data.reader, "other": data.reader})
    assert table["method"].tolist() == ["one"] * 55 + ["other"] * 55
    one, other = (table[table["method"] == name] for name in ("one", "other"))
    assert one["recall"].tolist() == other["recall"].tolist()


def test_without_objects_there_is_no_recall(toy_of: Callable[..., Any]) -> None:
    data = toy_of([[]], [[]], [[AWAY]])
    assert recalls(data.test, {"one": data.reader})["recall"].isna().all()


def test_a_panel_for_each_number(toy: Any, tmp_path: Path) -> None:
    table = recalls(toy.test, {"one": toy.reader, "other": toy.reader})
    draw_recalls(table, tmp_path / "recall.png", "Recall")
    with Image.open(tmp_path / "recall.png") as picture:
        assert picture.width > 4 * picture.height > 0


@pytest.mark.parametrize("iou", IOUS)
def test_recall_never_rises_with_iou_nor_falls_with_proposals(toy: Any, iou: float) -> None:
    table = recalls(toy.test, {"one": toy.reader})
    by_count = [recall_at(table, count, iou) for count in COUNTS]
    assert by_count == sorted(by_count)
    if iou < 1:
        assert recall_at(table, 50, iou) >= recall_at(table, 50, iou + 0.05)
