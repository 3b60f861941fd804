"""The papers' own points: accuracy against speed as published, panels of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.report.figures.canvas import drawing, legend_below, seconds_axis
from benchmarks.report.look import LOOKS, TITLES, Look
from benchmarks.rivals.detector import RETINANET, SSD

OTHERS = {
    "YOLOv1": Look("#CC79A7", "P"),
    "YOLOv2": Look("#000000", "X"),
    "SSD": LOOKS[SSD],
    "RetinaNet": LOOKS[RETINANET],
}
LEAST = 2  # points that make a panel


def panels_of(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows that may share an axis, and the panel's title: of one test set, metric and device.

    Rows without seconds or device are in none, and a row that is alone is not drawn.
    """
    drawn = table[table.seconds.notna() & (table.device != "")]
    groups = drawn.groupby(["test", "metric", "device"], sort=False)
    return [
        (f"{test}, {device}, as published", rows)
        for (test, _, device), rows in groups
        if len(rows) >= LEAST
    ]


def draw(table: pd.DataFrame, path: Path) -> None:
    """Filled: photograph to boxes; hollow: proposals are not counted.

    Args:
        table: `published`'s.
        path: without suffix; `.png` and `.svg` are written.
    """
    known = {title: LOOKS[paper] for paper, title in TITLES.items()} | OTHERS
    panels = panels_of(table)
    columns = 2
    lines = -(-len(panels) // columns)
    with drawing(path, 6.4 * columns, 6.6 * lines) as figure:
        grid = figure.subplots(lines, columns, squeeze=False).flat
        for axes, (title, rows) in zip(grid, panels, strict=False):
            ranked = rows.sort_values("value", ascending=False).to_dict("records")
            for number, row in enumerate(ranked, 1):
                look, at = known[row["paper"]], (row["seconds"], row["value"])
                axes.plot(
                    *at,
                    look.marker,
                    color=look.colour,
                    mfc=look.colour if row["proposals_timed"] == "yes" else "white",
                    ms=10,
                    label=f"{number}  {_name(row)}",
                )
                axes.annotate(f"{number}", at, (7, 4), textcoords="offset points")
            seconds_axis(axes, rows.seconds.min() / 2, rows.seconds.max() * 2)
            axes.set_title(title)
            axes.set_xlabel("seconds an image (log; hollow: without proposals)")
            axes.set_ylabel(f"{rows.metric.iloc[0]}, %")
            legend_below(axes)
        for axes in list(grid)[len(panels) :]:
            axes.set_axis_off()


def _name(row: dict[Any, Any]) -> str:
    trained = row["train"].removesuffix(" trainval")
    return ", ".join([row["paper"], row["backbone"], row["system"], f"on {trained}"])
