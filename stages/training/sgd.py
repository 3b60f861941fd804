"""The family's optimiser: SGD with momentum and a learning rate that falls in steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from stages.device import DType


@dataclass(frozen=True)
class SGDConfig:
    """A schedule. All five papers train by SGD with momentum 0.9.

    Attributes:
        lr: learning rate before any step.
        iterations: batches in all.
        lr_steps: iterations at which the rate is divided by `lr_divisor`.
        warmup: iterations over which the rate rises linearly to `lr`.
        dtype: of the multiplications; weights and their updates stay float32.
        seed: of batches and dropout.
    """

    lr: float
    iterations: int
    lr_steps: tuple[int, ...] = ()
    lr_divisor: float = 10.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: int = 0
    dtype: DType = "auto"
    seed: int = 0

    def lr_at(self, iteration: int) -> float:
        """The rate for batch `iteration`, counted from 0."""
        lr = self.lr / self.lr_divisor ** sum(iteration >= step for step in self.lr_steps)
        return lr * min(1.0, (iteration + 1) / self.warmup) if self.warmup else lr


@dataclass(frozen=True)
class Rates:
    """Which parameters learn at another rate than the others.

    Attributes:
        faster: prefixes of the names of parameters that learn at `factor` times the rate: new layers.
        bias: factor of biases, and of other vectors such as a normalisation's (Fast R-CNN, section
            2.3, and the released codes of R-CNN and SPPnet: 2).
        bias_decay: whether biases decay too (released R-CNN and Fast R-CNN: not; SPPnet: but the
            scores').
    """

    faster: tuple[str, ...] = ()
    factor: float = 1.0
    bias: float = 1.0
    bias_decay: bool = True


def make_sgd(model: nn.Module, config: SGDConfig, rates: Rates) -> torch.optim.SGD:
    """SGD over the parameters that learn, in groups of the same rate and decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = rates.factor if name.startswith(rates.faster) else 1.0
            decay = config.weight_decay
            if parameter.ndim < 2:
                factor, decay = factor * rates.bias, decay if rates.bias_decay else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.SGD(
        [
            {"params": params, "factor": factor, "weight_decay": decay}
            for (factor, decay), params in groups.items()
        ],
        lr=config.lr,
        momentum=config.momentum,
    )


def set_lr(optimiser: torch.optim.SGD, lr: float) -> None:
    """Set every group's rate to `lr` times the group's own factor."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["factor"]
