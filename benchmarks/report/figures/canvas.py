"""A figure as PNG and SVG, for a page and for a talk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

STYLE: Any = {
    "text.parse_math": False,  # a class's or a data set's name may have a dollar
    "svg.hashsalt": "",  # the same figure is the same file
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of inches by inches to draw on; saved when the block ends.

    Args:
        path: without suffix; `.png` and `.svg` are written.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out now, once for both
        figure.savefig(path.with_name(f"{path.name}.png"), dpi=140)
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})


def seconds_axis(axes: Axes, low: float, high: float) -> None:
    """A log x axis, named in plain numbers: every decade, and 2 and 5 in it where there is room."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)


def legend_below(axes: Axes) -> None:
    """The panel's legend, below it."""
    names = axes.get_legend_handles_labels()[1]
    columns = 2 if max(map(len, names)) < 28 else 1
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=columns, fontsize=9.5)


def bars(axes: Axes, names: list[str]) -> None:
    """A y axis of horizontal bars, the first on top."""
    axes.set_yticks(range(len(names)), [fill(name, 30) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def spelled(seconds: float) -> str:
    """A duration as people write it: 35 ms, 2.3 s, 5.2 min, 1.4 h."""
    for unit, size, limit in (("ms", 1e-3, 1.0), ("s", 1.0, 120.0), ("min", 60.0, 7200.0)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 3600:.3g} h"
