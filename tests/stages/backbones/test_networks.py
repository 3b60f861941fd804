"""Every network, cut: still torchvision's own, up to the last feature."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.backbones.networks import (
    classifier,
    crop_size,
    cut,
    early_layers_of,
    new_layers_of,
    tiny,
)

NAMES: tuple[Name, ...] = get_args(Name)
LAYERS: dict[str, tuple[str, ...]] = {
    "tiny": ("pool5", "fc6", "fc7"),
    "squeezenet1_1": ("pool5", "fc6", "fc7"),
    "alexnet": ("pool5", "fc6", "fc7"),
    "vgg16": ("pool5", "fc6", "fc7"),
    "mobilenet_v2": ("pool5", "blocks", "pool"),
    "resnet18": ("pool5", "layer4", "pool"),
    "resnet50": ("pool5", "layer4", "pool"),
}
# Channels of the trunk, side of the pooled map, features of the head: as the papers give them.
SIZES: dict[str, tuple[int, int, int]] = {
    "tiny": (128, 4, 256),
    "squeezenet1_1": (512, 6, 1024),
    "alexnet": (256, 6, 4096),
    "vgg16": (512, 7, 4096),
    "mobilenet_v2": (96, 14, 1280),
    "resnet18": (256, 14, 512),
    "resnet50": (1024, 14, 2048),
}
# Of torchvision's network: the module that gives its last feature.
LAST: dict[str, Callable[[Any], nn.Module]] = {
    "alexnet": lambda network: network.classifier[5],  # the ReLU after fc7
    "vgg16": lambda network: network.classifier[4],  # the ReLU after fc7
    "resnet18": lambda network: network.avgpool,
    "resnet50": lambda network: network.avgpool,
    # Its vector is pooled by a function: dropout, nothing in evaluation, is what sees it first.
    "mobilenet_v2": lambda network: network.classifier[0],
}


@dataclass
class Cut:
    """torchvision's network (none for `tiny`) and the backbone cut from it."""

    name: Name
    network: Any
    backbone: Backbone


@pytest.fixture(scope="module", params=NAMES)
def cut_network(request: pytest.FixtureRequest) -> Iterator[Cut]:
    name: Name = request.param
    torch.manual_seed(0)
    network = None if name == "tiny" else classifier(name)
    backbone = tiny() if network is None else cut(name, network)
    # Statistics that are not the identity, or a batch norm lost on the way would not show.
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.7, 1.5)
    if network is not None:
        network.eval()
    with torch.inference_mode():
        yield Cut(name, network, backbone.eval())


def crops(cut: Cut, count: int = 1) -> Tensor:
    side = cut.backbone.crop_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_the_trunk_ends_at_stride_16(cut_network: Cut) -> None:
    trunk = cut_network.backbone.trunk
    narrow, wide = (trunk(torch.zeros(1, 3, 64, width)).shape[-1] for width in (160, 320))
    assert (wide - narrow) * cut_network.backbone.stride == 160
    assert cut_network.backbone.stride == 16


def test_a_crop_becomes_the_map_of_its_training(cut_network: Cut) -> None:
    channels, _, _ = SIZES[cut_network.name]
    shape = cut_network.backbone.trunk(crops(cut_network)).shape
    assert shape[:2] == (1, channels)
    assert shape[2] == shape[3]
    assert shape[2] in ((4,) if cut_network.name == "tiny" else (13, 14))


def test_the_head_takes_what_pooling_gives(cut_network: Cut) -> None:
    backbone = cut_network.backbone
    channels, roi_size, features = SIZES[cut_network.name]
    assert (backbone.channels, backbone.roi_size, backbone.features) == SIZES[cut_network.name]
    pooled = backbone.pool5(torch.zeros(2, channels, 15, 9))
    assert pooled.shape == (2, channels, roi_size, roi_size)
    assert backbone.head(pooled).shape == (2, features)


def test_layers(cut_network: Cut) -> None:
    backbone = cut_network.backbone
    assert backbone.layers == LAYERS[cut_network.name]
    pooled = torch.randn(2, backbone.channels, backbone.roi_size, backbone.roi_size)
    assert all(backbone.until(layer, pooled).ndim == 2 for layer in backbone.layers)
    last = backbone.until(backbone.layers[-1], pooled)
    assert torch.equal(last, backbone.head(pooled))


def test_the_papers_heads_drop_a_half(cut_network: Cut) -> None:
    chances = [m.p for m in cut_network.backbone.head.modules() if isinstance(m, nn.Dropout)]
    wanted = cut_network.name in ("alexnet", "vgg16", "squeezenet1_1")
    assert [p for p in chances if p] == ([0.5, 0.5] if wanted else [])


