"""A chart of mistakes by kind: what each class's best-scoring detections are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.evaluation.mistakes import (
    BACKGROUND,
    CORRECT,
    KINDS,
    LOCALISATION,
    OTHER,
    SIMILAR,
    Mistakes,
)
from stages.pictures import short

# Okabe and Ito's, and grey.
COLOUR_OF_KIND = {
    CORRECT: "#009E73",
    LOCALISATION: "#56B4E9",
    SIMILAR: "#F0E442",
    OTHER: "#E69F00",
    BACKGROUND: "#BBBBBB",
}


def chart(
    path: Path, title: str, mistakes: Mistakes, classes: Sequence[str], labels: Sequence[int]
) -> None:
    """A PNG: for all classes and for some, what the N best-scoring detections are (see `Mistakes.top`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    top, objects = mistakes.top(), mistakes.objects
    missed = np.bincount(mistakes.missed.label - 1, minlength=len(classes))
    kinds = [kind for kind in COLOUR_OF_KIND if kind != SIMILAR or top[:, SIMILAR].any()]
    bars = [("all classes", top.sum(axis=0), int(objects.sum()), int(missed.sum()))]
    bars += [(classes[i - 1], top[i - 1], int(objects[i - 1]), int(missed[i - 1])) for i in labels]

    figure = Figure(figsize=(9, 1.5 + 0.32 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for y, (_, counts, n, _) in enumerate(bars):
        left = 0.0
        for kind in kinds:
            share = 100 * counts[kind] / max(n, 1)
            axes.barh(
                y, share, left=left, color=COLOUR_OF_KIND[kind], edgecolor="white", height=0.8
            )
            if share >= 4:
                axes.text(left + share / 2, y, f"{share:.0f}", ha="center", va="center", fontsize=8)
            left += share
    names = [short(name, 24) for name, *_ in bars]
    axes.set_yticks(range(len(bars)), names, fontsize=9, parse_math=False)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(
        "% of the N best-scoring detections of a class, N being its objects; missed: at any score",
        fontsize=9,
    )
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(bars)), [f"N = {n}, missed {m}" for *_, n, m in bars], fontsize=8)
    for frame in (axes, beside):
        frame.spines[:].set_visible(False)
        frame.tick_params(axis="y", length=0)
    figure.legend(
        [Patch(color=COLOUR_OF_KIND[kind]) for kind in kinds],
        [KINDS[kind] for kind in kinds],
        loc="outside lower center",
        ncols=len(kinds),
        frameon=False,
        fontsize=9,
    )
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)
