"""Bounding box priors in every cell of every map, and boxes as offsets from them (section 2.1, figure 2).

P priors of all maps, h and w a map's sides in cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.boxes import MAX_LOG_SCALE, centres

STRIDES = (8, 16, 32)  # of the maps, in pixels of the scaled image, finest first
EACH = 3  # priors of a cell (section 2.3)
Sizes = Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Priors:
    """What is predicted at each place, map by map, row by row, a cell's three together.

    Attributes:
        corners: [P, 2], x y of the cell's top left corner: c_x, c_y in pixels of the scaled image.
        strides: [P, 1], the cell's side.
        sizes: [P, 2], the prior's width and height, p_w and p_h.
        shapes: each map's h and w, finest first.
    """

    corners: Tensor
    strides: Tensor
    sizes: Tensor
    shapes: list[tuple[int, int]]

    def boxes(self) -> Tensor:
        """The priors in the middle of their cells, [P, 4] xyxy: what all offsets of 0 predict."""
        return self.decode(torch.zeros_like(self.sizes).repeat(1, 2))

    def decode(self, offsets: Tensor, places: Tensor | None = None) -> Tensor:
        """b_x = sigma(t_x) + c_x, b_w = p_w exp(t_w), and so on: [R, 4] xyxy.

        Args:
            offsets: [R, 4], t_x t_y t_w t_h.
            places: int64 [R], of the priors they are from; None: all of them.
        """
        corners, strides, sizes = self._at(places)
        middles = corners + strides * offsets[:, :2].sigmoid()
        halves = sizes * offsets[:, 2:].clamp(max=MAX_LOG_SCALE).exp() / 2
        return torch.cat([middles - halves, middles + halves], dim=1)

    def encode(self, boxes: Tensor, places: Tensor) -> Tensor:
        """What is to be predicted for boxes [R, 4] xyxy: [R, 4], sigma(t_x) sigma(t_y) t_w t_h."""
        corners, strides, sizes = self._at(places)
        x, y, width, height = centres(boxes)
        middles = (torch.stack([x, y], dim=1) - corners) / strides
        return torch.cat([middles, (torch.stack([width, height], dim=1) / sizes).log()], dim=1)

    def _at(self, places: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if places is None:
            return self.corners, self.strides, self.sizes
        return self.corners[places], self.strides[places], self.sizes[places]


def place(sizes: Tensor, shapes: Sequence[tuple[int, int]]) -> Priors:
    """The priors of maps of these shapes.

    Args:
        sizes: [9, 2], widths and heights in pixels of the scaled image, smallest area first: the
            first three are the finest map's.
    """
    corners, strides, each = [], [], []
    for (h, w), stride, of_map in zip(shapes, STRIDES, sizes.split(EACH), strict=True):
        rows, columns = torch.meshgrid(
            *(torch.arange(cells, device=sizes.device) for cells in (h, w)), indexing="ij"
        )
        cells = torch.stack([columns, rows], dim=-1).reshape(-1, 2).to(sizes.dtype)
        corners.append((cells * stride).repeat_interleave(EACH, dim=0))
        strides.append(sizes.new_full((h * w * EACH, 1), stride))
        each.append(of_map.repeat(h * w, 1))
    return Priors(torch.cat(corners), torch.cat(strides), torch.cat(each), list(shapes))