def test_it_is_torchvisions_network_up_to_the_last_feature(cut_network: Cut) -> None:
    name, network, backbone = cut_network.name, cut_network.network, cut_network.backbone
    images = crops(cut_network)
    if name == "tiny":
        pytest.skip("not torchvision's")
    if name == "squeezenet1_1":  # its classifier is not kept: its last feature is the map, scaled
        ours, theirs = 32 * backbone.trunk(images), network.features(images)
    else:
        seen: list[Tensor] = []
        hook = LAST[name](network).register_forward_hook(
            lambda module, inputs, output: seen.append(output.flatten(1).clone())
        )
        network(images)
        hook.remove()
        ours, theirs = backbone(images), seen[0]
    assert theirs.std() > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_the_parameters_are_the_networks_own(cut_network: Cut) -> None:
    if cut_network.network is None:
        pytest.skip("not torchvision's")
    own = {id(p) for p in cut_network.network.parameters()}
    new = cut_network.backbone.new
    for name, p in cut_network.backbone.named_parameters():
        is_new = bool(new) and name.startswith(new)
        assert (id(p) in own) != is_new, name
    assert bool(new) == (cut_network.name == "squeezenet1_1")


def test_frozen_batch_norm_changes_nothing(cut_network: Cut) -> None:
    if not any(isinstance(m, nn.BatchNorm2d) for m in cut_network.backbone.modules()):
        pytest.skip("has no batch norm")
    if cut_network.name == "resnet50":
        pytest.skip("as resnet18, and slower")
    images = crops(cut_network, 2)
    before = cut_network.backbone(images)
    frozen = copy.deepcopy(cut_network.backbone)
    freeze_batch_norm(frozen)
    torch.testing.assert_close(frozen.train().trunk(images), frozen.eval().trunk(images))
    torch.testing.assert_close(
        frozen(images), before, rtol=1e-4, atol=1e-5 * float(before.abs().max())
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_crop_size_is_known_without_the_network(name: Name) -> None:
    assert crop_size(name) == (64 if name == "tiny" else 224)


def test_tiny_says_the_same_crop_size() -> None:
    assert tiny().crop_size == crop_size("tiny")


def test_only_torchvisions_are_cut() -> None:
    with pytest.raises(ValueError, match="tiny"):
        cut("tiny", nn.Identity())


def test_layers_that_no_pre_training_fills() -> None:
    assert new_layers_of("squeezenet1_1") == ("fc6", "fc7")
    assert new_layers_of("vgg16") == new_layers_of("resnet18") == new_layers_of("tiny") == ()


# Of the trunk, what stays as it was pre-trained: parameters that learn, biases not named apart.
EARLY: dict[str, set[str]] = {
    "tiny": {"0"},
    "alexnet": {"0"},  # conv1
    "vgg16": {"0", "2", "5", "7"},  # conv1_1, conv1_2, conv2_1, conv2_2
    "squeezenet1_1": {"0", "3", "4"},
    "mobilenet_v2": {"0", "1", "2", "3"},
    "resnet18": {"conv1", "bn1", "layer1"},
    "resnet50": {"conv1", "bn1", "layer1"},
}


def test_the_early_layers_are_the_papers(cut_network: Cut) -> None:
    early = early_layers_of(cut_network.name)
    names = [name for name, _ in cut_network.backbone.named_parameters()]
    held = {name.split(".")[1] for name in names if name.startswith(early)}
    assert held == EARLY[cut_network.name]
    # Each prefix is of something: none has been renamed away.
    assert all(any(name.startswith(prefix) for name in names) for prefix in early)
    assert not any(name.startswith("head.") for name in names if name.startswith(early))


def test_what_sees_a_quarter_of_the_resolution_or_more_is_early(cut_network: Cut) -> None:
    name = cut_network.name
    # By the paper VGG16 learns from conv3_1 on, which sees a quarter; tiny has so few layers that
    # only its first stays.
    finest = 2 if name in ("vgg16", "tiny") else 4
    early, sizes = early_layers_of(name), {}

    def watch(layer: str, module: nn.Module) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            sizes[f"trunk.{layer}."] = output.shape[-1]

        return module.register_forward_hook(note)

    hooks = [
        watch(layer, module)
        for layer, module in cut_network.backbone.trunk.named_children()
        if any(True for _ in module.parameters())
    ]
    cut_network.backbone.trunk(torch.zeros(1, 3, 128, 128))
    for hook in hooks:
        hook.remove()
    # Without padding AlexNet's first map is a cell short of a quarter.
    fine = {layer for layer, size in sizes.items() if size >= 128 // finest - 1}
    assert fine == set(early)
