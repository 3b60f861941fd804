"""What is advised, of detectors whose worth is known."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from benchmarks.report.advice import advise, quickest_trained, sentences
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


@pytest.mark.parametrize(
    ("train", "search", "devices", "said"),
    [
        # Half of the images are for training: 10 + 50 / 2 against 30.
        ((30.0, 10.0), (0.0, 50.0), ("here", "here"), ["included: R-CNN, 30 s."]),
        ((30.0, 10.0), (0.0, 30.0), ("here", "here"), ["included: Fast R-CNN, short, 25 s."]),
        ((30.0, 10.0), (0.0, 0.0), ("here", "there"), []),
        ((30.0, 10.0), (0.0, float("nan")), ("here", "here"), []),  # proposals from a file
        ((0.0, 10.0), (0.0, 0.0), ("here", "here"), []),  # taken as it is
    ],
)
def test_the_least_training_counts_proposals_and_is_of_one_device(
    compared: list[Comparison],
    train: tuple[float, float],
    search: tuple[float, float],
    devices: tuple[str, str],
    said: list[str],
) -> None:
    whole = compared[0]
    costs = {"train_seconds": train, "search_seconds": search, "train_device": devices}
    comparison = replace(whole, table=whole.table.assign(**{k: [*v] for k, v in costs.items()}))
    advice = advise(comparison)
    assert advice is not None
    found = [one for one in sentences(comparison, advice) if one.startswith("Trained")]
    assert len(found) == len(said)
    for one, end in zip(found, said, strict=True):
        assert one.startswith("Trained in the least time on here, ") and one.endswith(end)


def test_a_training_of_unknown_cost_is_not_compared(compared: list[Comparison]) -> None:
    whole = compared[0]
    three = pd.concat([whole.table, whole.table.iloc[:1]], ignore_index=True).assign(
        label=["a", "b", "c"], train_seconds=[3.0, 2.0, 1.0], search_seconds=[0, 0, float("nan")]
    )
    (said,) = quickest_trained(replace(whole, table=three))
    assert said.endswith("included, of those whose proposals' time is known: b, 2 s.")


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
