"""Where a detection's time goes, by part, stacked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.report.figures.canvas import bars, drawing
from benchmarks.report.table import PART, parts_of

REST = "the rest"

# Colour and hatch of each part, in the order of a detection; what is alike in colour is of a kind.
LOOKS = {
    "decode": ("#BBBBBB", ""),
    "resize": ("#BBBBBB", "////"),
    "proposals": ("#E69F00", ""),
    "warp": ("#F0E442", ""),
    "convolutions": ("#0072B2", ""),
    "RPN": ("#D55E00", ""),
    "top-k and NMS of proposals": ("#D55E00", "////"),
    "pooling": ("#56B4E9", ""),
    "head": ("#009E73", ""),
    "boxes": ("#009E73", "////"),
    "RoI heads": ("#009E73", "...."),
    "heads": ("#009E73", "xxxx"),
    "SVMs and boxes": ("#CC79A7", "////"),
    "NMS": ("#CC79A7", ""),
    "masks": ("#444444", ""),
    "pasting": ("#444444", "////"),
}
OTHER = ("#FFFFFF", "++++")


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Percent of each row's detection that is in each part, and in none of them ("the rest").

    Args:
        table: rows with seconds in `part: <name>`, nan: it has no such part.

    Returns:
        a row for each, a column a part; they sum to 100.
    """
    seconds = seconds_by_part(table)
    return 100 * seconds.div(table.seconds.to_numpy(), axis=0)


def seconds_by_part(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds of each row's detection by part, and "the rest"."""
    known = list(LOOKS)
    parts = sorted(
        parts_of(table), key=lambda part: known.index(part) if part in known else len(known)
    )
    seconds = table[[PART + part for part in parts]].fillna(0.0).set_axis(parts, axis=1)
    rest = (table.seconds - seconds.sum(axis=1)).clip(lower=0)
    return seconds.assign(**{REST: rest})


def draw(table: pd.DataFrame, path: Path) -> None:
    """Seconds on the left, percent on the right.

    Args:
        table: one data set's rows.
        path: without suffix; `.png` and `.svg` are written.
    """
    both = seconds_by_part(table), shares(table)
    names = list(table.label)
    with drawing(path, 12, 2.5 + 0.5 * len(names)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, values in zip((left, right), both, strict=True):
            start = pd.Series(0.0, values.index)
            for part in values:
                colour, hatch = LOOKS.get(part, OTHER)
                axes.barh(
                    range(len(names)),
                    values[part],
                    left=start,
                    height=0.7,
                    color=colour if part != REST else "#FFFFFF",
                    hatch=hatch if part != REST else "",
                    edgecolor="#888888" if part == REST else "white" if not hatch else "black",
                    linewidth=0.5,
                    label=part,
                )
                start += values[part]
            bars(axes, names)
        left.set_xlabel("seconds an image")
        right.set_xlabel("% of it")
        handles, parts = left.get_legend_handles_labels()
        figure.legend(handles, parts, loc="outside lower center", ncols=min(6, len(parts)))
