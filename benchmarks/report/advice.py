"""What helps to choose among one data set's detectors, computed from their table and detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.report.comparison import Comparison
from benchmarks.report.figures.canvas import spelled
from stages.evaluation.bootstrap import Difference, paired_difference


@dataclass(frozen=True)
class Advice:
    """Labels of detectors, and how they differ in mAP (VOC07) on the same images.

    Attributes:
        best: of the highest mAP; fastest: of the fewest seconds an image, proposals included.
        differences: each other's mAP less the best's, paired: -1..1.
        enough: the fastest of the best and those that are not separated from it.
        front: than which none is both faster and more accurate, from the fastest.
    """

    best: str
    fastest: str
    differences: dict[str, Difference]
    enough: str
    front: tuple[str, ...]


def advise(comparison: Comparison) -> Advice | None:
    """None where nothing was measured: no detector has an mAP."""
    rows = comparison.table[comparison.table["map"].notna()].to_dict("records")
    if not rows:
        return None
    by_speed = sorted(rows, key=lambda row: (row["seconds"], -row["map"]))
    best = max(rows, key=lambda row: (row["map"], -row["seconds"]))["label"]
    matches = {entry.label: entry.matches for entry in comparison.entries}
    differences = {
        row["label"]: paired_difference(matches[row["label"]], matches[best])["voc07"]
        for row in rows
        if row["label"] != best
    }
    front, highest = [], -1.0
    for row in by_speed:
        if row["map"] > highest:
            highest = row["map"]
            front.append(row["label"])
    enough = next(
        row["label"]
        for row in by_speed
        if row["label"] == best or not differences[row["label"]].excludes_zero
    )
    return Advice(best, by_speed[0]["label"], differences, enough, tuple(front))


def sentences(comparison: Comparison, advice: Advice) -> list[str]:
    """The advice in words, plain text."""
    rows: dict[str, dict[Any, Any]] = {
        row["label"]: row for row in comparison.table.to_dict("records")
    }
    images = len(comparison.data.test)
    best, fastest, enough = (rows[name] for name in (advice.best, advice.fastest, advice.enough))
    if len(rows) == 1:
        return [f"There is one detector, {_point(best)}: nothing to choose from yet."]
    said = []
    if advice.best == advice.fastest:
        said.append(f"Most accurate and fastest: {_point(best)}.")
    else:
        said.append(f"Most accurate: {_point(best)}.")
        said.append(f"Fastest: {_point(fastest)}.")
    worse = [name for name, d in advice.differences.items() if d.excludes_zero]
    alike = [name for name in advice.differences if name not in worse]
    if alike:
        said.append(
            f"On these {images} test images the most accurate cannot be told from "
            f"{_list(alike)}: the 95 % interval of the paired difference holds zero."
        )
    if worse:
        said.append(f"It is more accurate, significantly, than {_list(worse)}.")
    if advice.enough != advice.best:
        said.append(
            f"A sound choice: {advice.enough}, not separated from the most accurate in mAP and "
            f"{best['seconds'] / enough['seconds']:.2g} times as fast."
        )
    if len(advice.front) > 2:
        said.append(f"Worth a look, from the fastest to the most accurate: {_list(advice.front)}.")
    said += quickest_trained(comparison)
    return said


def quickest_trained(comparison: Comparison) -> list[str]:
    """A sentence for each device that trained several; trainings of two devices are not compared.

    A training that needs proposals needs them in its images, so their share of the search counts.
    """
    data, table = comparison.data, comparison.table
    share = len(data.train) / (len(data.train) + len(data.test))
    table = table.assign(needed=table.train_seconds + share * table.search_seconds)
    said = []
    for device, rows in table[table.train_seconds > 0].groupby("train_device", sort=True):
        known = rows[rows.needed.notna()]
        if len(known) < 2:
            continue
        quickest = known.loc[known.needed.idxmin()]
        among = "" if len(known) == len(rows) else ", of those whose proposals' time is known"
        said.append(
            f"Trained in the least time on {device}, the training images' proposals "
            f"included{among}: {quickest.label}, {spelled(quickest.needed)}."
        )
    return said


def _point(row: dict[Any, Any]) -> str:
    return (
        f"{row['label']}, mAP {row['map']:.1f} [{row['map_low']:.1f}, {row['map_high']:.1f}], "
        f"{spelled(row['seconds'])} an image"
    )


def _list(names: list[str] | tuple[str, ...]) -> str:
    """Names with commas in them, so semicolons between."""
    return "; ".join(names)
