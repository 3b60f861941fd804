"""The networks, each cut where the papers cut it: the trunk ends at stride 16, before the last max-pool."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise

import torch
import torchvision.models as zoo
from torch import Tensor, nn

from stages.backbones.backbone import Backbone
from stages.backbones.config import Name

CAFFENETS_CENTRE = 0.5  # of its first cell, as Fast R-CNN's released code pads it; see `centres`


def classifier(name: Name) -> nn.Module:
    """torchvision's whole classification network, with random weights."""
    return zoo.get_model(name, weights=None)  # type: ignore[no-any-return]


def cut(name: Name, network: nn.Module) -> Backbone:
    """Cut torchvision's network into a backbone. Shares its parameters."""
    if name == "alexnet":
        assert isinstance(network, zoo.AlexNet)
        fc6, fc7 = _linear(network.classifier)[:2]
        # 13x13 at 227 as at 224: 224 is what torchvision's weights were trained on.
        head = _fc_head(fc6, fc7)
        return Backbone(
            name, network.features[:-1], head, 256, 6, 4096, released_centre=CAFFENETS_CENTRE
        )
    if name == "vgg16":
        assert isinstance(network, zoo.VGG)
        fc6, fc7 = _linear(network.classifier)[:2]
        return Backbone(name, network.features[:-1], _fc_head(fc6, fc7), 512, 7, 4096)
    if name == "squeezenet1_1":
        assert isinstance(network, zoo.SqueezeNet)
        # Its own classifier averages over positions, which a detector must not forget:
        # it gets new fc6 and fc7 instead, over the map pooled as AlexNet's is.
        head = _fc_head(nn.Linear(512 * 6 * 6, 1024), nn.Linear(1024, 1024))
        _initialise(head)
        # Its last map is in the hundreds (pool5 of a photograph's window has a norm of 2,000 to
        # 4,000). New layers that learn from that as it is kill it: after 500 iterations 99 % of
        # pool5 was 0 for any window. A thirty-second of it gives fc6 outputs of about 1.
        trunk = nn.Sequential(*network.features, Scale(1 / 32))
        return Backbone(
            name, trunk, head, 512, 6, 1024, new=("head.",), released_centre=CAFFENETS_CENTRE
        )
    if name in ("resnet18", "resnet50"):
        assert isinstance(network, zoo.ResNet)
        trunk = nn.Sequential(
            OrderedDict(
                conv1=network.conv1,
                bn1=network.bn1,
                relu=network.relu,
                maxpool=network.maxpool,
                layer1=network.layer1,
                layer2=network.layer2,
                layer3=network.layer3,
            )
        )
        widths = (256, 512) if name == "resnet18" else (1024, 2048)
        head = nn.Sequential(
            OrderedDict(layer4=network.layer4, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
        )
        return Backbone(name, trunk, head, widths[0], 14, widths[1])
    if name == "mobilenet_v2":
        assert isinstance(network, zoo.MobileNetV2)
        head = nn.Sequential(
            OrderedDict(
                blocks=network.features[14:], pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()
            )
        )
        return Backbone(name, network.features[:14], head, 96, 14, 1280)
    raise ValueError(f"no torchvision network is cut for {name!r}")


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.factor


def crop_size(name: Name) -> int:
    """The side in pixels of the crops that the network takes: as it was trained."""
    return 64 if name == "tiny" else 224


def early_layers_of(name: Name) -> tuple[str, ...]:
    """Prefixes of the trunk's parameters that stay as they were pre-trained (Fast R-CNN, section 4.5).

    Edges and colours are the same for any task, and learning them costs most: the paper's conv1 of
    AlexNet, conv1 and conv2 of VGG16; elsewhere what sees a quarter of the resolution or more, and of
    `tiny`, pre-trained on drawings alone, the first layer.
    """
    layers: dict[Name, tuple[int | str, ...]] = {
        "tiny": (0,),
        "alexnet": (0,),
        "vgg16": (0, 2, 5, 7),
        "squeezenet1_1": (0, 3, 4),
        "mobilenet_v2": (0, 1, 2, 3),
        "resnet18": ("conv1", "bn1", "layer1"),
        "resnet50": ("conv1", "bn1", "layer1"),
    }
    return tuple(f"trunk.{layer}." for layer in layers[name])


def layers_of(name: Name) -> tuple[str, ...]:
    """The layers that features can be taken from, the last one last; without making the weights."""
    return _shapes_of(name).layers


def new_layers_of(name: Name) -> tuple[str, ...]:
    """Those of `layers_of` that no pre-training fills: what comes out of them untrained is noise."""
    backbone = _shapes_of(name)
    return tuple(
        layer for layer in backbone.layers[1:] if f"head.{layer}.".startswith(backbone.new)
    )


def fc_sizes_of(name: Name) -> dict[str, int]:
    """How many singular values each fully connected layer of the head has, by its name."""
    head = _shapes_of(name).head.named_children()
    return {
        layer: min(module[0].weight.shape)
        for layer, module in head
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Linear)
    }


def _shapes_of(name: Name) -> Backbone:
    """The network without its weights."""
    with torch.device("meta"):
        return tiny() if name == "tiny" else cut(name, classifier(name))


def tiny() -> Backbone:
    """A network for the default run: about 10 million multiply-adds for a crop of 64 pixels."""
    widths = (3, 24, 48, 96, 128, 128)
    blocks = [
        nn.Sequential(
            nn.Conv2d(before, after, 3, stride=1 if after == before else 2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        )
        for before, after in pairwise(widths)
    ]
    # No dropout: 256 features are few, and the schedules it is trained by are short.
    head = _fc_head(nn.Linear(128 * 4 * 4, 256), nn.Linear(256, 256), dropout=0.0)
    backbone = Backbone("tiny", nn.Sequential(*blocks), head, 128, 4, 256, crop_size("tiny"))
    _initialise(backbone)
    return backbone


def _fc_head(fc6: nn.Linear, fc7: nn.Linear, dropout: float = 0.5) -> nn.Sequential:
    """fc6 and fc7, each with ReLU and dropout (the papers: a half)."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc6=nn.Sequential(fc6, nn.ReLU()),
            drop6=nn.Dropout(dropout),
            fc7=nn.Sequential(fc7, nn.ReLU()),
            drop7=nn.Dropout(dropout),
        )
    )


def _linear(module: nn.Module) -> list[nn.Linear]:
    return [child for child in module.modules() if isinstance(child, nn.Linear)]


def _learnable(module: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    return (child for child in module.modules() if isinstance(child, (nn.Conv2d, nn.Linear)))


def _initialise(module: nn.Module) -> None:
    for layer in _learnable(module):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
