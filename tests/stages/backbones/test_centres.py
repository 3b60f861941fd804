"""Where cells look: by the layers' numbers, by hand, and by what reaches a cell of each network."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from stages.backbones.backbone import Backbone
from stages.backbones.centres import first_centre
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from tests.stages.backbones.averaging import averaging, ramp

NAMES: tuple[Name, ...] = get_args(Name)
# The table in `centres`: the first cell's centre, and how far that is from the released network's.
TABLE: dict[Name, tuple[float, float]] = {
    "tiny": (0.5, 0.0),
    "alexnet": (15.5, 15.0),
    "squeezenet1_1": (15.5, 15.0),
    "vgg16": (8.0, 0.0),
    "mobilenet_v2": (0.5, 0.0),
    "resnet18": (0.5, 0.0),
    "resnet50": (0.5, 0.0),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_networks_numbers(name: Name) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, Weights(None, "random"))
    assert (first_centre(backbone.trunk), backbone.shift) == TABLE[name]


def test_the_table_is_in_the_docstring() -> None:
    import stages.backbones.centres as centres

    assert centres.__doc__ is not None
    rows = [line.split() for line in centres.__doc__.splitlines()]
    for name, (first, shift) in TABLE.items():
        (row,) = (row for row in rows if row[:1] == [name])
        assert (float(row[1]), float(row[-1])) == (first, shift)


# By hand -------------------------------------------------------------------------------------


def caffenet() -> nn.Sequential:
    """The layers that move a centre, as Fast R-CNN's released code pads them."""
    return nn.Sequential(
        nn.Conv2d(3, 1, 11, 4, 5),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(1, 1, 5, 1, 2),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(1, 1, 3, 1, 1),
    )


def spp_nets_zf() -> nn.Sequential:
    """As SPPnet's released code pads it, which takes off 21 pixels, counted from 1."""
    return nn.Sequential(
        nn.Conv2d(3, 1, 7, 2, 1),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(1, 1, 5, 2, 0),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(1, 1, 3, 1, 1),
    )


@pytest.mark.parametrize(
    ("trunk", "centre"),
    [
        pytest.param(nn.Identity(), 0.5, id="the image itself"),
        pytest.param(nn.Conv2d(3, 1, 3, padding=1), 0.5, id="padded by half its filter"),
        pytest.param(nn.Conv2d(3, 1, 3), 1.5, id="not padded"),
        pytest.param(nn.MaxPool2d(2), 1.0, id="between two pixels"),
        # The second layer's filter is 3 cells of 2 pixels.
        pytest.param(nn.Sequential(nn.Conv2d(3, 1, 1, 2), nn.Conv2d(1, 1, 3)), 2.5, id="strides"),
        pytest.param(caffenet(), 0.5, id="the released CaffeNet"),
        pytest.param(spp_nets_zf(), 20.5, id="the released SPPnet's ZF"),
    ],
)
def test_by_hand(trunk: nn.Module, centre: float) -> None:
    assert first_centre(trunk) == centre


def test_the_shift_is_from_the_released_ones_centre() -> None:
    trunk = nn.Conv2d(3, 1, 5)  # its first centre is at 2.5
    head = nn.Sequential()
    assert Backbone("tiny", trunk, head, 1, 1, 1).shift == 0
    assert Backbone("tiny", trunk, head, 1, 1, 1, released_centre=0.5).shift == 2
    assert Backbone("tiny", trunk, head, 1, 1, 1, released_centre=2.5).shift == 0


# What reaches a cell -------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_cells_look_where_they_are_said_to(name: Name) -> None:
    trunk = averaging(name).trunk
    side = 480
    image = torch.zeros(1, 3, side, side, requires_grad=True)
    maps = trunk(image)
    across = maps.shape[-1] // 2  # far from the edges, which would cut the receptive field
    maps[0, :, across, across].sum().backward()
    assert image.grad is not None
    weight = image.grad[0].sum(dim=(0, 1)).double().numpy()
    seen = np.flatnonzero(weight)
    assert seen[0] > 0 and seen[-1] + 1 < side
    looked_for = TABLE[name][0] + 16 * across
    assert (seen[0] + seen[-1] + 1) / 2 == looked_for
    middle_of_weight = (weight * (np.arange(side) + 0.5)).sum() / weight.sum()
    assert middle_of_weight == pytest.approx(looked_for, abs=0.01)


@pytest.mark.parametrize("name", ["tiny", "alexnet", "squeezenet1_1", "vgg16"])
def test_of_a_ramp_they_say_where(name: Name) -> None:
    side = 640
    with torch.inference_mode():
        maps = averaging(name).trunk(ramp(side)[None])
    said = side * maps[0, 0, maps.shape[2] // 2]
    centres = TABLE[name][0] + 16 * torch.arange(len(said))
    inner = (centres > 200) & (centres < side - 200)
    assert inner.sum() > 10
    torch.testing.assert_close(said[inner], centres[inner].float(), atol=0.01, rtol=0)
