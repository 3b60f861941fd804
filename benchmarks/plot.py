"""Speed against accuracy: the picture that the project is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from benchmarks.report.figures.canvas import drawing, legend_below, seconds_axis
from benchmarks.report.look import Look, looks

COLUMNS = 3
METRICS = {
    "map": "mAP of boxes, VOC07 11-point, %",
    "coco_ap": "COCO AP of boxes, %",
    "mask_coco_ap": "COCO AP of masks, %",
}


def plot_speed_against_map(
    table: pd.DataFrame, path: Path, metrics: Sequence[str] = ("map",)
) -> None:
    """One panel a data set, metric and device: these never share an axis.

    A filled mark is photograph to boxes, a hollow one the same without the proposals' time; the
    bar is the 95 % interval.

    Args:
        table: a row a detector, as `compare`'s comparisons have it.
        path: without suffix; `.png` and `.svg` are written.
        metrics: of `METRICS`; one that no detector of a data set has gives no panel.
    """
    panels = [
        (f"{title}\n{device}", rows, name)
        for (title, device), rows in table.groupby(["title", "device"], sort=True)
        for name in metrics
        if rows[name].notna().any()
    ]
    columns = min(COLUMNS, max(len(panels), 1))
    lines = -(-max(len(panels), 1) // columns)
    most = max([len(rows) for _, rows, _ in panels], default=0)
    with drawing(path, 5.6 * columns, (4.1 + 0.22 * most) * lines) as figure:
        grid = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axes, (title, rows, name) in zip(grid, panels, strict=False):
            _panel(axes, rows, name)
            axes.set_title(title)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()


def _panel(axes: Axes, rows: pd.DataFrame, metric: str) -> None:
    known = rows[metric].notna()
    # Looks are given before any row is left out: they are the same in every panel.
    styles = looks(list(rows.paper))
    for row, look, measured in zip(rows.to_dict("records"), styles, known, strict=True):
        if measured:
            _mark(axes, row, metric, look)
    rows = rows[known]
    both = pd.concat([rows.seconds, rows.seconds_without_proposals])
    seconds_axis(axes, both.min() / 2, both.max() * 2)
    ends = pd.concat([rows[metric], rows[f"{metric}_low"], rows[f"{metric}_high"]])
    axes.set_ylim(*_limits(ends.min(), ends.max()))
    axes.set_xlabel("seconds an image (log; hollow: without proposals)")
    axes.set_ylabel(f"{METRICS[metric]} (bar: 95 %)")
    legend_below(axes)


def _mark(axes: Axes, row: dict[str, float | str], metric: str, look: Look) -> None:
    value, low, high = (float(row[name]) for name in (metric, f"{metric}_low", f"{metric}_high"))
    seconds, without = float(row["seconds"]), float(row["seconds_without_proposals"])
    style: dict[str, Any] = {"color": look.colour, "mec": look.colour, "ms": 10}
    if low == low and high == high:
        axes.plot([seconds, seconds], [low, high], "-", color=look.colour, lw=1.4)
        axes.plot([seconds, seconds], [low, high], "_", color=look.colour, ms=8)
    if without < seconds:
        axes.plot([without, seconds], [value, value], ":", color=look.colour, lw=1.2)
        axes.plot(without, value, look.marker, mfc="white", zorder=3, **style)
    axes.plot(seconds, value, look.marker, label=str(row["label"]), zorder=3, **style)


def _limits(low: float, high: float) -> Sequence[float]:
    """Of an axis of percentages: a little more than what it shows."""
    margin = max(0.12 * (high - low), 2.0)
    return max(low - margin, -3.0), min(high + margin, 103.0)  # whole marks at 0 and 100
