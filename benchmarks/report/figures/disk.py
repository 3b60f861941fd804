"""What training leaves on the disk."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.report.figures.canvas import bars, drawing
from benchmarks.report.look import LOOKS


def draw(table: pd.DataFrame, path: Path) -> None:
    """Bars of a data set's detectors.

    Args:
        table: one data set's rows.
        path: without suffix; `.png` and `.svg` are written.
    """
    names, values = list(table.label), table.train_disk_mib.fillna(0.0)
    with drawing(path, 10, 1.2 + 0.5 * len(names)) as figure:
        axes = figure.subplots()
        axes.barh(
            range(len(names)), values, color=[LOOKS[p].colour for p in table.paper], height=0.7
        )
        for y, value in enumerate(values):
            axes.annotate(
                f"{value:,.0f}" if value >= 10 else f"{value:.1f}",
                (value, y),
                (5, 0),
                textcoords="offset points",
                va="center",
            )
        bars(axes, names)
        axes.set_xlim(0, 1.15 * max(values.max(), 1e-9))
        axes.set_xlabel("MiB on disk, of training")
