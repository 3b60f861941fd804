"""Hierarchical sampling: of each image a few RoIs (Fast R-CNN, section 2.3), or the hardest of all.

P proposals of an image, G its objects, R the RoIs drawn; of several images together where it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from fast_rcnn.config import SamplingConfig
from stages.errors import InputError
from stages.training.draws import draws_of

DUPLICATE_IOU = 0.7  # OHEM, section 4.1


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


def sample(proposals: Tensor, target: Mapping[str, Any], config: SamplingConfig) -> Sample:
    """Draw RoIs among an image's proposals and its objects' own boxes.

    Drawn by `draws_of(target)`: reproducible.

    Args:
        proposals: float [P, 4] xyxy.
        target: `boxes` [G, 4], `labels` [G], `iscrowd` bool [G], perhaps `seed`.

    Raises:
        InputError: hard RoIs are asked for, which the caller would have to choose with `hardest`.
    """
    if config.hard:
        raise InputError("sampling.hard: Fast R-CNN's alone; here RoIs are drawn by chance")
    every, positive, background = _label(proposals, target, config)
    generator = draws_of(target, proposals.device)
    # Rounded, and halves to the even number, as in the released codes, which are in NumPy: of 6 RoIs 2,
    # of 10 also 2.
    most = round(config.rois * config.positive_fraction)
    positives = _draw(positive, most, generator)
    backgrounds = _draw(background, config.rois - len(positives), generator)
    return _choose(every, positives, backgrounds)


def candidates(proposals: Tensor, target: Mapping[str, Any], config: SamplingConfig) -> Sample:
    """All of an image's RoIs that qualify, for `hardest` to choose from; arguments as `sample`'s."""
    every, positive, background = _label(proposals, target, config)
    return _choose(every, positive.nonzero()[:, 0], background.nonzero()[:, 0])


def hardest(losses: Tensor, rois: Tensor, images: Tensor, count: int) -> Tensor:
    """The RoIs that the network does worst on, at most `count` (OHEM, section 4.1).

    RoIs in one place have one loss, which would be counted as often: of two of an image that overlap
    by more than 0.7, whatever their labels, the harder stays. (The released code compares those of one
    label only.) They are the hardest of the step, as in the released code, where the paper's text takes
    as many of each image: an image with nothing hard in it would teach what is known.

    Args:
        losses: [R], of all images of the step; rois: [R, 4] xyxy; images: [R], each one's image.

    Returns:
        int64, their rows, hardest first.
    """
    return batched_nms(rois.float(), losses.float(), images, DUPLICATE_IOU)[:count]


def lowest_background(config: SamplingConfig) -> float:
    """The IoU from which a RoI is background: of hard ones any (OHEM, section 3.1, "Background RoIs")."""
    return 0.0 if config.hard else config.background_iou[0]


def _label(
    proposals: Tensor, target: Mapping[str, Any], config: SamplingConfig
) -> tuple[Sample, Tensor, Tensor]:
    """Every RoI with the object it is nearest to, and which are positive, and background: bool [R]."""
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
    low, high = lowest_background(config), config.background_iou[1]
    positive = overlap >= config.positive_iou
    background = (overlap >= low) & (overlap < high) & ~positive
    return Sample(rois, gt_labels, gt_boxes, objects), positive, background


def _choose(every: Sample, positives: Tensor, backgrounds: Tensor) -> Sample:
    """Those rows of `every`."""
    rows = torch.cat([positives, backgrounds])
    labels = every.labels[rows]
    labels[len(positives) :] = 0
    return Sample(every.rois[rows], labels, every.gt_boxes[rows], every.objects[rows])


def _draw(candidates: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """At most `count` rows among those marked, without replacement."""
    rows = candidates.nonzero()[:, 0]
    return rows[torch.randperm(len(rows), device=rows.device, generator=generator)[:count]]
