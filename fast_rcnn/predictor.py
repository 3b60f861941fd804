"""The sibling output layers: scores of K + 1 classes, and offsets for each of K (Fast R-CNN, section 2.1).

R RoIs, D features, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Predictor(nn.Module):
    """Two linear layers side by side.

    Args:
        features: D.
        classes: K, without background.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.scores = nn.Linear(features, classes + 1)
        self.offsets = nn.Linear(features, 4 * classes)
        # Section 2.3, "SGD hyper-parameters".
        for layer, deviation in ((self.scores, 0.01), (self.offsets, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[R, D] -> scores [R, K + 1] before the softmax, background first; offsets [R, K, 4]."""
        return self.scores(features), self.offsets(features).unflatten(1, (-1, 4))

    @torch.no_grad()
    def fold(self, mean: Tensor, std: Tensor) -> None:
        """Offsets learnt as (t - mean) / std become offsets t, in the weights: test knows nothing of it.

        Args:
            mean, std: [K, 4].
        """
        self.offsets.weight.mul_(std.flatten()[:, None])
        self.offsets.bias.mul_(std.flatten()).add_(mean.flatten())

    @torch.no_grad()
    def unfold(self, mean: Tensor, std: Tensor) -> None:
        """The inverse of `fold`: a finished layer learns on, with statistics that may be others."""
        self.offsets.weight.div_(std.flatten()[:, None])
        self.offsets.bias.sub_(mean.flatten()).div_(std.flatten())
