"""Truncated SVD: a large layer as two small ones (Fast R-CNN, section 3.1).

u x v a layer's weights, t singular values kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fast_rcnn.config import SVDConfig
from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.backbones.networks import fc_sizes_of
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
        InputError: see `check_ranks`; or the layer is two already.
    """
    check_ranks(backbone.name, config)
    for name, kept in (("fc6", config.fc6), ("fc7", config.fc7)):
        if kept is not None:
            layer = backbone.head.get_submodule(name)
            assert isinstance(layer, nn.Sequential)
            whole = layer[0]
            if not isinstance(whole, nn.Linear):
                raise InputError(f"svd: {name} is decomposed already")
            layer[0] = how(whole, kept)


def check_ranks(backbone: Name, config: SVDConfig) -> None:
    """Whether the network can be decomposed so.

    Raises:
        InputError: its head has no such layer, or fewer singular values than are to be kept.
    """
    limits = fc_sizes_of(backbone)
    for name, kept in (("fc6", config.fc6), ("fc7", config.fc7)):
        if kept is not None and name not in limits:
            raise InputError(f"svd: {backbone} has no {name} to decompose")
        if kept is not None and not 0 < kept <= limits[name]:
            raise InputError(
                f"svd: {name} has {limits[name]} singular values, {kept} cannot be kept"
            )


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
