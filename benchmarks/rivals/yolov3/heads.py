"""YOLOv3's own layers: predictions at three scales, the coarser handed down to the finer (section 2.3).

N images, C_i channels of map i, h and w a map's sides in cells, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rivals.yolov3.priors import EACH
from mask_rcnn.pyramid import Stage

FIRST_OBJECTNESS = 0.01


def conv(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    """A convolution as all of Darknet's are: batch norm, leaky ReLU."""
    layer = nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, a=0.1, nonlinearity="leaky_relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1))


class Head(nn.Module):
    """One scale's layers, 1x1 and 3x3 in turn, as `yolov3.cfg` has them.

    Args:
        above: channels of what comes from the coarser scale; own: what the map itself is.
        width: channels after a 3x3; after a 1x1 half as many.
        outputs: of a cell.
    """

    def __init__(self, above: int, own: Stage, width: int, outputs: int) -> None:
        super().__init__()
        half, inputs = width // 2, above + own.channels
        self.features = nn.Sequential(
            conv(inputs, half, 1),
            conv(half, width, 3),
            conv(width, half, 1),
            conv(half, width, 3),
            conv(width, half, 1),
        )
        with torch.no_grad():  # so that neither of what is concatenated drowns the other
            self.features.get_parameter("0.0.weight")[:, above:].div_(own.size)
        self.last = conv(half, width, 3)
        self.outputs = nn.Conv2d(width, outputs, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, h, w] -> features [N, width / 2, h, w] and outputs [N, outputs, h, w]."""
        features = self.features(maps)
        last = self.last(features)
        return features, self.outputs(last.to(self.outputs.weight.dtype))


class Heads(nn.Module):
    """From three maps, each twice as fine as the next, to what each prior predicts.

    Boxes and classes start near 0, that is at the priors, and an object as likely as one in a
    hundred (RetinaNet, section 4.1): among thousands of priors a handful has one. The paper leaves
    that to 1,000 steps at a rate near 0.

    Args:
        stages: what the maps are, finest first.
        width: of the coarsest; half as many for each finer.
    """

    def __init__(self, stages: Sequence[Stage], width: int, classes: int) -> None:
        super().__init__()
        widths = [width // 2**n for n in range(len(stages))][::-1]  # finest first
        # "From 2 layers previous", a coarser scale's features, narrowed, go up to the next finer.
        down = [coarser // 4 for coarser in widths[1:]]
        self.narrow = nn.ModuleList(
            conv(coarser // 2, channels, 1)
            for (_, coarser), channels in zip(pairwise(widths), down, strict=True)
        )
        self.scales = nn.ModuleList(
            Head(above, own, of_map, EACH * (5 + classes))
            for above, own, of_map in zip([*down, 0], stages, widths, strict=True)
        )
        for head in self.scales:
            assert isinstance(head, Head)
            nn.init.normal_(head.outputs.weight, std=0.01)
            assert head.outputs.bias is not None
            with torch.no_grad():
                head.outputs.bias.zero_().view(EACH, -1)[:, 4] = -log(1 / FIRST_OBJECTNESS - 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """[N, C_i, h, w], finest first -> [N, P, 5 + K], ordered as `Priors`."""
        outputs: list[Tensor] = []
        features = maps[-1]
        for level in reversed(range(len(maps))):
            merged = maps[level]
            if level + 1 < len(maps):
                above = F.interpolate(self.narrow[level](features), scale_factor=2, mode="nearest")
                merged = torch.cat([above, merged], dim=1)
            features, of_map = self.scales[level](merged)
            rows = of_map.permute(0, 2, 3, 1).reshape(len(of_map), -1, of_map.shape[1] // EACH)
            outputs.insert(0, rows)
        return torch.cat(outputs, dim=1)
