"""The schedule and the optimiser's groups, by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stages.training.sgd import Rates, SGDConfig, make_sgd, set_lr


class Net(nn.Module):
    """Two old layers, one of them frozen, and a new one whose name begins like another's."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.scores = nn.Linear(2, 2)
        self.scorescale = nn.Parameter(torch.ones(1))
        self.first.requires_grad_(False)


def names_by_factor(net: nn.Module, optimiser: torch.optim.SGD) -> dict[float, set[str]]:
    name_of = {id(p): name for name, p in net.named_parameters()}
    return {
        group["factor"]: {name_of[id(p)] for p in group["params"]}
        for group in optimiser.param_groups
    }


# The schedule --------------------------------------------------------------------------------


def test_the_rate_falls_at_each_step() -> None:
    config = SGDConfig(lr=1.0, iterations=30, lr_steps=(10, 20))
    rates = [config.lr_at(s) for s in range(30)]
    assert rates[:10] == [1.0] * 10
    assert rates[10:20] == pytest.approx([0.1] * 10)
    assert rates[20:] == pytest.approx([0.01] * 10)


def test_the_divisor_is_the_configured_one() -> None:
    config = SGDConfig(lr=8.0, iterations=9, lr_steps=(2, 4), lr_divisor=2.0)
    assert [config.lr_at(s) for s in (1, 2, 3, 4)] == [8, 4, 4, 2]


