"""Which prior learns which object, and which learn nothing (section 2.1).

P priors, G objects of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from benchmarks.rivals.yolov3.priors import EACH, STRIDES, Priors
from stages.boxes import centres


@dataclass(frozen=True, eq=False)
class Assignment:
    """What the priors of an image are to learn.

    Attributes:
        places: int64 [G], each object's prior.
        wins: bool [G], whether its box is what the prior learns: of several objects with the same
            prior the last one's (released code); the classes are of all of them.
        ignored: bool [P], which priors learn no objectness.
    """

    places: Tensor
    wins: Tensor
    ignored: Tensor


def assign(
    priors: Priors, sizes: Tensor, boxes: Tensor, predicted: Tensor, ignored_iou: float
) -> Assignment:
    """One prior for each object: the best of the nine, in the cell that the object's centre is in.

    Best is whose shape overlaps the object's most, as if they had the same centre (released code).

    Args:
        sizes: [9, 2], see `place`.
        boxes: [G, 4], the objects', in pixels of the scaled image.
        predicted: [P, 4], of each prior, for `ignored_iou`: see `LossConfig`.
    """
    places = _places(priors, sizes, boxes)
    order = torch.arange(len(boxes), device=boxes.device)
    last = order.new_full((len(predicted),), -1).scatter_reduce(0, places, order, "amax")
    ignored = torch.zeros(len(predicted), dtype=torch.bool, device=boxes.device)
    if len(boxes):
        ignored = box_iou(boxes, predicted).amax(dim=0) > ignored_iou
        ignored[places] = False
    return Assignment(places, last[places] == order, ignored)


def _places(priors: Priors, sizes: Tensor, boxes: Tensor) -> Tensor:
    x, y, width, height = centres(boxes)
    both = torch.minimum(width[:, None], sizes[:, 0]) * torch.minimum(height[:, None], sizes[:, 1])
    union = (width * height)[:, None] + sizes.prod(dim=1) - both
    best = (both / union).argmax(dim=1)
    # Of the map that the best prior is of: its stride, its sides, and how many priors come before.
    level = best // EACH
    shapes = torch.tensor(priors.shapes, device=boxes.device)
    before = (shapes.prod(dim=1) * EACH).cumsum(0) - shapes.prod(dim=1) * EACH
    stride = torch.tensor(STRIDES, device=boxes.device)[level]
    h, w = shapes[level].unbind(1)
    # An object may end, but not lie, beyond the last cell.
    row = (y / stride).long().clamp(min=0).minimum(h - 1)
    column = (x / stride).long().clamp(min=0).minimum(w - 1)
    return before[level] + (row * w + column) * EACH + best % EACH
