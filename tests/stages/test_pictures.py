"""Drawing boxes: where they lie, that they are seen on any image, and that names stay inside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from stages.pictures import COLOURS, colour_of, draw_boxes, neighbourhood, outline, short, tint

CLASSES = ("cat", "dog")
BOX = np.array([10, 20, 40, 60], np.float32)


@pytest.fixture
def axes():
    """Of an image of 100 × 80 pixels."""
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xlim=(0, 100), ylim=(80, 0))
    return axes


def test_an_outline_is_its_box_in_colour_over_black(axes):
    outline(axes, BOX, "#E69F00")
    under, over = axes.patches
    assert [to_hex(patch.get_edgecolor()).upper() for patch in (under, over)] == [
        "#000000",
        "#E69F00",
    ]
    assert under.get_linewidth() > over.get_linewidth()
    for patch in (under, over):
        assert patch.get_bbox().extents.tolist() == BOX.tolist()
        assert not patch.get_fill()


def test_detections_have_names_and_scores_and_the_truth_has_none(axes):
    draw_boxes(axes, np.stack([BOX, BOX + 5]), np.array([1, 2]), CLASSES, np.array([0.5, -1.234]))
    assert [text.get_text() for text in axes.texts] == ["cat 0.50", "dog -1.23"]
    assert all(patch.get_linestyle() == "-" for patch in axes.patches)
    before = len(axes.patches)
    draw_boxes(axes, BOX[None], np.array([1]), CLASSES, dashed=True)
    assert len(axes.texts) == 2
    under, over = axes.patches[before:]
    assert under.get_linestyle() == "-"
    assert over.get_linestyle() != "-"


def test_nothing_to_draw(axes):
    draw_boxes(axes, np.zeros((0, 4)), np.zeros(0, int), CLASSES, np.zeros(0))
    assert not axes.patches
    assert not axes.texts


@pytest.mark.parametrize(
    "box", [[0, 0, 30, 30], [80, 0, 100, 20], [80, 60, 100, 80], [-9, -9, 130, 90], [0, 70, 9, 80]]
)
def test_names_stay_inside_the_image(axes, box):
    draw_boxes(axes, np.array([box], float), np.array([1]), ["a class of a very long name"])
    axes.figure.canvas.draw()
    drawn = axes.texts[0].get_window_extent().transformed(axes.transData.inverted())
    assert drawn.x0 >= -2
    assert drawn.x1 <= 102
    assert min(drawn.y0, drawn.y1) >= -2
    assert max(drawn.y0, drawn.y1) <= 82


def test_a_dollar_in_a_name_is_no_mathematics(axes):
    draw_boxes(axes, BOX[None], np.array([1]), ["$5$ or \\frac$"])
    axes.figure.canvas.draw()


def test_colours_differ_and_repeat():
    assert len({colour_of(label) for label in range(1, 9)}) == len(COLOURS) == 8
    assert colour_of(9) == colour_of(1)


# What is around a box ------------------------------------------------------------------------


def test_around_a_box_by_hand():
    image = np.arange(100 * 200 * 3, dtype=np.uint32).reshape(100, 200, 3)
    # 40 + 2 * 0.25 * 40 = 60 pixels around the centre (100, 50).
    part, corner = neighbourhood(image, np.array([[80.0, 40, 120, 60]]), margin=0.25)
    assert corner.tolist() == [70, 20, 70, 20]
    assert np.array_equal(part, image[20:80, 70:130])
    # At the border it is moved, not cut.
    part, corner = neighbourhood(image, np.array([[0.0, 0, 40, 10], [10, 10, 20, 40]]), margin=0.25)
    assert corner.tolist() == [0, 0, 0, 0]
    assert part.shape == (60, 60, 3)
    # Of an image that is too small, all.
    part, corner = neighbourhood(image, np.array([[0.0, 0, 200, 100]]))
    assert part.shape == image.shape


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=3),
)
def test_around_boxes_all_of_them_are_there(size, corners):
    height, width = size
    x, y = (np.sort(np.array(corners)[:, i : i + 2], axis=1) for i in (0, 2))
    boxes = np.stack([x[:, 0] * width, y[:, 0] * height, x[:, 1] * width, y[:, 1] * height], 1)
    part, corner = neighbourhood(np.zeros((height, width, 3), np.uint8), boxes)
    moved = boxes - corner
    assert (moved >= -1e-9).all()
    assert (moved[:, [2, 3]] <= np.array([part.shape[1], part.shape[0]]) + 1e-9).all()
    assert part.size


def test_short():
    assert short("cat", 3) == "cat"
    assert short("cats", 3) == "ca…"
    assert short("cats", 0) == "c…"


def test_a_mask_is_tinted_in_its_classs_colour_and_outlined():
    pixels = np.full((8, 8, 3), 100, np.uint8)
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 1:6, 1:6] = True
    masks[1, 4:8, 4:8] = True  # under the first where they meet
    tinted = tint(pixels, masks, np.array([2, 1]))
    assert (tinted[~masks.any(axis=0)] == 100).all()
    first, second = (
        np.array([int(colour_of(label)[i : i + 2], 16) for i in (1, 3, 5)]) for label in (2, 1)
    )
    assert (tinted[3, 3] == (45 + 0.55 * first).astype(np.uint8)).all()
    assert (tinted[6, 6] == (45 + 0.55 * second).astype(np.uint8)).all()
    assert (tinted[1, 1] == first // 2).all()  # its outline
    assert (tinted[5, 5] == first // 2).all()  # on top of the second
    assert (pixels == 100).all()


def test_a_tint_touches_no_more_than_its_mask_up_to_the_images_edge():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 15, 3), dtype=np.uint8)
    for _ in range(50):
        mask = np.zeros((12, 15), bool)
        y, x = rng.integers(0, 12), rng.integers(0, 15)
        mask[y : y + rng.integers(0, 13), x : x + rng.integers(0, 16)] = True
        mask &= rng.random((12, 15)) < 0.8
        tinted = tint(pixels, [mask], np.array([1]))
        assert (tinted[~mask] == pixels[~mask]).all()
        beside = np.pad(mask, 1, constant_values=True)  # beyond the image there is no neighbour
        inner = mask & beside[:-2, 1:-1] & beside[2:, 1:-1] & beside[1:-1, :-2] & beside[1:-1, 2:]
        inner[[0, -1]], inner[:, [0, -1]] = mask[[0, -1]], mask[:, [0, -1]]
        rgb = np.array([int(colour_of(1)[i : i + 2], 16) for i in (1, 3, 5)])
        assert (tinted[inner] == (0.45 * pixels[inner] + 0.55 * rgb).astype(np.uint8)).all()
        assert (tinted[mask & ~inner] == rgb // 2).all()


def test_no_masks_tint_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    assert (tint(pixels, np.zeros((0, 5, 6), bool), np.zeros(0, int)) == pixels).all()
