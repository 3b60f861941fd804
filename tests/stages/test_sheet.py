"""Sheets of images: in their rows, right side up, of any size and number, also none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stages.sheet import PIXELS, Panel, Row, in_rows, sheet

RED, BLUE = np.array([[[255, 0, 0]]], np.uint8), np.array([[[0, 0, 255]]], np.uint8)


def drawn(path):
    """The PNG, and where its pixels are quite red and quite blue: (y, x) of their middle."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red, blue = (
        np.argwhere((np.abs(pixels - colour[0, 0]) < 9).all(axis=2)) for colour in (RED, BLUE)
    )
    return pixels, red, blue


def test_rows_and_columns(tmp_path):
    red, blue = (Panel.of(np.tile(colour, (30, 40, 1))) for colour in (RED, BLUE))
    sheet(tmp_path / "a.png", "title", in_rows([red, blue], 2), inches=1)
    _, at_red, at_blue = drawn(tmp_path / "a.png")
    assert at_red[:, 1].max() < at_blue[:, 1].min()
    assert abs(at_red[:, 0].mean() - at_blue[:, 0].mean()) < 1
    sheet(tmp_path / "b.png", "title", in_rows([red, blue], 1), inches=1)
    _, at_red, at_blue = drawn(tmp_path / "b.png")
    assert at_red[:, 0].max() < at_blue[:, 0].min()
    assert [len(row.panels) for row in in_rows([red] * 7, 3)] == [3, 3, 1]


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (2000, 3001), (1, 500), (500, 1)])
def test_drawing_is_in_the_pixels_of_the_image(tmp_path, size):
    # Whatever the image was reduced to, the middle of the drawing is the middle of the image.
    height, width = size
    seen = []

    def draw(axes):
        seen.append((axes.get_xlim(), axes.get_ylim()))
        axes.plot([width / 2], [height / 2], "s", color="blue", ms=5)

    panel = Panel.of(np.tile(RED, (height, width, 1)), "caption", draw)
    assert max(panel.image.shape) <= PIXELS
    sheet(tmp_path / "a.png", "", [Row([panel])])
    assert seen == [((0, width), (height, 0))]
    _, at_red, at_blue = drawn(tmp_path / "a.png")
    assert len(at_blue)
    if min(size) > 1:
        middle = (at_red.min(axis=0) + at_red.max(axis=0)) / 2
        np.testing.assert_allclose(at_blue.mean(axis=0), middle, atol=2)


def test_a_large_image_is_not_kept(tmp_path):
    image = np.zeros((3000, 4000, 3), np.uint8)
    panel = Panel.of(image[:2000])
    assert panel.image.base is None or panel.image.base.nbytes < image.nbytes / 10
    assert panel.size == (4000, 2000)


def test_nothing_to_show_still_makes_a_sheet(tmp_path):
    sheet(tmp_path / "none.png", "A title of some length\nand another line", [])
    sheet(tmp_path / "empty.png", "t", [Row([], "a very long name of a class"), Row([])])
    for name in ("none.png", "empty.png"):
        assert (drawn(tmp_path / name)[0].min(axis=2) < 128).any()


def test_long_captions_and_names_stay_within_the_sheet(tmp_path):
    panel = Panel.of(np.tile(RED, (40, 40, 1)), "word " * 50 + "\nand $more$ \\frac$", None)
    sheet(tmp_path / "a.png", "t", [Row([panel], "name " * 50)], inches=1.5)
    pixels, _, _ = drawn(tmp_path / "a.png")
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == 255).all()
