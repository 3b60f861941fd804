"""Truncated SVD: a large layer as two small ones (Fast R-CNN, section 3.1).

u x v a layer's weights, t singular values kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fast_rcnn.config import SVDConfig
from stages.backbones.backbone import Backbone
from stages.errors import InputError


def compress(
    backbone: Backbone,
    config: SVDConfig,
    how: Callable[[nn.Linear, int], nn.Sequential],
) -> None:
    """Replace fc6 and fc7 of the backbone's head, in place, by two layers each.

    Args:
        how: `split`, or `two_layers` where the weights come from a file.

    Raises:
        InputError: the head has no such layer, or fewer singular values than are to be kept.
    """
    for name, kept in (("fc6", config.fc6), ("fc7", config.fc7)):
        if kept is None:
            continue
        layer = getattr(backbone.head, name, None)
        if not isinstance(layer, nn.Sequential) or not isinstance(layer[0], nn.Linear):
            raise InputError(f"svd: {backbone.name} has no {name} to decompose")
        limit = min(layer[0].weight.shape)
        if not 0 < kept <= limit:
            raise InputError(f"svd: {name} has {limit} singular values, {kept} cannot be kept")
        layer[0] = how(layer[0], kept)


def two_layers(layer: nn.Linear, kept: int) -> nn.Sequential:
    """v to t without a bias, then t to u with one: t (u + v) multiplications instead of u v."""
    return nn.Sequential(
        nn.Linear(layer.in_features, kept, bias=False), nn.Linear(kept, layer.out_features)
    ).to(layer.weight.device, layer.weight.dtype)


@torch.no_grad()
def split(layer: nn.Linear, kept: int) -> nn.Sequential:
    """W = U S V^T of its t largest singular values: S V^T, then U with the layer's bias."""
    u, s, v = torch.linalg.svd(layer.weight.float(), full_matrices=False)
    both = two_layers(layer, kept)
    both[0].load_state_dict({"weight": s[:kept, None] * v[:kept]})
    both[1].load_state_dict({"weight": u[:, :kept], "bias": layer.bias})
    return both
