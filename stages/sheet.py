"""A sheet of images side by side, as a PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from stages.pictures import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw: TypeAlias = "Callable[[Axes], None]"

# Inches.
GAP, LINE, TITLE, NAMES = 0.06, 0.145, 0.3, 0.42
LETTER = 0.06  # of a caption, on average
CAPTION, NAME, HEADING = 7.5, 9, 11  # points
PIXELS = 800  # of a panel: more would only take memory


@dataclass(frozen=True, eq=False)
class Panel:
    """One image of a sheet; `Panel.of` makes it.

    Attributes:
        image: uint8 [h, w, 3], reduced by `step` where it was large.
        size: its width and height before.
        caption: above it; lines that are too long are cut.
        draw: draws onto the axes, in pixels of the image before.
    """

    image: np.ndarray
    step: int
    size: tuple[int, int]
    caption: str
    draw: Draw | None

    @classmethod
    def of(cls, image: np.ndarray, caption: str = "", draw: Draw | None = None) -> Panel:
        """A panel of uint8 [H, W, 3], which it does not keep in memory."""
        height, width = image.shape[:2]
        step = -(-max(height, width) // PIXELS)
        return cls(
            np.array(Image.fromarray(image).reduce(step)), step, (width, height), caption, draw
        )


@dataclass(frozen=True, eq=False)
class Row:
    """Panels side by side, and what they have in common."""

    panels: Sequence[Panel]
    name: str = ""


def in_rows(panels: Sequence[Panel], columns: int = 3) -> list[Row]:
    """The panels, `columns` to a row."""
    return [Row(panels[i : i + columns]) for i in range(0, len(panels), columns)]


def sheet(path: Path, title: str, rows: Sequence[Row], inches: float = 4.0) -> None:
    """A PNG of images side by side, a row below the other. A row without panels says so.

    Args:
        path: the PNG.
        title: above all; may have several lines.
        rows: named rows carry their name on the left.
        inches: a panel's width. A row is as high as its tallest image needs, within limits.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    left = NAMES if any(row.name for row in rows) else GAP
    columns = max([1, *(len(row.panels) for row in rows)])
    needed = left + columns * (inches + GAP)
    width = max(needed, 1.45 * LETTER * max(map(len, title.split("\n"))))
    heights = [_height(row, inches) for row in rows]
    captions = [LINE * max([0, *(len(p.caption.split("\n")) for p in row.panels)]) for row in rows]
    top = TITLE + 0.2 * title.count("\n")
    height = top + sum(heights) + sum(captions) + 2 * GAP * max(len(rows), 1) + (0 if rows else 0.4)
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)

    write = _Writer(figure, width, height)
    write(title, width / 2, top / 2 + 0.02, HEADING)
    if not rows:
        write("nothing to show", width / 2, top + 0.2, NAME)
    y, margin = top, (width - needed) / 2
    for row, of_row, of_captions in zip(rows, heights, captions, strict=True):
        y += of_captions + GAP
        name = short(row.name, int(of_row / LETTER / 1.5))
        write(name, margin + left / 2, y + of_row / 2, NAME, rotation=90, weight="bold")
        if not row.panels:
            write("none", margin + left + inches / 2, y + of_row / 2, NAME)
        for column, panel in enumerate(row.panels):
            x = margin + left + column * (inches + GAP)
            axes = figure.add_axes(
                (x / width, 1 - (y + of_row) / height, inches / width, of_row / height)
            )
            lines = [short(line, int(inches / LETTER)) for line in panel.caption.split("\n")]
            middle = y - GAP / 2 - LINE * len(lines) / 2
            write("\n".join(lines), x + inches / 2, middle, CAPTION)
            _show(axes, panel)
        y += of_row + GAP
    figure.savefig(path, dpi=110)


def _show(axes: Axes, panel: Panel) -> None:
    down, across = (panel.step * pixels for pixels in panel.image.shape[:2])
    width, height = panel.size
    axes.imshow(panel.image, extent=(0, across, down, 0))
    axes.axis("off")
    axes.set_anchor("N")  # below its caption
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    if panel.draw is not None:
        panel.draw(axes)


def _height(row: Row, inches: float) -> float:
    """What the row's tallest image needs, but at most a little more than a square."""
    needed = [p.size[1] / p.size[0] for p in row.panels]
    return inches * min(max(needed), 1.3) if needed else 1.1


class _Writer:
    """Writes onto a figure at inches from its upper left corner."""

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        self.figure, self.width, self.height = figure, width, height

    def __call__(self, text: str, x: float, y: float, size: float, **style: Any) -> None:
        self.figure.text(
            x / self.width,
            1 - y / self.height,
            text,
            fontsize=size,
            ha="center",
            va="center",
            parse_math=False,  # a class's name may have a dollar
            **style,
        )
