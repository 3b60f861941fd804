"""The papers' own points: accuracy against speed as published, panels of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from benchmarks.report.figures.canvas import drawing, legend_below, seconds_axis
from benchmarks.report.look import LOOKS, TITLES, Look
from benchmarks.rivals.detector import RETINANET, SSD

# Of papers that no run is of; in none of `LOOKS`' colours.
OTHERS = {
    "DPM": Look("#777777", "d"),
    "YOLOv1": Look("#AA4499", "<"),
    "YOLOv2": Look("#CC6677", ">"),
    "SSD": LOOKS[SSD],
    "RetinaNet": LOOKS[RETINANET],
}
COLUMNS = 2


def panels_of(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows that may share an axis, and the panel's title: of one test set, metric and device.

    A number without a speed is in the panels where its paper has others of that test set and metric.
    """
    timed = table[table.seconds.notna()].sort_values("device", key=lambda d: d == "", kind="stable")
    untimed = table[table.seconds.isna()]
    panels = []
    for (test, metric, device), rows in timed.groupby(["test", "metric", "device"], sort=False):
        beside = untimed[
            (untimed.test == test)
            & (untimed.metric == metric)
            & untimed.paper.isin(rows.paper.unique())
        ]
        title = f"{test}, {device or 'machine not told'}, as published"
        panels.append((title, pd.concat([rows, beside])))
    return panels


def draw(table: pd.DataFrame, path: Path) -> None:
    """Filled: photograph to boxes; hollow: proposals are not counted; a line: no speed was published.

    Args:
        table: `published`'s.
        path: without suffix; `.png` and `.svg` are written.
    """
    panels = panels_of(table)
    # A line of panels is as high as its longest legend asks.
    starts = range(0, len(panels), COLUMNS)
    most = [max(len(rows) for _, rows in panels[i : i + COLUMNS]) for i in starts]
    heights = [4.2 + 0.22 * entries for entries in most]
    with drawing(path, 6.4 * COLUMNS, sum(heights)) as figure:
        lines = figure.subplots(len(heights), COLUMNS, squeeze=False, height_ratios=heights)
        grid = list(lines.flat)
        for axes, (title, rows) in zip(grid, panels, strict=False):
            _panel(axes, rows)
            axes.set_title(title)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    known = {title: LOOKS[paper] for paper, title in TITLES.items()} | OTHERS
    ranked = rows.sort_values("value", ascending=False).to_dict("records")
    least, most = rows.seconds.min() / 2, rows.seconds.max() * 2
    for number, row in enumerate(ranked, 1):
        look, name = known[row["paper"]], f"{number}  {_name(row)}"
        timed = row["seconds"] == row["seconds"]
        at = (row["seconds"] if timed else least, row["value"])
        if timed:
            fill = look.colour if row["proposals_timed"] == "yes" else "white"
            axes.plot(*at, look.marker, color=look.colour, mfc=fill, ms=10, label=name)
        else:
            axes.axhline(row["value"], color=look.colour, ls="--", label=f"{name}, no speed told")
        axes.annotate(f"{number}", at, (7, 4), textcoords="offset points")
    seconds_axis(axes, least, most)
    axes.set_xlabel("seconds an image (log; hollow: without proposals)")
    axes.set_ylabel(f"{rows.metric.iloc[0]}, %")
    legend_below(axes)


def _name(row: dict[Any, Any]) -> str:
    trained = row["train"].removesuffix(" trainval")
    return ", ".join([row["paper"], row["backbone"], row["system"], f"on {trained}"])
