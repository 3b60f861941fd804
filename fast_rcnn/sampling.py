"""Hierarchical sampling: of each image a few RoIs (Fast R-CNN, section 2.3).

P proposals of an image, G its objects, R the RoIs drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from fast_rcnn.config import SamplingConfig


@dataclass(frozen=True, eq=False)
class Sample:
    """RoIs to learn from, positives first.

    Attributes:
        rois: [R, 4] xyxy.
        labels: int64 [R], 0 for background.
        gt_boxes: [R, 4], each one's object; of background whichever is nearest, zeros if there is none.
        objects: int64 [R], that object's place in the target; 0 if there is none.
    """

    rois: Tensor
    labels: Tensor
    gt_boxes: Tensor
    objects: Tensor


def sample(proposals: Tensor, target: Mapping[str, Tensor], config: SamplingConfig) -> Sample:
    """Draw RoIs among an image's proposals and its objects' own boxes.

    Drawn from torch's generator of the device: reproducible when that was seeded.

    Args:
        proposals: float [P, 4] xyxy.
        target: `boxes` [G, 4], `labels` [G], `iscrowd` bool [G].
    """
    use = ~target["iscrowd"]
    boxes, labels = target["boxes"][use], target["labels"][use]
    rois = torch.cat([boxes, proposals])
    if len(boxes):
        overlap, nearest = box_iou(rois, boxes).max(dim=1)
        gt_boxes, gt_labels = boxes[nearest], labels[nearest]
        objects = use.nonzero()[:, 0][nearest]
    else:
        overlap, gt_boxes = rois.new_zeros(len(rois)), torch.zeros_like(rois)
        objects = gt_labels = torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
    low, high = config.background_iou
    positive = overlap >= config.positive_iou
    background = (overlap >= low) & (overlap < high) & ~positive
    positives = _draw(positive, int(config.rois * config.positive_fraction))
    backgrounds = _draw(background, config.rois - len(positives))
    drawn = torch.cat([positives, backgrounds])
    drawn_labels = gt_labels[drawn]
    drawn_labels[len(positives) :] = 0
    return Sample(rois[drawn], drawn_labels, gt_boxes[drawn], objects[drawn])


def _draw(candidates: Tensor, count: int) -> Tensor:
    """At most `count` rows among those marked, without replacement."""
    rows = candidates.nonzero()[:, 0]
    return rows[torch.randperm(len(rows), device=rows.device)[:count]]
