"""RoIAlign (section 3): features at a RoI's exact place, by bilinear interpolation, nothing rounded.

N images, C channels, H and W a map's sides in cells, R RoIs, S the side of a pooled map, p points along
a bin's side.

torchvision's operator does this on a GPU. On a CPU it works on one core and through memory channel by
channel; there a RoI's bin is the weighted sum of 4 p p cells, all channels of a cell lie side by side,
and `embedding_bag`, made for sums of rows of a table, does it on all cores, ten times as fast and more.

Either gives a bin's mean over its points. The mean of a single point is the point's value: where maxima are
asked for, a bin is cut into one for each point, and the maxima are taken of those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor

from mask_rcnn.config import PoolConfig
from stages.roi_pool import place, roi_pool


@dataclass(frozen=True)
class RoIPooling:
    """Takes each RoI's features from the map of its size, by any of the paper's three ways.

    Attributes:
        strides: of the maps that RoIs are taken from, finest first: 4, 8, 16, 32; further maps, the
            RPN's own, are not looked at.
        side: S.
        canonical_side: see `PyramidConfig`.
        shift: see `Backbone.shift`; of a single map, for no network that has one makes a pyramid. With it
            cell i of AlexNet and SqueezeNet is treated as one that looks at pixel 16 i, which is true
            of ResNet's. `half_pixel` is another question, and is put to all networks alike: False
            interpolates where such cells look; True half a cell further left and up, as detectron2 does
            with ResNet (and where VGG16's look). So it is not taken off the shift.
    """

    strides: tuple[int, ...]
    side: int
    config: PoolConfig
    canonical_side: float = 224.0
    shift: float = 0.0

    def __call__(self, maps: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
        """Of maps [N, C, H, W], the function of RoIs [R, 5] that pools them: [R, C, S, S].

        RoIs are an image's number and xyxy in pixels of the scaled image.
        """
        maps = list(maps[: len(self.strides)])
        kind, points = self.config.kind, self.config.points
        if kind != "pool" and points and maps[0].device.type == "cpu":
            if self._maxima:
                one = replace(self.config, points=1, aggregate="average")
                each = replace(self, side=self.side * points, config=one)(maps)
                return lambda rois: F.max_pool2d(each(rois), points)
            table = as_table(maps)
            sizes = [(of_map.shape[2], of_map.shape[3]) for of_map in maps]
            return lambda rois: self._from_table(table, sizes, len(maps[0]), rois)
        return lambda rois: self.by_operator(maps, rois)

    def levels(self, rois: Tensor) -> Tensor:
        """Which map each RoI [R, 5] is taken from, int64 [R] (FPN, equation 1)."""
        if len(self.strides) == 1:
            return torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
        x1, y1, x2, y2 = rois[:, 1:].unbind(1)
        side = ((x2 - x1) * (y2 - y1)).sqrt()
        # A hair more, so that a RoI of the canonical side itself is not the finer map's.
        above_16 = torch.floor(torch.log2(side / self.canonical_side) + 1e-6)
        finest = torch.tensor(self.strides[0] / 16).log2().item()
        return (above_16 - finest).clamp(0, len(self.strides) - 1).to(torch.int64)

    def _from_table(
        self, table: Tensor, sizes: Sequence[tuple[int, int]], images: int, rois: Tensor
    ) -> Tensor:
        levels = self.levels(rois)
        high, wide = rois.new_tensor(sizes)[levels].unbind(1)
        x1, y1, x2, y2 = self._edges(rois, levels).unbind(1)
        points = self.config.points
        rows, row_weights = interpolate(y1, y2, high, self.side, points)
        columns, column_weights = interpolate(x1, x2, wide, self.side, points)
        cells = [h * w for h, w in sizes]
        starts = torch.tensor([images * sum(cells[:i]) for i in range(len(cells))])
        first = starts[levels] + rois[:, 0].long() * torch.tensor(cells)[levels]
        places = (
            first[:, None, None, None, None]
            + rows[:, :, None, :, None] * wide.long()[:, None, None, None, None]
            + columns[:, None, :, None, :]
        )
        weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
        pooled = F.embedding_bag(
            places.flatten(0, 2).flatten(1),
            table,
            mode="sum",
            per_sample_weights=weights.flatten(0, 2).flatten(1).to(table.dtype),
        )
        square = (len(rois), self.side, self.side, table.shape[1])
        return pooled.view(square).permute(0, 3, 1, 2)

    def _edges(self, rois: Tensor, levels: Tensor) -> Tensor:
        """Where the RoIs are on their maps, [R, 4] in cells, a cell's value at a whole number."""
        edges = place(rois[:, 1:], self.shift) / rois.new_tensor(self.strides)[levels, None]
        if self.config.kind == "warp":
            # Halves away from 0, as RoIPool's code.
            edges = edges.sign() * (edges.abs() + 0.5).floor()
            edges = torch.cat([edges[:, :2], edges[:, 2:] + 1], dim=1)
        if self._at_middles:
            return edges - 0.5
        # At least a cell, as long as cells stood at their corners.
        return torch.cat([edges[:, :2], torch.maximum(edges[:, 2:], edges[:, :2] + 1)], dim=1)

    def by_operator(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """The same by torchvision's operator, which is the way on a GPU."""
        levels = self.levels(rois)
        order, parts = [], []
        for number, of_map in enumerate(maps):
            rows = (levels == number).nonzero()[:, 0]
            order.append(rows)
            parts.append(self._from_map(of_map, rois[rows], number))
        return torch.cat(parts)[torch.cat(order).argsort()]

    def _from_map(self, of_map: Tensor, rois: Tensor, number: int) -> Tensor:
        if self.config.kind == "pool":
            return roi_pool(of_map, rois, self.side, 1 / self.strides[number], self.shift)
        edges = self._edges(rois, torch.full_like(rois[:, 0], number, dtype=torch.int64))
        placed = torch.cat([rois[:, :1], edges], dim=1)
        if self._maxima:
            return self._largest(of_map, placed)
        return self._operator(of_map, placed, (self.side, self.side), self.config.points)

    def _largest(self, of_map: Tensor, placed: Tensor) -> Tensor:
        """Maxima over the points of each bin; RoIs with as many points go through the operator together.

        Args:
            placed: RoIs [R, 5], an image's number and where they are on the map, see `_edges`.
        """
        # As many as the bin has cells, which may be none for the operator's mean; here one at least.
        counts = ((placed[:, 3:] - placed[:, 1:3]) / self.side).ceil().clamp(min=1).long()
        if self.config.points:
            counts = torch.full_like(counts, self.config.points)
        none = counts[:0, 0]
        order, parts = [none], [self._operator(of_map, placed[none], (self.side, self.side), 1)]
        for across, down in counts.unique(dim=0).tolist():
            rows = ((counts[:, 0] == across) & (counts[:, 1] == down)).nonzero()[:, 0]
            square = (self.side * down, self.side * across)
            each = self._operator(of_map, placed[rows], square, 1)
            order.append(rows)
            parts.append(F.max_pool2d(each, (down, across)))
        return torch.cat(parts)[torch.cat(order).argsort()]

    def _operator(
        self, of_map: Tensor, placed: Tensor, square: tuple[int, int], points: int
    ) -> Tensor:
        """torchvision's, of bins `square`, down and across; `placed`: see `_largest`."""
        # It knows no bfloat16 on a CPU.
        wide = of_map.float() if of_map.dtype == torch.bfloat16 else of_map
        middles = self._at_middles
        if middles:  # it takes the half cell off itself; without, it widens what is under a cell
            placed = torch.cat([placed[:, :1], placed[:, 1:] + 0.5], dim=1)
        placed = placed.to(wide.dtype)
        pooled = torchvision.ops.roi_align(wide, placed, square, 1.0, points or -1, middles)
        return pooled.to(of_map.dtype)

    @property
    def _maxima(self) -> bool:
        """Whether a bin is the largest of its points."""
        return self.config.aggregate == "max" and self.config.kind != "pool"

    @property
    def _at_middles(self) -> bool:
        """Whether cells stand at their middles: those that RoIPool would take its maxima of do."""
        return self.config.half_pixel or self.config.kind == "warp"


def as_table(maps: Sequence[Tensor]) -> Tensor:
    """All cells of all maps [N, C, H, W], as rows [cells, C], map after map.

    In training in float32: a cell's gradient is the sum of what many RoIs say.
    """
    learning = torch.is_grad_enabled() and any(of_map.requires_grad for of_map in maps)
    rows = [of_map.permute(0, 2, 3, 1).reshape(-1, of_map.shape[1]) for of_map in maps]
    if learning and maps[0].dtype == torch.bfloat16:
        rows = [of_map.float() for of_map in rows]
    return torch.cat(rows)


def interpolate(
    start: Tensor, end: Tensor, length: Tensor, side: int, points: int
) -> tuple[Tensor, Tensor]:
    """Along one axis, the cells that make up each bin of each RoI, and how much of each.

    A point between two cells takes of each by its nearness; between the last cell and the edge, of that
    cell alone; more than a cell away from the map, nothing.

    Args:
        start, end: of the RoIs, [R], in cells, whose values are at whole numbers.
        length: of each one's map, [R], in cells.
        side: S; points: p.

    Returns:
        int64 [R, S, 2 p] and weights [R, S, 2 p], whose sum over a bin within the map is 1.
    """
    count = side * points
    step = (end - start) / count
    middle = torch.arange(count, dtype=start.dtype, device=start.device) + 0.5
    at = start[:, None] + middle * step[:, None]
    last = length[:, None] - 1
    outside = (at < -1) | (at > length[:, None])
    at = torch.minimum(at.clamp(min=0), last)
    low = at.floor()
    part = at - low
    cells = torch.stack([low, torch.minimum(low + 1, last)], dim=2).long()
    weights = torch.stack([1 - part, part], dim=2) / points
    weights = weights.masked_fill(outside[..., None], 0)
    return cells.view(-1, side, 2 * points), weights.view(-1, side, 2 * points)
