"""The pyramid by hand and against torchvision's; each backbone's stages."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from mask_rcnn.pyramid import Pyramid, PyramidTrunk, Stage, body_of, stages_of
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from stages.errors import InputError

WITH_PYRAMID: tuple[Name, ...] = ("tiny", "mobilenet_v2", "resnet18", "resnet50")


def make_maps(sides: list[tuple[int, int]], channels: list[int]) -> list[Tensor]:
    torch.manual_seed(0)
    return [
        torch.randn(2, width, high, wide)
        for width, (high, wide) in zip(channels, sides, strict=True)
    ]


@pytest.mark.parametrize(
    ("sides", "channels"),
    [
        ([(16, 24), (8, 12), (4, 6), (2, 3)], [4, 6, 8, 10]),
        ([(12, 20), (6, 10), (3, 5)], [4, 6, 8]),
        ([(7, 9), (4, 5), (2, 3)], [3, 3, 3]),  # sides that are no double of the next
        ([(5, 7)], [8]),
    ],
)
def test_as_torchvision(sides: list[tuple[int, int]], channels: list[int]) -> None:
    maps = make_maps(sides, channels)
    stages = [Stage("", count) for count in channels]
    ours, theirs = Pyramid(stages, 5), FeaturePyramidNetwork(channels, 5, LastLevelMaxPool())
    state: dict[str, Tensor] = {}
    for key, value in ours.state_dict().items():
        name, number, kind = key.split(".")
        blocks = {"inner": "inner_blocks", "outer": "layer_blocks"}[name]
        state[f"{blocks}.{number}.0.{kind}"] = value.normal_()  # biases, too
    theirs.load_state_dict(state)
    expected = theirs(OrderedDict((str(n), of_map) for n, of_map in enumerate(maps)))
    found = ours(maps)
    assert len(found) == len(maps) + 1
    for of_ours, of_theirs in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(of_ours, of_theirs)


def test_by_hand() -> None:
    """What is coarse is repeated and added; then every other cell of the last."""
    pyramid = Pyramid([Stage("", 1)] * 2, 1)
    for inner in pyramid.inner:
        nn.init.ones_(inner.get_parameter("weight"))
    for outer in pyramid.outer:  # as if it were not there
        nn.init.dirac_(outer.get_parameter("weight"))
    fine, coarse = (
        torch.arange(16.0).reshape(1, 1, 4, 4),
        torch.tensor([[[[100.0, 200], [300, 0]]]]),
    )
    found = pyramid([fine, coarse])
    assert found[0][0, 0].tolist() == [
        [100, 101, 202, 203],
        [104, 105, 206, 207],
        [308, 309, 10, 11],
        [312, 313, 14, 15],
    ]
    assert found[1][0, 0].tolist() == [[100, 200], [300, 0]]
    assert found[2].tolist() == [[[[100]]]]


def test_biases_are_0_at_first() -> None:
    stages = [Stage("", 2), Stage("", 3)]
    found = Pyramid(stages, 4)([torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 2, 2)])
    assert all((of_map == 0).all() for of_map in found)


def test_what_a_map_is_large_by_is_taken_off_at_first() -> None:
    torch.manual_seed(0)
    plain = Pyramid([Stage("", 50), Stage("", 60)], 64)
    torch.manual_seed(0)
    large = Pyramid([Stage("", 50, 4.0), Stage("", 60, 0.5)], 64)
    maps = make_maps([(12, 12), (6, 6)], [50, 60])
    found, wanted = large([4 * maps[0], maps[1] / 2]), plain(maps)
    for of_large, of_plain in zip(found, wanted, strict=True):
        torch.testing.assert_close(of_large, of_plain)


@pytest.mark.parametrize("name", WITH_PYRAMID)
@pytest.mark.parametrize("finest", [4, 8, 16])
def test_maps_of_a_backbone(name: Name, finest: int) -> None:
    """Each stage's map has the stride and the channels that are said, and the pyramid's its width."""
    backbone = build_backbone(name, Weights(None, "random"))
    stages = stages_of(name, finest)
    assert min(stages) == finest
    assert max(stages) == (16 if name == "tiny" else 32)
    body = body_of(backbone).eval()
    pyramid = Pyramid(list(stages.values()), 6)
    ends = [stage.layer for stage in stages.values()]
    maps: dict[str, Tensor] = {}
    for end in ends:
        keep_output(body.get_submodule(end), maps, end)
    with torch.no_grad():
        found = PyramidTrunk(body, ends, pyramid)(torch.rand(1, 3, 64, 128))
    for stride, stage in stages.items():
        assert maps[stage.layer].shape == (1, stage.channels, 64 // stride, 128 // stride)
    strides = [*stages, 2 * max(stages)]
    assert [tuple(of_map.shape) for of_map in found] == [
        (1, 6, 64 // stride, 128 // stride) for stride in strides
    ]


def keep_output(layer: nn.Module, into: dict[str, Tensor], name: str) -> None:
    def hook(_: nn.Module, __: Any, output: Tensor) -> None:
        into[name] = output

    layer.register_forward_hook(hook)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "resnet50"])
def test_the_body_is_the_whole_networks_convolutions(name: Name) -> None:
    """What the trunk and the head's convolutions do one after the other."""
    backbone = build_backbone(name, Weights(None, "random")).eval()
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        between = backbone.trunk(pixels)
        (convolutional,) = (
            part for key, part in backbone.head.named_children() if key in ("blocks", "layer4")
        )
        assert torch.equal(body_of(backbone)(pixels), convolutional(between))
    last = stages_of(name, 32)[32]
    assert last.layer == list(dict(body_of(backbone).named_children()))[-1]
    assert convolutional(between).shape[1] == last.channels


def test_of_no_convolutional_head_nothing_is_taken() -> None:
    backbone = build_backbone("tiny", Weights(None, "random"))
    assert list(dict(body_of(backbone).named_children())) == list(
        dict(backbone.trunk.named_children())
    )
    assert stages_of("tiny", 32) == {}


@pytest.mark.parametrize("name", sorted(set(get_args(Name)) - set(WITH_PYRAMID)))
def test_other_backbones_are_refused(name: Name) -> None:
    with pytest.raises(InputError, match=rf"^BACKBONE={name}: .* takes tiny, .*resnet50$"):
        stages_of(name, 4)
