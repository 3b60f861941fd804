"""Pictures of images, boxes and detections, for looking at: most detection bugs are visible first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by colour-blind eyes too (Okabe and Ito).
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF")

TAG = 6.5  # points


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
    for box, label in zip(boxes, labels, strict=True):
        outline(axes, box, "white" if dashed else colour_of(int(label)), dashed)
    if not dashed:
        # After all outlines, so that none crosses a name.
        for i, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            name = short(classes[int(label) - 1], 20)
            text = name if scores is None else f"{name} {scores[i]:.2f}"
            tag(axes, box, text, colour_of(int(label)))


def outline(axes: Axes, box: np.ndarray, colour: str, dashed: bool = False) -> None:
    """A box [4] xyxy in a colour, on black, so that it is seen on any image."""
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = box
    for edge, width in (("black", 2.6), (colour, 1.4)):
        axes.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor=edge,
                linewidth=width,
                # Black all along, so that the dashes stand out on white too.
                linestyle=(0, (4, 3)) if dashed and edge == colour else "-",
            )
        )


def tag(axes: Axes, box: np.ndarray, text: str, colour: str) -> None:
    """Text on the upper edge of a box [4] xyxy, kept inside the image."""
    from matplotlib.colors import to_rgb

    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    above = box[1] - top > 0.07 * (bottom - top)
    to_the_right = box[0] - left < 0.6 * (right - left)
    dark = np.dot(to_rgb(colour), (0.3, 0.6, 0.1)) < 0.45
    axes.text(
        max(box[0], left) if to_the_right else min(box[2], right),
        max(box[1], top),
        text,
        fontsize=TAG,
        color="white" if dark else "black",
        va="bottom" if above else "top",
        ha="left" if to_the_right else "right",
        clip_on=True,
        parse_math=False,  # a class's name may have a dollar
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.9},
    )


def tint(
    pixels: np.ndarray, masks: np.ndarray | Sequence[np.ndarray], labels: np.ndarray
) -> np.ndarray:
    """The image with each mask in its class's colour, half seen through; the first on top.

    Args:
        pixels: uint8 [H, W, 3].
        masks: bool [n, H, W], or n times [H, W]; labels: int [n], from 1.
    """
    tinted = pixels.copy()
    for number in reversed(range(len(masks))):
        colour = colour_of(int(labels[number]))
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        whole = masks[number]
        part = _around(whole)
        if part is None:
            continue
        mask, under, over = whole[part], pixels[part], tinted[part]
        over[mask] = (0.45 * under[mask] + 0.55 * rgb).astype(np.uint8)
        # A line around it, where a neighbour is not its own.
        inside = mask.copy()
        inside[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        over[mask & ~inside] = rgb // 2
    return tinted


def _around(mask: np.ndarray) -> tuple[slice, slice] | None:
    """The part of a mask, bool [H, W], that has pixels, and one more on each side; None: it has none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return (
        slice(max(rows[0] - 1, 0), rows[-1] + 2),
        slice(max(columns[0] - 1, 0), columns[-1] + 2),
    )


def neighbourhood(
    image: np.ndarray, boxes: np.ndarray, margin: float = 0.35
) -> tuple[np.ndarray, np.ndarray]:
    """A square part of an image that holds all the boxes, as far as the image reaches.

    Args:
        image: [H, W, 3].
        boxes: [n, 4] xyxy, n > 0.
        margin: around the boxes, on each side, as a part of their longer side.

    Returns:
        a view [h, w, 3] of the image, and float64 [4], what to subtract from boxes in it.
    """
    size = np.array([image.shape[1], image.shape[0]])
    first, last = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    # At least 48 pixels: fewer show nothing but pixels.
    side = int(np.ceil(max((last - first).max() * (1 + 2 * margin), 48)))
    corner = np.clip(np.floor((first + last - side) / 2), 0, np.maximum(size - side, 0)).astype(int)
    x, y = corner
    return image[y : y + side, x : x + side], np.array([x, y, x, y], np.float64)


def short(text: str, letters: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= letters else text[: max(letters - 1, 1)] + "…"
