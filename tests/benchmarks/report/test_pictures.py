"""Which images are shown, and which detections in them."""

from __future__ import annotations

from benchmarks.report.comparison import Comparison
from benchmarks.report.pictures import shown, spread


def test_images_are_from_all_over_the_split(compared: list[Comparison]) -> None:
    test = compared[0].data.test
    assert [record.image_id for record in spread(test, 3)] == [1, 3, 6]
    assert [record.image_id for record in spread(test, 99)] == [1, 2, 3, 4, 5, 6]
    assert spread([]) == []


def test_what_reaches_the_usual_score_is_shown_best_last(compared: list[Comparison]) -> None:
    entry, record = compared[0].entries[0], compared[0].data.test[0]
    rows = shown(entry, record)
    scores = entry.detections[record.image_id]["scores"]
    assert scores[rows].tolist() == sorted(score for score in scores if score >= 0.5)
    assert len(rows) == 2 < len(scores)
