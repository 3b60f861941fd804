"""What the best-scoring detections are, by Hoiem's kinds, a bar a detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.patches import Patch

from benchmarks.report.comparison import Entry
from benchmarks.report.figures.canvas import bars, drawing
from stages.evaluation.mistake_chart import COLOUR_OF_KIND
from stages.evaluation.mistakes import KINDS, SIMILAR


def shares(entry: Entry) -> dict[int, float]:
    """Percent of the N best-scoring detections that are of each kind of `COLOUR_OF_KIND`.

    N is the number of objects to be found; a detector that reports fewer has less than 100 in all.
    """
    counts = entry.run.metrics["result"]["mistakes"]["all"]
    return {kind: 100 * counts[KINDS[kind]] / max(counts["objects"], 1) for kind in COLOUR_OF_KIND}


def draw(entries: Sequence[Entry], path: Path) -> bool:
    """Stacked bars. Whether any detector's mistakes were counted.

    Args:
        path: without suffix; `.png` and `.svg` are written.
    """
    entries = [entry for entry in entries if "mistakes" in entry.run.metrics["result"]]
    if not entries:
        return False
    each = [shares(entry) for entry in entries]
    kinds = [k for k in COLOUR_OF_KIND if k != SIMILAR or any(of_one[k] for of_one in each)]
    with drawing(path, 10, 1.9 + 0.5 * len(entries)) as figure:
        axes = figure.subplots()
        for y, of_one in enumerate(each):
            left = 0.0
            for kind in kinds:
                share = of_one[kind]
                axes.barh(
                    y, share, left=left, height=0.75, color=COLOUR_OF_KIND[kind], edgecolor="white"
                )
                if share >= 4:
                    axes.text(left + share / 2, y, f"{share:.0f}", ha="center", va="center")
                left += share
        bars(axes, [entry.label for entry in entries])
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of as many best-scoring detections as there are objects")
        counts = [entry.run.metrics["result"]["mistakes"]["all"] for entry in entries]
        beside = axes.secondary_yaxis("right")
        beside.set_yticks(
            range(len(entries)), [f"{c['missed']} of {c['objects']} missed" for c in counts]
        )
        for frame in (axes, beside):
            frame.spines[:].set_visible(False)
            frame.tick_params(axis="y", length=0)
        figure.legend(
            [Patch(color=COLOUR_OF_KIND[kind]) for kind in kinds],
            [KINDS[kind] for kind in kinds],
            loc="outside lower center",
            ncols=len(kinds),
        )
    return True
