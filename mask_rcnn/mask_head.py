"""The mask branch: for each RoI an m x m mask of every class (section 3, "Mask Representation").

R RoIs, K classes, C channels, S the side of a pooled RoI, m of a mask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mask_rcnn.config import MaskConfig


class MaskHead(nn.Module):
    """A small fully convolutional network over pooled RoIs, then twice the resolution (figure 4).

    Args:
        channels: C, of the pooled RoIs; side: S.
        classes: K.
        config: see `MaskConfig`; its branch is not "none".
        convs: 3x3 convolutions; None: as the configuration says.
    """

    def __init__(
        self, channels: int, side: int, classes: int, config: MaskConfig, convs: int | None = None
    ) -> None:
        super().__init__()
        self.config, self.classes, self.side = config, classes, 2 * side
        per_class = classes if config.class_specific else 1
        # With a softmax, background is a class of its own.
        self.outputs = per_class + (1 if config.loss == "softmax" else 0)
        if config.branch == "mlp":
            hidden = config.fc
            self.features = nn.Sequential(
                nn.Flatten(),
                nn.Linear(channels * side * side, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
            )
            self.logits: nn.Module = nn.Linear(hidden, self.outputs * self.side**2)
        else:
            count = config.convs if convs is None else convs
            layers: list[nn.Module] = []
            for number in range(count):
                before = channels if number == 0 else config.width
                layers += [nn.Conv2d(before, config.width, 3, padding=1), nn.ReLU()]
            before = config.width if count else channels
            layers += [nn.ConvTranspose2d(before, config.width, 2, 2), nn.ReLU()]
            self.features = nn.Sequential(*layers)
            self.logits = nn.Conv2d(config.width, self.outputs, 1)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        # As unsure as can be: the rule above would make few classes' first logits twenty.
        nn.init.normal_(self.logits.get_parameter("weight"), std=0.001)

    def forward(self, pooled: Tensor) -> Tensor:
        """[R, C, S, S] -> logits [R, outputs, m, m]."""
        features = self.features(pooled)
        weight = self.logits.get_parameter("weight")
        logits = self.logits(features.to(weight.dtype))
        return logits.view(-1, self.outputs, self.side, self.side)  # type: ignore[no-any-return]

    def of_class(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Each RoI's logits of its own class, [R, m, m]; without softmax.

        Args:
            labels: int64 [R], from 1.
        """
        index = (labels - 1).clamp(0) if self.config.class_specific else torch.zeros_like(labels)
        return logits[torch.arange(len(labels), device=logits.device), index]

    def probabilities(self, logits: Tensor, labels: Tensor) -> Tensor:
        """That each pixel is the object's, [R, m, m] float32: of the k-th mask alone, k the RoI's class.

        With a softmax, against the most probable other class: 0.5 and more where no other is more so.
        """
        if self.config.loss == "sigmoid":
            return self.of_class(logits, labels).float().sigmoid()
        shares = F.softmax(logits.float(), dim=1)
        own = self.of_class(shares[:, 1:], labels)
        index = labels if self.config.class_specific else torch.ones_like(labels)
        others = shares.clone()
        others[torch.arange(len(labels), device=labels.device), index] = 0
        return own / (own + others.amax(dim=1))
