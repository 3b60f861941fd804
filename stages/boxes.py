"""Boxes: continuous x1 y1 x2 y2 in pixels. The "+1" of inclusive pixels appears nowhere here.

R boxes (RoIs), K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Offsets of log size are held under this before exp: a wild regression must not overflow
# (released Faster R-CNN and torchvision: 1000 pixels over the stride of 16).
MAX_LOG_SCALE = math.log(1000 / 16)


def encode(boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """Regression targets from each box to its ground truth (R-CNN, appendix C, eq. 6-9).

    Args:
        boxes, gt_boxes: [R, 4], with positive width and height.

    Returns:
        [R, 4]: t_x, t_y in units of the box's size, t_w, t_h logarithms.
    """
    x, y, w, h = centres(boxes)
    gt_x, gt_y, gt_w, gt_h = centres(gt_boxes)
    return torch.stack(
        [(gt_x - x) / w, (gt_y - y) / h, torch.log(gt_w / w), torch.log(gt_h / h)], dim=-1
    )


def decode(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Boxes moved by offsets (R-CNN, appendix C, eq. 1-4); the inverse of `encode`.

    Args:
        boxes: [..., 4]; offsets: [..., 4], broadcast against each other.
    """
    x, y, w, h = centres(boxes)
    dx, dy, dw, dh = offsets.unbind(-1)
    new_x, new_y = x + dx * w, y + dy * h
    half_w = w * torch.exp(dw.clamp(max=MAX_LOG_SCALE)) / 2
    half_h = h * torch.exp(dh.clamp(max=MAX_LOG_SCALE)) / 2
    return torch.stack([new_x - half_w, new_y - half_h, new_x + half_w, new_y + half_h], dim=-1)


def centres(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, centre y, width, height of [..., 4]."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes [..., 4] cut to the image."""
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)
