"""Truncated SVD: the best approximation of its rank, and what cannot be decomposed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fast_rcnn.config import SVDConfig
from fast_rcnn.svd import compress, split, two_layers
from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.backbones.networks import cut, tiny
from stages.backbones.weights import Weights, build_backbone
from stages.errors import InputError

RANDOM = Weights(None, "random")
Size = st.integers(1, 24)


def layer_of(inputs: int, outputs: int, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.bias)
    return layer


def product(both: nn.Sequential) -> np.ndarray:
    """The weights of the one layer that the two are."""
    first, second = both
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    return (second.weight.double() @ first.weight.double()).detach().numpy()


# One layer -----------------------------------------------------------------------------------


@given(Size, Size, st.integers(0, 1000), st.data())
def test_it_is_the_best_of_its_rank(
    inputs: int, outputs: int, seed: int, data: st.DataObject
) -> None:
    layer = layer_of(inputs, outputs, seed)
    kept = data.draw(st.integers(1, min(inputs, outputs)))
    weight = layer.weight.detach().double().numpy()
    found = product(split(layer, kept))
    assert np.linalg.matrix_rank(found, tol=1e-5) <= kept
    # Eckart and Young: no matrix of the rank is nearer than by the values left out.
    values = np.linalg.svd(weight, compute_uv=False)
    expected = np.sqrt((values[kept:] ** 2).sum())
    assert np.linalg.norm(weight - found) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@given(Size, Size, st.integers(0, 1000))
def test_of_full_rank_it_is_the_layer(inputs: int, outputs: int, seed: int) -> None:
    layer = layer_of(inputs, outputs, seed)
    features = torch.randn(5, inputs)
    both = split(layer, min(inputs, outputs))
    torch.testing.assert_close(both(features), layer(features), rtol=1e-4, atol=1e-5)


def test_the_bias_comes_once_and_last() -> None:
    layer = layer_of(8, 6)
    both = split(layer, 2)
    assert both[0].bias is None
    assert torch.equal(both[1].bias, layer.bias)
    torch.testing.assert_close(both(torch.zeros(1, 8))[0], layer.bias)
    assert both[0].weight.shape == (2, 8)
    assert both[1].weight.shape == (6, 2)


def test_the_second_is_u_the_first_has_the_singular_values() -> None:
    layer = layer_of(8, 6)
    first, second = (p for p in split(layer, 3).parameters() if p.ndim == 2)
    values = torch.linalg.svdvals(layer.weight)[:3]
    torch.testing.assert_close(second.T @ second, torch.eye(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(first @ first.T, values.square().diag(), rtol=1e-4, atol=1e-5)


def test_the_layer_itself_is_not_changed() -> None:
    layer = layer_of(8, 6)
    before = layer.weight.clone(), layer.bias.clone()
    both = split(layer, 6)
    with torch.no_grad():
        for p in both.parameters():
            p.zero_()
    assert torch.equal(layer.weight, before[0])
    assert torch.equal(layer.bias, before[1])


def test_in_the_layers_own_type() -> None:
    layer = layer_of(8, 6).bfloat16()
    for both in (split(layer, 3), two_layers(layer, 3)):
        assert {p.dtype for p in both.parameters()} == {torch.bfloat16}


# A network's ---------------------------------------------------------------------------------


def linears(backbone: Backbone) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of the weights of fc6 and fc7."""
    return {
        name: [tuple(p.shape) for p in getattr(backbone.head, name).parameters() if p.ndim == 2]
        for name in ("fc6", "fc7")
    }


def test_each_layer_has_its_own_rank() -> None:
    backbone = tiny()
    compress(backbone, SVDConfig(fc6=32, fc7=8), split)
    assert linears(backbone) == {
        "fc6": [(32, 2048), (256, 32)],
        "fc7": [(8, 256), (256, 8)],
    }


@pytest.mark.parametrize("name", ["fc6", "fc7"])
def test_the_other_layer_stays(name: str) -> None:
    backbone, plain = tiny(), tiny()
    plain.load_state_dict(backbone.state_dict())
    compress(backbone, SVDConfig(**{name: 8}), split)
    other = "fc7" if name == "fc6" else "fc6"
    assert len(linears(backbone)[name]) == 2
    assert len(linears(backbone)[other]) == 1
    pooled = torch.rand(2, 128, 4, 4)
    if name == "fc7":
        assert torch.equal(backbone.until("fc6", pooled), plain.until("fc6", pooled))
    assert not torch.allclose(backbone.head(pooled), plain.head(pooled), atol=1e-3)


def test_none_is_nothing() -> None:
    backbone = tiny()
    before = {name: p.clone() for name, p in backbone.named_parameters()}
    compress(backbone, SVDConfig(), split)
    after = dict(backbone.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], p) for name, p in before.items())


def test_a_network_of_full_rank_is_the_network() -> None:
    backbone, plain = tiny(), tiny()
    plain.load_state_dict(backbone.state_dict())
    compress(backbone, SVDConfig(256, 256), split)
    pooled = torch.rand(3, 128, 4, 4)
    # ReLU still follows: it is what stands between the two layers.
    torch.testing.assert_close(backbone.head(pooled), plain.head(pooled), rtol=1e-3, atol=1e-4)
    assert (backbone.until("fc6", pooled) >= 0).all()


def refused(backbone: Backbone, config: SVDConfig) -> str:
    with pytest.raises(InputError) as caught:
        compress(backbone, config, split)
    said = str(caught.value)
    assert "\n" not in said
    assert "svd" in said
    return said


@pytest.mark.parametrize("kept", [0, -1, 257, 10**9])
@pytest.mark.parametrize("name", ["fc6", "fc7"])
def test_a_rank_there_is_not(name: str, kept: int) -> None:
    said = refused(tiny(), SVDConfig(**{name: kept}))
    assert name in said
    assert "256" in said
    assert str(kept) in said


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("name", ["fc6", "fc7"])
def test_a_head_without_such_layers(network: Name, name: str) -> None:
    said = refused(build_backbone(network, RANDOM), SVDConfig(**{name: 4}))
    assert network in said
    assert name in said


def test_what_is_decomposed_already() -> None:
    backbone = tiny()
    compress(backbone, SVDConfig(fc6=4), split)
    assert "fc6" in refused(backbone, SVDConfig(fc6=2))


def test_squeezenets_new_layers_too() -> None:
    import torchvision.models as zoo

    backbone = cut("squeezenet1_1", zoo.squeezenet1_1())
    compress(backbone, SVDConfig(fc7=16), split)
    assert linears(backbone)["fc7"] == [(16, 1024), (1024, 16)]
