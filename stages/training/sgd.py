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


def make_sgd(
    model: nn.Module, config: SGDConfig, faster: tuple[str, ...] = (), factor: float = 1.0
) -> torch.optim.SGD:
    """SGD over the parameters that learn.

    Args:
        faster: prefixes of parameters that learn at `factor` times the rate: new layers.
    """
    learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    fast = [p for name, p in learning if name.startswith(faster)] if faster else []
    slow = [p for name, p in learning if not (faster and name.startswith(faster))]
    groups = [
        {"params": params, "factor": factor_of}
        for params, factor_of in ((slow, 1.0), (fast, factor))
        if params
    ]
    return torch.optim.SGD(
        groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )


def set_lr(optimiser: torch.optim.SGD, lr: float) -> None:
    """Set every group's rate to `lr` times the group's own factor."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["factor"]
