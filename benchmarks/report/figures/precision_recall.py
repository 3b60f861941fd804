"""Precision against recall, a panel a class, a line a detector.

n detections of one class by descending score.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.report.comparison import Comparison
from benchmarks.report.figures.canvas import drawing
from stages.evaluation.gallery import commonest, of_how_many
from stages.evaluation.voc_ap import ClassMatches
from stages.pictures import short

CLASSES = 20  # more are too many to look at
COLUMNS = 4


def curve(matches: ClassMatches) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision, float64 [n] in percent, after each detection that is not ignored.

    Both are empty without objects to be found.
    """
    found = matches.found
    if matches.n_positives == 0:
        return np.zeros(0), np.zeros(0)
    true = np.cumsum(found)
    return 100 * true / matches.n_positives, 100 * true / np.arange(1, len(found) + 1)


def classes_shown(matches: Sequence[ClassMatches]) -> list[int]:
    """The labels of the commonest classes that have an object to be found."""
    objects = np.array([of_class.n_positives for of_class in matches], np.int64)
    return [label for label in commonest(objects, CLASSES) if objects[label - 1]]


def draw(comparison: Comparison, path: Path) -> bool:
    """Of boxes at IoU 0.5, difficult objects neither found nor missed. Whether any class has objects.

    Args:
        path: without suffix; `.png` and `.svg` are written.
    """
    entries, classes = comparison.entries, comparison.data.classes
    shown = classes_shown(entries[0].matches)
    if not shown:
        return False
    columns = min(COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    with drawing(path, max(3.3 * columns, 6), 3.3 * lines + 0.7 + 0.25 * len(entries)) as figure:
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for axes, label in zip(grid.flat, shown, strict=False):
            for entry in entries:
                recall, precision = curve(entry.matches[label - 1])
                look = entry.look
                axes.plot(recall, precision, look.dashes, color=look.colour, lw=1.6)
                # A marker where the curve ends: at the recall that is reached.
                axes.plot(recall[-1:], precision[-1:], look.marker, color=look.colour, ms=7)
            n = entries[0].matches[label - 1].n_positives
            axes.set_title(f"{short(classes[label - 1], 24)}, {n} objects")
            axes.set_xlim(0, 102)
            axes.set_ylim(0, 102)
            axes.set_xlabel("recall, %")
            axes.grid(alpha=0.25)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        figure.supylabel(f"precision, %{of_how_many(len(shown), len(classes))}", fontsize=11)
        lines_of = [
            axes.plot([], [], e.look.dashes, marker=e.look.marker, color=e.look.colour)[0]
            for e in entries
        ]
        figure.legend(
            lines_of, [e.label for e in entries], loc="outside lower center", ncols=min(2, columns)
        )
    return True
