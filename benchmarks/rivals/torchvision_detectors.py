"""torchvision's detectors over MobileNetV2, whichever is asked for.

n detections in an image of H by W.
"""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD

from benchmarks.rivals.config import Kind, Stride
from benchmarks.rivals.retinanet import build_retinanet, find_by_retinanet
from benchmarks.rivals.ssd import build_ssd, find_by_ssd
from benchmarks.rivals.two_stage import build_two_stage, find_in_two_stages
from stages.backbones.weights import Weights
from stages.stopwatch import Stopwatch

Network: TypeAlias = FasterRCNN | RetinaNet | SSD
# Prefixes of what no pre-training fills: pyramid or extra layers, RPN, heads.
NEW = ("backbone.fpn.", "backbone.extra.", "rpn.", "roi_heads.", "head.")


def build(
    kind: Kind,
    weights: Weights,
    classes: int,
    shorter: int,
    longest: int,
    finest_stride: Stride,
    trainable_layers: int = 3,
) -> Network:
    """The network, its new layers initialised from torch's global generator.

    Args:
        weights: of the classification network, in any form that `build_backbone` reads.
        classes: how many, without the background.
        shorter, longest: see `sides_of`; finest_stride: see `stride_of`; SSD's is 16.
        trainable_layers: see `Config`.

    Raises:
        InputError: as `build_backbone`.
    """
    if kind == "ssd":
        return build_ssd(weights, classes, shorter, trainable_layers)
    if kind == "retinanet":
        return build_retinanet(weights, classes, shorter, longest, finest_stride, trainable_layers)
    masks = kind == "mask"
    return build_two_stage(
        weights, classes, shorter, longest, finest_stride, trainable_layers, masks
    )


def find(network: Network, image: Tensor, watch: Stopwatch) -> dict[str, Tensor]:
    """What torchvision's own call does with one image, taken apart for the watch.

    Args:
        network: ready to detect.
        image: [3, H, W] on the network's device, uint8 or float in [0, 1].

    Returns:
        `boxes`, `labels`, `scores` of n detections and of Mask R-CNN `masks` bool [n, H, W].
    """
    size = (image.shape[1], image.shape[2])
    with watch("resize"):
        batch, _ = network.transform([to_float(image)])
    with watch("convolutions"):
        maps = network.backbone(batch.tensors)
    if isinstance(network, SSD):
        return find_by_ssd(network, batch, maps, size, watch)
    if isinstance(network, RetinaNet):
        return find_by_retinanet(network, batch, maps, size, watch)
    return find_in_two_stages(network, batch, maps, size, watch)


def to_float(image: Tensor) -> Tensor:
    """An image uint8 or float in [0, 1], as float32 in [0, 1]: torchvision's takes no other."""
    return image.float() / 255 if not image.is_floating_point() else image.float()
