"""What is advised, of detectors whose worth is known."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from benchmarks.report.advice import advise, sentences
from benchmarks.report.comparison import Comparison


def with_seconds(comparison: Comparison, *seconds: float) -> Comparison:
    table = comparison.table.assign(seconds=pd.Series(seconds))
    return replace(comparison, table=table)


def test_the_best_the_fastest_and_their_difference(compared: list[Comparison]) -> None:
    advice = advise(compared[0])
    assert advice is not None
    assert (advice.best, advice.fastest, advice.enough) == ("R-CNN", "Fast R-CNN, short", "R-CNN")
    (difference,) = advice.differences.values()
    maps = compared[0].table["map"]
    assert 100 * difference.difference == pytest.approx(maps[1] - maps[0])
    assert difference.high < 0 and difference.excludes_zero
    assert advice.front == ("Fast R-CNN, short", "R-CNN")


def test_a_faster_one_that_is_not_separated_is_enough(compared: list[Comparison]) -> None:
    comparison = with_seconds(compared[1], 0.1, 0.5)  # Faster R-CNN first, which misses one object
    advice = advise(comparison)
    assert advice is not None
    assert advice.best == "torchvision's Mask R-CNN"
    assert advice.enough == advice.fastest == "Faster R-CNN"
    said = " ".join(sentences(comparison, advice))
    assert "A sound choice: Faster R-CNN, not separated" in said and "5 times as fast" in said


def test_a_slower_and_worse_one_is_not_on_the_front(compared: list[Comparison]) -> None:
    comparison = with_seconds(compared[0], 1.0, 2.0)
    advice = advise(comparison)
    assert advice is not None
    assert advice.front == ("R-CNN",)
    assert sentences(comparison, advice)[0].startswith("Most accurate and fastest: R-CNN, mAP")


def test_one_detector_is_no_choice(compared: list[Comparison]) -> None:
    whole = compared[0]
    alone = replace(whole, entries=whole.entries[:1], table=whole.table.iloc[:1])
    advice = advise(alone)
    assert advice is not None and advice.differences == {}
    (said,) = sentences(alone, advice)
    assert "nothing to choose" in said


def test_without_any_map_there_is_no_advice(compared: list[Comparison]) -> None:
    nothing = replace(compared[0], table=compared[0].table.assign(map=float("nan")))
    assert advise(nothing) is None
