"""Speed against mAP: the picture that the project is for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stages.pictures import COLOURS

MARKERS = "osD^vP*X"


def plot_speed_against_map(table: pd.DataFrame, path: Path) -> None:
    """One panel a data set, metric and device: these never share an axis.

    A filled mark is photograph to boxes, a hollow one the same without the proposals' time; the
    bar is mAP's 95 % interval.

    Args:
        table: a row a detector, as `make bench` writes it.
        path: without suffix; `.png` and `.svg` are written.
    """
    panels = list(table.groupby(["data", "device"], sort=True))
    figure = Figure(figsize=(5.6 * len(panels), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, ((data, device), rows) in zip(grid, panels, strict=True):
        for i, row in enumerate(rows.sort_values("run").itertuples()):
            colour, marker = COLOURS[i % (len(COLOURS) - 1)], MARKERS[i % len(MARKERS)]
            error = [[row.map - row.map_low], [row.map_high - row.map]]
            label = f"{row.run} ({row.backbone})"
            axes.errorbar(row.seconds, row.map, error, color=colour, capsize=3, lw=1.2)
            axes.plot(row.seconds, row.map, marker, color=colour, ms=9, label=label)
            axes.plot(
                row.seconds_without_proposals, row.map, marker, color=colour, ms=9, mfc="none"
            )
            axes.plot(
                [row.seconds_without_proposals, row.seconds], [row.map] * 2, ":", color=colour, lw=1
            )
        axes.set_xscale("log")
        seconds = pd.concat([rows.seconds, rows.seconds_without_proposals])
        axes.set_xlim(seconds.min() / 3, seconds.max() * 3)
        axes.set_ylim(0, 100)
        axes.set_xlabel("seconds an image (log; hollow: without proposals)")
        axes.set_ylabel("mAP, VOC07 11-point, % (bar: 95 % interval)")
        axes.set_title(f"{data}\n{device}", fontsize=9)
        axes.grid(alpha=0.25, which="both")
        axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path.with_suffix(".png"), dpi=130)
    figure.savefig(path.with_suffix(".svg"))
