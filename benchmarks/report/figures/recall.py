"""How many objects the proposals find, by how many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.report.comparison import Entry
from benchmarks.report.figures.canvas import drawing
from benchmarks.report.look import Look

IOUS = {"recall_50": "IoU 0.5", "recall_70": "IoU 0.7"}


@dataclass(frozen=True)
class Curve:
    """Recall of one kind of proposals, and the detectors that take them.

    Attributes:
        points: proposals an image on average, and recall in percent at `IOUS`; ascending.
    """

    label: str
    look: Look
    points: tuple[tuple[float, float, float], ...]


def points_of(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, float, float], ...]:
    """A curve's points from `measure_recall`'s rows.

    Where fewer proposals were found than asked for, there are as many as were found on average.
    """
    points = set()
    for row in rows:
        found = float(row["found_on_average"])
        count = found if row["proposals"] == "all" else min(float(row["proposals"]), found)
        points.add((count, float(row["recall_50"]), float(row["recall_70"])))
    return tuple(sorted(points))


def curves(entries: Sequence[Entry]) -> list[Curve]:
    """A curve for each kind of proposals: detectors with the same points share one."""
    found: dict[tuple[tuple[float, float, float], ...], list[Entry]] = {}
    for entry in entries:
        points = points_of(entry.run.metrics.get("proposals", {}).get("test", ()))
        if points:
            found.setdefault(points, []).append(entry)
    return [
        Curve("; ".join(entry.label for entry in those), those[0].look, points)
        for points, those in found.items()
    ]


def draw(entries: Sequence[Entry], path: Path) -> bool:
    """A panel for each IoU. Whether there was anything to draw.

    Args:
        path: without suffix; `.png` and `.svg` are written.
    """
    found = curves(entries)
    if not found:
        return False
    with drawing(path, 11, 4.2 + 0.25 * len(found)) as figure:
        both = figure.subplots(1, 2, sharey=True)
        for n, (axes, iou) in enumerate(zip(both, IOUS.values(), strict=True)):
            for curve in found:
                axes.plot(
                    [point[0] for point in curve.points],
                    [point[n + 1] for point in curve.points],
                    curve.look.dashes,
                    marker=curve.look.marker,
                    color=curve.look.colour,
                    ms=8,
                    label=fill(curve.label, 110),
                )
            axes.set_xscale("log")
            least = min(point[0] for curve in found for point in curve.points)
            most = max(point[0] for curve in found for point in curve.points)
            axes.set_xlim(least / 1.4, most * 1.4)
            ticks = _apart([point[0] for curve in found for point in curve.points])
            axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.set_ylim(0, 103)
            axes.set_title(f"test objects found at {iou}")
            axes.set_xlabel("proposals an image, on average (log)")
            axes.grid(alpha=0.25)
        both[0].set_ylabel("recall, %")
        handles, names = both[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center")
    return True


def _apart(counts: Sequence[float]) -> list[float]:
    """Ascending, those left out whose names would run into the one before."""
    ticks: list[float] = []
    for count in sorted(counts):
        if not ticks or count > 1.25 * ticks[-1]:
            ticks.append(count)
    return ticks
