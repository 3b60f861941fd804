"""The real networks' layers and padding, each made to average: what a cell says is where it looks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.backbones.networks import Scale
from stages.backbones.weights import Weights, build_backbone

SILENT = (nn.ReLU, nn.ReLU6, nn.BatchNorm2d, Scale)


def averaging(name: Name) -> Backbone:
    """Of an image that is a ramp, a cell far from the edges has the ramp's value at its centre.

    Images are not normalised. Residual branches are added as ever, and a cell of theirs is a multiple.
    """
    backbone = build_backbone(name, Weights(None, "random")).eval()
    for parent in list(backbone.trunk.modules()):
        for key, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, key, pool)
            elif isinstance(child, SILENT):
                setattr(parent, key, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                nn.init.constant_(child.weight, 1 / child.weight[0].numel())
                if child.bias is not None:
                    nn.init.zeros_(child.bias)
    backbone.mean.zero_()
    backbone.std.fill_(1)
    return backbone


def ramp(side: int) -> Tensor:
    """float32 [3, side, side], from 0 at the left edge to 1 at the right one."""
    across = (torch.arange(side) + 0.5) / side
    return across.expand(3, side, side).contiguous()


def dot(side: int, x: int, y: int) -> Tensor:
    """Black, float32 [3, side, side], but for pixel (x, y)."""
    image = torch.zeros(3, side, side)
    image[:, y, x] = 1
    return image
