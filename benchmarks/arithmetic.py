"""Multiply-adds, counted in the modules that do them: the speed-up that arithmetic alone would give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class Count:
    """Attributes: `multiply_adds` so far."""

    multiply_adds = 0


@contextmanager
def counting(module: nn.Module) -> Iterator[Count]:
    """Count what the module's convolutions and linear layers multiply while the context is open."""
    count = Count()

    def hook(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        count.multiply_adds += output.numel() * _per_output(layer)

    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()


def _per_output(layer: nn.Module) -> int:
    """Multiply-adds for one value of a layer's output: the weights that it is made with."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    assert isinstance(layer, nn.Conv2d)
    return layer.weight[0].numel()  # a group's channels x height x width
