"""Frozen batch norm: the same function, whoever does it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from stages.backbones.frozen_norm import freeze_batch_norm, set_norms_down


class Normed(nn.Module):
    """Batch norms at two depths, with statistics as a training leaves them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4, eps=0.1)
        self.inner = nn.Sequential(nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low in (
                    (module.weight, 0.5),
                    (module.bias, -1),
                    (module.running_mean, -1),
                    (module.running_var, 0.1),
                ):
                    assert tensor is not None
                    nn.init.uniform_(tensor, low, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(self.norm(self.conv(x)))
        return y


@pytest.fixture
def normed() -> Normed:
    torch.manual_seed(0)
    return Normed()


def test_frozen_batch_norm_computes_what_evaluation_did(normed: Normed) -> None:
    images = torch.randn(2, 3, 6, 6)
    before = normed.eval()(images)
    assert freeze_batch_norm(normed) is normed
    assert not any(isinstance(module, nn.BatchNorm2d) for module in normed.modules())
    assert sum(isinstance(module, FrozenBatchNorm2d) for module in normed.modules()) == 2
    torch.testing.assert_close(normed(images), before)


def test_frozen_batch_norm_is_the_same_while_training(normed: Normed) -> None:
    freeze_batch_norm(normed).train()
    state = {key: value.clone() for key, value in normed.state_dict().items()}
    few, many = torch.randn(1, 3, 6, 6), torch.randn(4, 3, 6, 6)
    alone = normed(few)
    torch.testing.assert_close(normed(torch.cat([few, many]))[:1], alone)
    torch.testing.assert_close(normed.eval()(few), alone)
    assert all(torch.equal(value, state[key]) for key, value in normed.state_dict().items())


def test_frozen_batch_norm_does_not_learn(normed: Normed) -> None:
    freeze_batch_norm(normed)
    assert {name for name, _ in normed.named_parameters()} == {
        "conv.weight",
        "conv.bias",
        "inner.0.0.weight",
        "inner.0.0.bias",
    }


def test_freezing_twice_is_freezing(normed: Normed) -> None:
    images = torch.randn(2, 3, 6, 6)
    once = freeze_batch_norm(normed).eval()(images)
    assert torch.equal(freeze_batch_norm(normed)(images), once)


def gradients(module: nn.Module, images: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    module(images).square().sum().backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_a_carried_norm_has_the_same_gradients(normed: Normed) -> None:
    normed.double()
    plain = freeze_batch_norm(copy.deepcopy(normed), carry=False)
    carried = freeze_batch_norm(normed)
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(carried(images), plain(images))
    ours, theirs = gradients(carried, images), gradients(plain, images)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name])


def test_freezing_renames_nothing(normed: Normed) -> None:
    before = {
        key: value.clone()
        for key, value in normed.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    after = freeze_batch_norm(normed).state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_new_weights_are_used(normed: Normed) -> None:
    freeze_batch_norm(normed)
    images = torch.randn(2, 3, 6, 6)
    other = Normed()
    normed.load_state_dict(freeze_batch_norm(other).state_dict())
    torch.testing.assert_close(normed(images), other(images))


def test_a_copy_carries_its_own_norms(normed: Normed) -> None:
    freeze_batch_norm(normed)
    images = torch.randn(2, 3, 6, 6)
    before = normed(images)
    copied = copy.deepcopy(normed)
    torch.testing.assert_close(copied(images), before)
    copied.norm.weight.zero_()
    copied.norm.bias.zero_()
    assert torch.equal(normed(images), before)
    assert not torch.allclose(copied(images), before)


def test_under_autocast_activations_stay_small(normed: Normed) -> None:
    freeze_batch_norm(normed)
    with torch.autocast("cpu", torch.bfloat16):
        assert normed.conv(torch.randn(1, 3, 6, 6)).dtype == torch.bfloat16
        assert normed(torch.randn(1, 3, 6, 6)).dtype == torch.bfloat16


def test_norms_may_work_for_themselves_again(normed: Normed) -> None:
    images = torch.randn(2, 3, 6, 6)
    before = freeze_batch_norm(normed)(images)
    bare = normed.conv(images)
    set_norms_down(normed)
    torch.testing.assert_close(normed(images), before)
    assert not torch.allclose(normed.conv(images), bare)


def test_a_norm_with_no_convolution_before_it_works_alone() -> None:
    alone = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)).eval()
    nn.init.uniform_(alone[1].bias)
    images = torch.randn(2, 3, 4, 4)
    before = alone(images)
    freeze_batch_norm(alone)
    torch.testing.assert_close(alone(images), before)