def test_the_rate_rises_to_the_full_one() -> None:
    config = SGDConfig(lr=1.0, iterations=9, warmup=4)
    assert [config.lr_at(s) for s in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_a_step_within_the_rise() -> None:
    config = SGDConfig(lr=1.0, iterations=9, warmup=4, lr_steps=(2,))
    assert [config.lr_at(s) for s in range(5)] == pytest.approx([0.25, 0.5, 0.075, 0.1, 0.1])


def test_the_papers_values_are_the_defaults() -> None:
    config = SGDConfig(lr=1e-3, iterations=1)
    assert (config.momentum, config.weight_decay, config.lr_divisor) == (0.9, 5e-4, 10)


@given(
    st.floats(1e-6, 10),
    st.lists(st.integers(0, 100), max_size=4),
    st.integers(0, 30),
    st.integers(0, 120),
)
def test_the_rate_is_positive_and_only_rises_while_warming_up(
    lr: float, steps: list[int], warmup: int, iteration: int
) -> None:
    config = SGDConfig(lr=lr, iterations=121, lr_steps=tuple(steps), warmup=warmup)
    now, later = config.lr_at(iteration), config.lr_at(iteration + 1)
    assert 0 < now <= lr
    if iteration >= warmup:
        assert later <= now


# The groups ----------------------------------------------------------------------------------


def test_new_layers_are_a_group_of_their_own() -> None:
    net = Net()
    optimiser = make_sgd(net, SGDConfig(lr=0.1, iterations=1), Rates(("scores.",), 10.0))
    assert names_by_factor(net, optimiser) == {
        1.0: {"second.weight", "second.bias", "scorescale"},
        10.0: {"scores.weight", "scores.bias"},
    }


def test_without_new_layers_there_is_one_group() -> None:
    net = Net()
    optimiser = make_sgd(net, SGDConfig(lr=0.1, iterations=1), Rates())
    assert list(names_by_factor(net, optimiser)) == [1.0]
    assert len(optimiser.param_groups[0]["params"]) == 5


def test_where_all_is_new_there_is_one_group() -> None:
    net = nn.ModuleDict({"scores": nn.Linear(2, 2)})
    optimiser = make_sgd(net, SGDConfig(lr=0.1, iterations=1), Rates(("scores.",), 10.0))
    assert names_by_factor(net, optimiser) == {10.0: {"scores.weight", "scores.bias"}}


def test_setting_the_rate_keeps_each_groups_factor() -> None:
    optimiser = make_sgd(Net(), SGDConfig(lr=0.1, iterations=1), Rates(("scores.",), 10.0))
    for lr in (0.5, 0.02):
        set_lr(optimiser, lr)
        assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([lr, 10 * lr])


def test_the_factor_survives_saving() -> None:
    config = SGDConfig(lr=0.1, iterations=1)
    state = make_sgd(Net(), config, Rates(("scores.",), 10.0)).state_dict()
    other = make_sgd(Net(), config, Rates(("scores.",), 10.0))
    other.load_state_dict(state)
    set_lr(other, 1.0)
    assert [group["lr"] for group in other.param_groups] == [1, 10]


def test_a_new_layer_moves_its_factor_as_far() -> None:
    net = Net()
    config = SGDConfig(lr=0.1, iterations=1, momentum=0.0, weight_decay=0.0)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = make_sgd(net, config, Rates(("scores.",), 10.0))
    set_lr(optimiser, config.lr_at(0))
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step()
    moved = {
        name: (before[name] - p.detach()).unique().tolist() for name, p in net.named_parameters()
    }
    assert moved["first.weight"] == [0]
    assert moved["second.weight"] == pytest.approx([0.1] * len(moved["second.weight"]), abs=1e-6)
    assert moved["scores.bias"] == pytest.approx([1.0] * len(moved["scores.bias"]), abs=1e-6)


# Biases --------------------------------------------------------------------------------------


def groups_of(net: nn.Module, rates: Rates) -> dict[tuple[float, float], set[str]]:
    """Names of the parameters by (factor, weight decay)."""
    name_of = {id(p): name for name, p in net.named_parameters()}
    optimiser = make_sgd(net, SGDConfig(lr=0.1, iterations=1, weight_decay=0.25), rates)
    found = {
        (group["factor"], group["weight_decay"]): {name_of[id(p)] for p in group["params"]}
        for group in optimiser.param_groups
    }
    assert len(found) == len(optimiser.param_groups)
    return found


def test_biases_learn_faster_and_do_not_decay() -> None:
    rates = Rates(("scores.",), 10.0, bias=2.0, bias_decay=False)
    assert groups_of(Net(), rates) == {
        (1.0, 0.25): {"second.weight"},
        (2.0, 0.0): {"second.bias", "scorescale"},
        (10.0, 0.25): {"scores.weight"},
        (20.0, 0.0): {"scores.bias"},
    }


def test_biases_learn_faster_and_decay() -> None:
    assert groups_of(Net(), Rates(bias=2.0)) == {
        (1.0, 0.25): {"second.weight", "scores.weight"},
        (2.0, 0.25): {"second.bias", "scores.bias", "scorescale"},
    }


def test_biases_that_only_do_not_decay() -> None:
    assert groups_of(Net(), Rates(bias_decay=False)) == {
        (1.0, 0.25): {"second.weight", "scores.weight"},
        (1.0, 0.0): {"second.bias", "scores.bias", "scorescale"},
    }


def test_unless_it_is_said_biases_are_as_weights() -> None:
    assert list(groups_of(Net(), Rates())) == [(1.0, 0.25)]


def test_convolutions_and_normalisations_count_too() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert groups_of(net, Rates(bias=2.0, bias_decay=False)) == {
        (1.0, 0.25): {"0.weight"},
        (2.0, 0.0): {"0.bias", "1.weight", "1.bias"},
    }


def test_a_bias_moves_twice_as_far_and_does_not_decay() -> None:
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, 2.0)
    nn.init.constant_(net.bias, 2.0)
    config = SGDConfig(lr=0.5, iterations=1, momentum=0.0, weight_decay=0.25)
    optimiser = make_sgd(net, config, Rates(bias=2.0, bias_decay=False))
    set_lr(optimiser, 0.1)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step()
    assert net.weight.item() == pytest.approx(2 - 0.1 * (1 + 0.25 * 2))
    assert net.bias.item() == pytest.approx(2 - 0.2)


# By hand -------------------------------------------------------------------------------------


def test_momentum_and_weight_decay_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    config = SGDConfig(lr=0.5, iterations=2, momentum=0.9, weight_decay=0.1)
    optimiser = make_sgd(net, config, Rates())
    weight, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0):
        net.weight.grad = torch.tensor([[gradient]])
        optimiser.step()
        velocity = 0.9 * velocity + gradient + 0.1 * weight
        weight -= 0.5 * velocity
        assert net.weight.item() == pytest.approx(weight, rel=1e-6)
