"""Recall of the objects against IoU, for fewer and more proposals (section 3.3, figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.data.records import Record
from stages.pictures import COLOURS
from stages.proposals.cache import Proposals
from stages.proposals.recall import best_overlaps
from stages.writing import replacing

COUNTS = (50, 100, 300, 1000, 2000)
IOUS = np.arange(50, 101, 5) / 100


def recalls(records: Sequence[Record], methods: Mapping[str, Proposals]) -> pd.DataFrame:
    """Recall of the objects that are not difficult.

    Args:
        methods: each one's proposals of the records, best first, by its name.

    Returns:
        rows of `method`, `proposals` (at most so many an image), `iou`, `recall` in per cent.
    """
    rows = []
    for name, reader in methods.items():
        for count in COUNTS:
            best = best_overlaps(records, reader, count)
            rows += [
                (name, count, iou, 100 * float((best >= iou).mean()) if len(best) else np.nan)
                for iou in IOUS
            ]
    return pd.DataFrame(rows, columns=["method", "proposals", "iou", "recall"])


def draw_recalls(table: pd.DataFrame, path: Path, title: str) -> None:
    """A panel for each number of proposals, a line for each method, as PNG."""
    from matplotlib.figure import Figure

    counts = sorted(table["proposals"].unique())
    figure = Figure(figsize=(2.6 * len(counts), 3.0), layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, counts, strict=True):
        some = table[table["proposals"] == count]
        for (name, line), colour in zip(some.groupby("method", sort=False), COLOURS, strict=False):
            axes.plot(line["iou"], line["recall"], color=colour, marker="o", ms=3, label=str(name))
        axes.set_title(f"{count} proposals", fontsize=9)
        axes.set_xlabel("IoU", fontsize=8)
        axes.set_ylim(0, 100)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("recall, %", fontsize=8)
    panels[0].legend(fontsize=7, loc="upper right")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=130)
