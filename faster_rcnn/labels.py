"""Which anchors are objects and which background, and the few of them that learn (section 3.1.2, 3.1.3).

N images, A anchors of an image, G objects in it, S anchors drawn of an image at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from faster_rcnn.anchors import inside
from faster_rcnn.config import LabelConfig

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
# Pairs of an object and an anchor that are compared at once, 40 bytes each: of 2,500 objects and 200,000
# anchors all would take 20 GB.
AT_ONCE = 2**22


def label_anchors(
    anchors: Tensor, gt_boxes: Tensor, size: tuple[int, int], config: LabelConfig
) -> tuple[Tensor, Tensor]:
    """What each anchor is to learn.

    Args:
        anchors: [A, 4] xyxy.
        gt_boxes: [G, 4], in the same pixels.
        size: the image's height and width in them.

    Returns:
        int8 [A], `POSITIVE`, `NEGATIVE` or `IGNORED`; and int64 [A], the object that overlaps it
        most, 0 where there is none.
    """
    allowed = inside(anchors, *size) if config.inside else anchors.new_ones(len(anchors)).bool()
    if len(gt_boxes) == 0:
        labels = torch.where(allowed, NEGATIVE, IGNORED).to(torch.int8)
        return labels, torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    highest, nearest = torch.full_like(anchors[:, 0], -2.0), torch.zeros_like(anchors[:, 0]).long()
    of_object = torch.zeros_like(allowed)
    some = max(1, AT_ONCE // max(len(anchors), 1))
    for first in range(0, len(gt_boxes), some):
        overlap = box_iou(gt_boxes[first : first + some], anchors)
        overlap = torch.where(allowed, overlap, -1.0)  # never an object's best
        value, index = overlap.max(dim=0)
        nearest = torch.where(value > highest, index + first, nearest)
        highest = torch.maximum(value, highest)
        # (i) of each object the best anchor, or all that are equally good; one that meets no anchor
        # has none: the released codes would give it every anchor of overlap 0.
        best = overlap.amax(dim=1, keepdim=True)
        of_object |= ((overlap == best) & (best > 0)).any(dim=0)
    # (ii) whatever overlaps any object enough.
    positive = of_object | (highest >= config.positive_iou)
    negative = allowed & ~positive & (highest < config.negative_iou)
    labels = torch.full_like(highest, IGNORED, dtype=torch.int8)
    return labels.masked_fill(positive, POSITIVE).masked_fill(negative, NEGATIVE), nearest


@dataclass(frozen=True, eq=False)
class AnchorSample:
    """Anchors drawn of each image: as many places for each image, not all of them used.

    Attributes:
        index: int64 [N, S].
        positive, used: bool [N, S].
    """

    index: Tensor
    positive: Tensor
    used: Tensor


def sample_anchors(
    labels: Tensor,
    config: LabelConfig,
    draws: Sequence[torch.Generator | None] | None = None,
) -> AnchorSample:
    """Draw `config.anchors` of each image, by chance, at most a part of them positive.

    Where positives are few, negatives take their places (section 3.1.3). No image waits for
    another, nor a GPU for a count: each anchor draws a number, and the highest are taken.

    Args:
        labels: int8 [N, A], see `label_anchors`.
        draws: each image's generator; None: the device's.
    """
    chance = torch.stack(
        [
            torch.rand(labels.shape[1], device=labels.device, generator=generator)
            for generator in draws or [None] * len(labels)
        ]
    )
    most = int(
        config.anchors * config.positive_fraction
    )  # cut, as in the Python codes: RoIs are rounded
    drawn, counts = [], labels.new_zeros(len(labels), 1, dtype=torch.int64)
    for kind, limit in ((POSITIVE, most), (NEGATIVE, config.anchors)):
        tickets = torch.where(labels == kind, chance, -1.0)
        ticket, index = tickets.topk(min(limit, labels.shape[1]), dim=1)
        rank = torch.arange(index.shape[1], device=labels.device)
        used = (ticket >= 0) & (rank < config.anchors - counts)
        counts = counts + used.sum(dim=1, keepdim=True)
        drawn.append((index, torch.full_like(used, kind == POSITIVE), used))
    index, positive, used = (torch.cat(parts, dim=1) for parts in zip(*drawn, strict=True))
    return AnchorSample(index, positive & used, used)
