"""Boxes, outlines and masks turned as Pillow turns the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pycocotools import mask as coco

from stages.data.records import Record
from stages.data.segmentation import draw_segmentations
from stages.data.turning import METHODS, SIDEWAYS, turned_pixels, turned_points, turned_record

WIDTH, HEIGHT = 13, 9


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """By Pillow, from the tag."""
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    turned = ImageOps.exif_transpose(image)
    assert turned is not None
    return np.asarray(turned)


def record_of(box: tuple[int, int, int, int]) -> Record:
    x1, y1, x2, y2 = box
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y1:y2, x1:x2] = 1
    corners = np.array([x1, y1, x2, y1, x2, y2, x1, y2], np.float64)
    runs = coco.encode(np.asfortranarray(mask))["counts"]
    boxes = np.array([box, box], np.float32)
    return Record(
        "a",
        Path("a.jpg"),
        WIDTH,
        HEIGHT,
        boxes,
        np.array([1, 2]),
        np.zeros(2, bool),
        np.zeros(2, bool),
        segmentations=((corners,), runs),
        true_boxes=boxes.astype(np.float64),
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@given(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(6, WIDTH), st.integers(4, HEIGHT))
)
def test_boxes_and_masks_go_where_the_pixels_go(
    orientation: int, box: tuple[int, int, int, int]
) -> None:
    x1, y1, x2, y2 = box
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[y1:y2, x1:x2] = 1
    expected = upright(pixels, orientation)
    turned = turned_record(record_of(box), orientation)
    assert (turned.height, turned.width) == expected.shape
    rows, columns = np.nonzero(expected)
    extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert turned.boxes.tolist() == [extent, extent]
    assert turned.boxes.dtype == np.float32
    assert turned.true_boxes is not None and turned.true_boxes.tolist() == [extent, extent]
    assert turned.segmentations is not None
    masks = draw_segmentations(turned.segmentations, turned.width, turned.height)
    assert (masks == expected.astype(bool)).all()
    assert (turned_pixels(pixels, orientation) == expected).all()


@pytest.mark.parametrize("orientation", METHODS)
def test_a_point_by_hand(orientation: int) -> None:
    """The stored image's upper left corner."""
    corner = {2: "right top", 3: "right bottom", 4: "left bottom", 5: "left top"}
    corner |= {6: "right top", 7: "right bottom", 8: "left bottom"}
    width, height = (HEIGHT, WIDTH) if orientation in SIDEWAYS else (WIDTH, HEIGHT)
    across, down = corner[orientation].split()
    expected = [{"left": 0, "right": width}[across], {"top": 0, "bottom": height}[down]]
    assert turned_points(np.zeros((1, 2)), WIDTH, HEIGHT, orientation).tolist() == [expected]
