"""Training and test time, and how many times faster than R-CNN: here and in the papers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from benchmarks.report.figures.canvas import bars, drawing, spelled
from benchmarks.report.look import LOOKS
from benchmarks.report.table import with_gains

PAPERS = "Fast R-CNN's table 4, VGG16 (AlexNet: AlexNet)"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Bars of a data set's detectors; the paper's factor only beside one of ours.

    Args:
        table: one data set's rows.
        path: without suffix; `.png` and `.svg` are written.
    """
    rows = with_gains(table).to_dict("records")
    with drawing(path, 12, 1.9 + 0.5 * len(rows)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for y, row in enumerate(rows):
            colour = LOOKS[row["paper"]].colour
            left.barh(y, row["train_seconds"], color=colour, height=0.7)
            detect, whole = row["seconds_without_proposals"], row["seconds"]
            right.barh(y, detect, color=colour, height=0.7)
            right.barh(
                y,
                whole - detect,
                left=detect,
                height=0.7,
                color="white",
                edgecolor=colour,
                hatch="////",
            )
            _say(left, y, row["train_seconds"], _gains(row, "train", row["train_seconds"]))
            _say(right, y, whole, _gains(row, "test", whole))
        for axes in (left, right):
            bars(axes, [row["label"] for row in rows])
            axes.set_xlabel("seconds")
        left.set_xlim(0, 1.95 * max(table.train_seconds.max(), 1e-9))
        right.set_xlim(0, 1.95 * table.seconds.max())
        left.set_title("training, proposals apart")
        right.set_title("test, an image")
        figure.legend(
            [
                Patch(facecolor="grey"),
                Patch(facecolor="white", edgecolor="grey", hatch="////"),
                Patch(facecolor="none"),
            ],
            ["detection", "proposals; × R-CNN does not count them", f"(paper): {PAPERS}"],
            loc="outside lower center",
            ncols=3,
        )


def _gains(row: dict[str, float], phase: str, seconds: float) -> str:
    here, paper = row[f"{phase}_gain"], row[f"paper_{phase}_gain"]
    if not seconds > 0:
        return "none here"
    parts = [spelled(seconds)]
    if row["paper"] != "rcnn" and here == here:
        parts.append(f"{here:.3g} × R-CNN")
        if paper == paper:
            parts.append(f"(paper {paper:g} ×)")
    return "  ".join(parts)


def _say(axes: Axes, y: float, x: float, text: str) -> None:
    axes.annotate(text, (x if x == x else 0, y), (5, 0), textcoords="offset points", va="center")
