"""Pictures of images, boxes and detections, for looking at: most detection bugs are visible first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by colour-blind eyes too (Okabe and Ito).
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF")


def colour_of(label: int) -> str:
    """A class's colour; they repeat after eight."""
    return COLOURS[(label - 1) % len(COLOURS)]


def draw_boxes(
    axes: Axes,
    boxes: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    scores: np.ndarray | None = None,
    dashed: bool = False,
) -> None:
    """Draw boxes [n, 4] xyxy with their names and scores; dashed and nameless for ground truth."""
    from matplotlib.patches import Rectangle

    for i, (x1, y1, x2, y2) in enumerate(boxes):
        colour = "white" if dashed else colour_of(int(labels[i]))
        # Pixel 0 lies between the continuous 0 and 1, and matplotlib centres it on 0.
        corner = (x1 - 0.5, y1 - 0.5)
        style = "--" if dashed else "-"
        axes.add_patch(
            Rectangle(
                corner,
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor="black",
                linewidth=2.4,
                linestyle=style,
            )
        )
        axes.add_patch(
            Rectangle(
                corner,
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor=colour,
                linewidth=1.4,
                linestyle=style,
            )
        )
        if not dashed:
            text = classes[int(labels[i]) - 1] + ("" if scores is None else f" {scores[i]:.2f}")
            axes.text(
                x1,
                y1,
                text,
                fontsize=6.5,
                color="black",
                va="bottom",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.9},
            )


def sheet(
    panels: Sequence[tuple[np.ndarray, str, Any]], path: Path, columns: int = 3, title: str = ""
) -> None:
    """A PNG of images side by side.

    Args:
        panels: (uint8 [H, W, 3], caption, a function that draws onto the axes, or None).
        path: the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    height, width = panels[0][0].shape[:2]
    figure = Figure(figsize=(4 * columns, (4 * height / width + 0.3) * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (image, caption, draw) in zip(grid.flat, panels, strict=False):
        axes.imshow(image)
        axes.set_title(caption, fontsize=8)
        if draw is not None:
            draw(axes)
        axes.set_xlim(-0.5, image.shape[1] - 0.5)
        axes.set_ylim(image.shape[0] - 0.5, -0.5)
    if title:
        figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
