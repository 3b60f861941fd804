"""What every backbone does: normalise, pool, stop at a layer, hold its batch norm still."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.backbones.backbone import Backbone
from stages.backbones.normalisation import IMAGENET_MEAN, IMAGENET_STD


def backbone(roi_size: int = 2, head: nn.Sequential | None = None) -> Backbone:
    return Backbone("tiny", nn.Identity(), head or nn.Sequential(), 3, roi_size, 5, 8)


# Normalisation -------------------------------------------------------------------------------


def test_bytes_and_floats_agree() -> None:
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(3, -1, -1)
    net = backbone()
    assert torch.equal(net.normalise(values), net.normalise(values.float() / 255))
    assert net.normalise(values).dtype == torch.float32
    assert net.normalise(values.half() / 255).dtype == torch.float32


def test_normalisation_by_hand() -> None:
    image = torch.tensor([255, 0, 51], dtype=torch.uint8)[:, None, None]
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    assert backbone().normalise(image).flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_the_mean_colour_becomes_nought() -> None:
    image = torch.tensor(IMAGENET_MEAN)[:, None, None].expand(3, 4, 5)
    assert torch.equal(backbone().normalise(image), torch.zeros(3, 4, 5))


def test_a_batch_is_normalised_as_its_images() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    net = backbone()
    together = net.normalise(images)
    assert all(torch.equal(together[n], net.normalise(images[n])) for n in range(2))


def test_normalisation_may_be_anothers() -> None:
    net = Backbone(
        "tiny", nn.Identity(), nn.Sequential(), 3, 2, 5, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 1)
    )
    image = torch.ones(3, 1, 1)
    assert net.normalise(image).flatten().tolist() == [1, 2, 0.5]
    # It goes where the weights go that expect it.
    state = net.state_dict()
    assert {key: value.flatten().tolist() for key, value in state.items()} == {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.25, 1],
    }


def test_imagenets_values() -> None:
    assert IMAGENET_MEAN == (0.485, 0.456, 0.406)
    assert IMAGENET_STD == (0.229, 0.224, 0.225)


# Pooling -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "roi_size", "kernel", "stride"),
    [
        pytest.param(13, 6, 3, 2, id="AlexNet"),
        pytest.param(14, 7, 2, 2, id="VGG16"),
        pytest.param(14, 14, 1, 1, id="ResNet"),
    ],
)
def test_pool5_is_the_networks_own_last_max_pooling(
    width: int, roi_size: int, kernel: int, stride: int
) -> None:
    maps = torch.randn(2, 5, width, width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(backbone(roi_size).pool5(maps), F.max_pool2d(maps, kernel, stride))


# Layers --------------------------------------------------------------------------------------


@pytest.fixture
def head() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc6=nn.Sequential(nn.Linear(12, 7), nn.ReLU()),
            drop6=nn.Dropout(0.5),
            fc7=nn.Sequential(nn.Linear(7, 5), nn.ReLU()),
        )
    )


def test_layers_are_those_that_compute(head: nn.Sequential) -> None:
    assert backbone(2, head).layers == ("pool5", "fc6", "fc7")


def test_until_a_layer_by_hand(head: nn.Sequential) -> None:
    net = backbone(2, head).eval()
    pooled = torch.randn(4, 3, 2, 2)
    fc6 = (pooled.flatten(1) @ head.fc6[0].weight.T + head.fc6[0].bias).clamp(min=0)
    fc7 = (fc6 @ head.fc7[0].weight.T + head.fc7[0].bias).clamp(min=0)
    assert torch.equal(net.until("pool5", pooled), pooled.reshape(4, 12))
    torch.testing.assert_close(net.until("fc6", pooled), fc6)
    torch.testing.assert_close(net.until("fc7", pooled), fc7)


def test_until_a_layer_leaves_the_pooled_map_as_it_was(head: nn.Sequential) -> None:
    net = backbone(2, head).eval()
    pooled = torch.randn(4, 3, 2, 2)
    before = pooled.clone()
    for layer in net.layers:
        net.until(layer, pooled)
    assert torch.equal(pooled, before)


def test_an_unknown_layer_is_named(head: nn.Sequential) -> None:
    with pytest.raises(ValueError, match=r"'fc8'.*pool5, fc6, fc7"):
        backbone(2, head).until("fc8", torch.zeros(1, 3, 2, 2))
