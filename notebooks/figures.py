"""Images beside each other in a notebook, on axes of their own pixels.

H, W an image's height and width; h, w a map's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Image
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.sheet import Row, sheet

WIDTH, HIGHEST = 9.6, 3.2  # inches, of a figure, and of an image in it
DPI = 90


def blank(width: float, height: float) -> Figure:
    """A figure of inches by inches, shown when its cell ends."""
    return plt.figure(figsize=(width, height), dpi=DPI, layout="constrained")


def plots(width: float, height: float, rows: int = 1, columns: int = 1, **more: Any) -> list[Axes]:
    """Empty plots on a figure of inches by inches; `more`: of matplotlib's `subplots`."""
    every = list(blank(width, height).subplots(rows, columns, squeeze=False, **more).ravel())
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    return every


def beside(
    images: Sequence[np.ndarray], titles: Sequence[str], columns: int | None = None, **style: Any
) -> list[Axes]:
    """The images in a row, or `columns` to a row; draw on the axes returned, in pixels or a map's cells.

    Pixel or cell i reaches from i to i + 1, as the project's boxes have it.

    Args:
        images: uint8 [H, W, 3], or maps [h, w], whose cells stay sharp; if there are several rows, all
            of one shape.
        titles: above each.
        style: matplotlib's, of maps: `cmap`, `vmin`, `vmax`.
    """
    columns = columns or len(images)
    rows = -(-len(images) // columns)
    ratios = [image.shape[1] / image.shape[0] for image in images[:columns]]
    height = min(WIDTH / sum(ratios), HIGHEST)
    above = 0.25 + 0.15 * max(title.count("\n") for title in titles)
    figure = blank(height * sum(ratios), rows * (height + above))
    grid = figure.subplots(rows, columns, width_ratios=ratios, squeeze=False).ravel()
    for axes, image, title in zip(grid, images, titles, strict=False):
        show(axes, image, title, **style)
    for axes in grid[len(images) :]:
        axes.set_axis_off()
    return list(grid[: len(images)])


def show(axes: Axes, image: np.ndarray, title: str = "", **style: Any) -> None:
    """An image or a map on axes: see `beside`."""
    high, wide = image.shape[:2]
    of_map = {"cmap": "gray", "interpolation": "nearest", **style}
    axes.imshow(image, extent=(0, wide, high, 0), **(of_map if image.ndim == 2 else {}))
    axes.set(xlim=(0, wide), ylim=(high, 0), xticks=[], yticks=[], autoscale_on=False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9, parse_math=False)  # a class's name may have a dollar


def as_sheet(title: str, rows: Sequence[Row], inches: float = 1.2) -> Image:
    """`stages.sheet.sheet`, to look at in the notebook: make it the last line of a cell."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.png"
        sheet(path, title, rows, inches)
        return Image(path.read_bytes())


def as_drawn(draw: Callable[[pd.DataFrame, Path], None], table: pd.DataFrame) -> Image:
    """A figure of the report's (`benchmarks/report/figures/`), to look at in the notebook.

    Args:
        draw: makes `<path>.png` of a table.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure"
        draw(table, path)
        return Image(path.with_suffix(".png").read_bytes())
