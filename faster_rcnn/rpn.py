"""The region proposal network: at each position of the map, is there an object, and where (section 3.1).

N images, C channels, A anchors of an image, k anchors of a position.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faster_rcnn.anchors import base_anchors, grid_anchors
from faster_rcnn.config import RPNConfig
from faster_rcnn.labels import label_anchors, sample_anchors
from faster_rcnn.loss import rpn_loss
from stages.boxes import encode


class RPN(nn.Module):
    """A 3x3 convolution, and two 1x1 ones beside each other, the same for every map.

    Args:
        channels: C, of the maps.
        config: of its width, anchors and training.
        strides: of the maps, in pixels; the paper has one map.
        sizes: of the anchors on each map; None: all of `config.anchors` on every one.
    """

    box_mean: Tensor
    box_std: Tensor

    def __init__(
        self,
        channels: int,
        config: RPNConfig,
        strides: Sequence[int] = (16,),
        sizes: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.config, self.strides = config, tuple(strides)
        own = sizes if sizes is not None else [config.anchors.sizes] * len(self.strides)
        bases = [base_anchors(of_map, config.anchors.ratios) for of_map in own]
        if config.anchors.as_torchvision:
            bases = [base.round() for base in bases]
        k = len(bases[0])
        self.conv = nn.Conv2d(channels, config.width, 3, padding=1)
        self.scores = nn.Conv2d(config.width, k, 1)
        self.offsets = nn.Conv2d(config.width, 4 * k, 1)
        for layer in (self.conv, self.scores, self.offsets):  # section 3.1.3
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for number, base in enumerate(bases):
            self.register_buffer(f"base{number}", base, persistent=False)
        # Of the offsets' targets while it trains, if its loss standardises them.
        self.register_buffer("box_mean", torch.zeros(4), persistent=False)
        self.register_buffer("box_std", torch.ones(4), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps [N, C, h, w] -> logits that there is an object, [N, A], and offsets, [N, A, 4].

        Anchors are in the order of `anchors`, map after map.
        """
        scores, offsets = [], []
        for of_map in maps:
            hidden = F.relu(self.conv(of_map)).to(self.scores.weight.dtype)
            scores.append(self.scores(hidden).permute(0, 2, 3, 1).flatten(1))
            offsets.append(
                self.offsets(hidden).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
            )
        return torch.cat(scores, dim=1), torch.cat(offsets, dim=1)

    def anchors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Each map's anchors, [A', 4], in pixels of the scaled image."""
        found = []
        frame = [side * self.strides[0] for side in maps[0].shape[2:]]
        for number, (of_map, stride) in enumerate(zip(maps, self.strides, strict=True)):
            high, wide = of_map.shape[2:]
            base = self.get_buffer(f"base{number}")
            strides = (stride, stride)
            if self.config.anchors.as_torchvision:
                strides = (frame[0] // high, frame[1] // wide)
            found.append(grid_anchors(base, high, wide, strides, self.config.anchors.centre))
        return found

    def losses(
        self,
        scores: Tensor,
        offsets: Tensor,
        anchors: Sequence[Tensor],
        gt_boxes: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        draws: Sequence[torch.Generator | None] | None = None,
    ) -> dict[str, Tensor]:
        """The loss of anchors drawn of each image; see `rpn_loss`.

        Args:
            scores, offsets: see `forward`.
            anchors: see `anchors`.
            gt_boxes: each image's objects, [G, 4], and sizes: its height and width, both scaled.
            draws: see `sample_anchors`.
        """
        every = torch.cat(list(anchors))
        labels, nearest = zip(
            *(
                label_anchors(every, boxes, size, self.config.labels)
                for boxes, size in zip(gt_boxes, sizes, strict=True)
            ),
            strict=True,
        )
        drawn = sample_anchors(torch.stack(labels), self.config.labels, draws)
        targets = [
            encode(every[index], boxes[which[index]])
            if len(boxes)
            else torch.zeros_like(every[index])
            for index, boxes, which in zip(drawn.index, gt_boxes, nearest, strict=True)
        ]
        positions = len(every) // len(self.get_buffer("base0"))
        return rpn_loss(
            scores.gather(1, drawn.index),
            offsets.gather(1, drawn.index[..., None].expand(-1, -1, 4)),
            (torch.stack(targets) - self.box_mean) / self.box_std,
            drawn.positive,
            drawn.used,
            self.config.labels.anchors,
            positions,
            self.config.loss,
        )

    def moves(self, offsets: Tensor) -> Tensor:
        """While it trains: the offsets t of those that are learnt, (t - mean) / std."""
        return offsets * self.box_std + self.box_mean

    @torch.no_grad()
    def fold(self) -> None:
        """End of training: offsets learnt as (t - mean) / std become offsets t, in the weights."""
        k = len(self.get_buffer("base0"))
        std, mean = self.box_std.repeat(k), self.box_mean.repeat(k)
        self.offsets.weight.mul_(std[:, None, None, None])
        self.offsets.bias.mul_(std).add_(mean)  # type: ignore[union-attr]
        self.box_mean.zero_()
        self.box_std.fill_(1)
