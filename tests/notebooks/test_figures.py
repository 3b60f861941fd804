"""Images beside each other: on axes of their own pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from notebooks.figures import as_drawn, as_sheet, beside, plots
from stages.sheet import Panel, Row

IMAGE = np.zeros((30, 40, 3), np.uint8)
MAP = np.eye(3, 6)


@pytest.fixture(autouse=True)
def no_window() -> Iterator[None]:
    with plt.rc_context():
        plt.switch_backend("agg")
        yield
        plt.close("all")


def test_a_pixel_reaches_from_its_number_to_the_next() -> None:
    image, cells = beside([IMAGE, MAP], ["an image", "a map"])
    assert image.images[0].get_extent() == [0, 40, 30, 0]
    assert (image.get_xlim(), image.get_ylim()) == ((0, 40), (30, 0))
    assert cells.images[0].get_extent() == [0, 6, 3, 0]
    assert [axes.get_title() for axes in (image, cells)] == ["an image", "a map"]


def test_a_map_is_drawn_as_asked_for() -> None:
    image, cells = beside([IMAGE, MAP], ["", ""], cmap="cividis", vmin=-1, vmax=2)
    assert cells.images[0].get_cmap().name == "cividis"
    assert cells.images[0].get_clim() == (-1, 2)
    assert cells.images[0].get_interpolation() == "nearest"
    assert image.images[0].get_clim() != (-1, 2)


def test_several_rows_leave_the_last_places_empty() -> None:
    panels = beside([IMAGE] * 5, list("abcde"), columns=3)
    assert [axes.get_title() for axes in panels] == list("abcde")
    assert len({axes.get_subplotspec().rowspan.start for axes in panels}) == 2
    assert [axes.axison for axes in panels[0].figure.axes] == [True] * 5 + [False]


def test_what_is_drawn_later_does_not_move_the_view() -> None:
    (axes,) = beside([IMAGE], ["a dollar: $x_$"])
    axes.plot([-50, 90], [0, 0])
    assert axes.get_xlim() == (0, 40)
    axes.figure.canvas.draw()  # a class's name is no formula


def test_plots_share_a_figure() -> None:
    left, right = plots(6, 2, columns=2, sharey=True)
    assert left.figure is right.figure
    left.set_ylim(0, 7)
    assert right.get_ylim() == (0, 7)


def test_a_sheet_is_a_picture() -> None:
    assert as_sheet("title", [Row([Panel.of(IMAGE, "caption")])]).data.startswith(b"\x89PNG")


def test_the_reports_figures_are_pictures() -> None:
    def draw(table: pd.DataFrame, path: Path) -> None:
        path.with_suffix(".png").write_bytes(table.bytes.iloc[0])

    assert as_drawn(draw, pd.DataFrame({"bytes": [b"a picture"]})).data == b"a picture"
