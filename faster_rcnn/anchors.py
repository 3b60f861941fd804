"""Anchors: at every position of a map the same boxes, of several sizes and shapes (section 3.1.1).

A anchors of a map, k anchors of a position, h and w the map's sides in cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def base_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """One position's anchors around the origin, [k, 4] xyxy, all sizes of a ratio together.

    Args:
        sizes: square roots of the areas, which the ratios keep, in pixels.
        ratios: height over width.
    """
    root = torch.tensor(ratios).sqrt()[:, None]
    heights, widths = (root * torch.tensor(sizes)).flatten(), (torch.tensor(sizes) / root).flatten()
    return torch.stack([-widths, -heights, widths, heights], dim=1) / 2


def grid_anchors(
    base: Tensor, h: int, w: int, stride: int | tuple[int, int], centre: float
) -> Tensor:
    """Every position's anchors, [A, 4], row by row, a position's k together; A = h * w * k.

    Those that cross the image's edge are among them.

    Args:
        base: see `base_anchors`.
        stride: of the map, in pixels, or the two down and across.
        centre: where in its cell an anchor's centre is, in cells.
    """
    down, across = (stride, stride) if isinstance(stride, int) else stride
    x, y = (
        (torch.arange(cells, device=base.device, dtype=base.dtype) + centre) * step
        for cells, step in ((w, across), (h, down))
    )
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    positions = torch.stack([columns, rows, columns, rows], dim=-1).reshape(-1, 1, 4)
    return (positions + base).reshape(-1, 4)


def inside(anchors: Tensor, height: int, width: int) -> Tensor:
    """Which anchors, bool [A], lie wholly in an image of so many pixels."""
    x1, y1, x2, y2 = anchors.unbind(1)
    return (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height)
