"""The feature pyramid (FPN, section 3): maps of every stride, each as rich in meaning as the last.

N images, H and W of an image in pixels, C_i channels of stage i, C of the pyramid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.errors import InputError


@dataclass(frozen=True)
class Stage:
    """Where a network's maps of one stride end.

    Attributes:
        layer: the last one's name.
        channels: of its map.
        size: root mean square of what the map holds, of photographs, as far as it is not about 1.
            MobileNet's maps come from linear layers: what is built on them as if they were 1 diverges.
    """

    layer: str
    channels: int
    size: float = 1.0


# Of the trunk and the head's convolutions, by stride.
_STAGES: dict[Name, dict[int, Stage]] = {
    "tiny": {4: Stage("1", 48), 8: Stage("2", 96), 16: Stage("4", 128)},
    "mobilenet_v2": {
        4: Stage("3", 24, 4.2),
        8: Stage("6", 32, 4.9),
        16: Stage("13", 96, 3.1),
        32: Stage("18", 1280),
    },
    "resnet18": {
        4: Stage("layer1", 64),
        8: Stage("layer2", 128),
        16: Stage("layer3", 256),
        32: Stage("layer4", 512),
    },
    "resnet50": {
        4: Stage("layer1", 256),
        8: Stage("layer2", 512),
        16: Stage("layer3", 1024),
        32: Stage("layer4", 2048),
    },
}


class Pyramid(nn.Module):
    """From maps of falling size, top down: each the sum of what is above it and its own.

    Args:
        stages: what the maps are, finest first.
        width: C.
    """

    def __init__(self, stages: Sequence[Stage], width: int) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Conv2d(stage.channels, width, 1) for stage in stages)
        self.outer = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in stages)
        for layer in [*self.inner, *self.outer]:
            nn.init.kaiming_uniform_(layer.get_parameter("weight"), a=1)
            nn.init.zeros_(layer.get_parameter("bias"))
        with torch.no_grad():
            for layer, stage in zip(self.inner, stages, strict=True):
                layer.get_parameter("weight").div_(stage.size)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[N, C_i, H / s_i, W / s_i] -> [N, C, ...], and one more at twice the last stride.

        That one is every other cell of the last: the RPN's, for the largest anchors (section 4.1).
        """
        above = self.inner[-1](maps[-1])
        merged = [above]
        for layer, own in zip(self.inner[-2::-1], maps[-2::-1], strict=True):
            lateral = layer(own)
            above = lateral + F.interpolate(above, size=lateral.shape[2:], mode="nearest")
            merged.insert(0, above)
        found = [layer(of_map) for layer, of_map in zip(self.outer, merged, strict=True)]
        return [*found, found[-1][:, :, ::2, ::2]]


class PyramidTrunk(nn.Module):
    """A whole network's convolutions, and the pyramid over what its stages end in.

    Args:
        body: layers by name, run in order.
        ends: names of those whose maps the pyramid is made of, finest first.
    """

    def __init__(self, body: nn.Sequential, ends: Sequence[str], pyramid: Pyramid) -> None:
        super().__init__()
        self.body, self.ends, self.pyramid = body, tuple(ends), pyramid

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Normalised pixels [N, 3, H, W] -> the pyramid's maps, finest first."""
        maps = []
        for name, layer in self.body.named_children():
            pixels = layer(pixels)
            if name in self.ends:
                maps.append(pixels)
        return self.pyramid(maps)  # type: ignore[no-any-return]


def body_of(backbone: Backbone) -> nn.Sequential:
    """The backbone's trunk and, if they are convolutional, its head's layers, one after the other."""
    layers = OrderedDict(backbone.trunk.named_children())
    for name, part in backbone.head.named_children():
        if name == "blocks":  # MobileNetV2's last ones
            layers.update(part.named_children())
        elif name == "layer4":
            layers[name] = part
    return nn.Sequential(layers)


def stages_of(name: Name, finest: int) -> dict[int, Stage]:
    """The stages from stride `finest` on, by their strides.

    Raises:
        InputError: the network has no pyramid here.
    """
    if name not in _STAGES:
        raise InputError(f"BACKBONE={name}: Mask R-CNN's pyramid takes {', '.join(_STAGES)}")
    return {stride: stage for stride, stage in _STAGES[name].items() if stride >= finest}
