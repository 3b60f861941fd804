"""Batch norm that stays as it is, done by the convolution before it.

A pass over the activations less for each layer; and under autocast, where its float32 factors would
make the activations float32, two conversions less. C channels.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils import skip_init
from torchvision.ops.misc import FrozenBatchNorm2d


class CarriedNorm(FrozenBatchNorm2d):
    """Batch norm of fixed statistics, whose work the convolution before it does while `carried`."""

    carried = False

    def forward(self, x: Tensor) -> Tensor:
        return x if self.carried else super().forward(x)

    def factors(self) -> tuple[Tensor, Tensor]:
        """What it multiplies by and then adds, [C] each."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class NormedConv2d(nn.Conv2d):
    """A convolution that does the batch norm after it: the same function of the same parameters.

    Attributes:
        norm: that batch norm, in a tuple, for it is the module's after this one and not a part of it.
    """

    norm: tuple[CarriedNorm, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        if not self.norm:
            return super().forward(x)
        scale, shift = self.norm[0].factors()
        bias = shift if self.bias is None else shift + self.bias * scale
        return self._conv_forward(x, self.weight * scale[:, None, None, None], bias)


def freeze_batch_norm(module: nn.Module, carry: bool = True) -> nn.Module:
    """Replace each batch norm, in place, by its fixed affine form: small batches spoil its statistics.

    Names and values of parameters and buffers stay as they are.

    Args:
        carry: whether a convolution right before one, in the order of the module's parts, which is
            that of their use in every network here, does its work.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = CarriedNorm(child.num_features, eps=child.eps)
            state = child.state_dict()
            del state["num_batches_tracked"]
            frozen.load_state_dict(state)
            setattr(module, name, frozen)
        else:
            freeze_batch_norm(child, carry)
    if carry:
        for (name, conv), (_, norm) in pairwise(list(module.named_children())):
            if type(conv) is nn.Conv2d and isinstance(norm, CarriedNorm):
                setattr(module, name, _carrying(conv, norm))
    return module


def _carrying(conv: nn.Conv2d, norm: CarriedNorm) -> NormedConv2d:
    """The convolution with its own parameters, that does `norm`'s work."""
    new = skip_init(
        NormedConv2d,
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )
    assert isinstance(new, NormedConv2d)
    new.weight, new.bias = conv.weight, conv.bias
    new.norm, norm.carried = (norm,), True
    return new


def set_norms_down(module: nn.Module) -> nn.Module:
    """Have batch norms do their own work again, in place: what torchvision's networks do."""
    for part in module.modules():
        if isinstance(part, NormedConv2d) and part.norm:
            part.norm[0].carried = False
            part.norm = ()
    return module
