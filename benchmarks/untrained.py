"""Each paper's detector with random weights, and something for it to look at: speed is the same as trained.

R proposals, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fast_rcnn import detector as fast
from fast_rcnn.config import DetectionConfig, ScaleConfig, SVDConfig
from fast_rcnn.network import FastRCNN
from rcnn_v1.config import Config as RCNNConfig
from rcnn_v1.config import DetectionConfig as SVMDetectionConfig
from rcnn_v1.detector import RCNN, DetectorDescription
from rcnn_v1.extract import Extractor, WindowNetwork
from spp_net.config import Config as SPPConfig
from spp_net.config import PyramidConfig
from spp_net.network import PyramidNetwork, with_pyramid
from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.backbones.networks import layers_of
from stages.backbones.weights import Weights, build_backbone
from stages.device import choose_dtype
from stages.proposals.selective_search import SelectiveSearchConfig

CLASSES = tuple(f"class {k}" for k in range(1, 21))  # as many as VOC's
ONE_SCALE = (688,)  # SPPnet, section 4.3
SVD = SVDConfig(fc6=1024, fc7=256)  # Fast R-CNN, section 4.4


def detectors(name: Name, device: str, shorter: int, scales: bool) -> dict[str, Callable[[], Any]]:
    """What makes each detector, by its name in the tables.

    Args:
        shorter: the image's side that Fast R-CNN brings to this length; SPPnet has lengths of its own.
        scales: whether SPPnet with five scales is among them.
    """
    made: dict[str, Callable[[], Any]] = {"R-CNN": lambda: r_cnn(name, device)}
    if scales:
        made["SPPnet, 5 scales"] = lambda: spp_net(name, device, PyramidConfig().scales)
    made["SPPnet, 1 scale"] = lambda: spp_net(name, device, ONE_SCALE)
    made["Fast R-CNN"] = lambda: fast_rcnn(name, device, shorter, SVDConfig())
    if name != "tiny":  # whose layers are small as they are
        made["Fast R-CNN + SVD"] = lambda: fast_rcnn(name, device, shorter, SVD)
    return made


def random_backbone(name: Name) -> Backbone:
    """The network, its weights by chance."""
    return build_backbone(name, Weights(None, "random"))


def r_cnn(name: Name, device: str) -> RCNN:
    """R-CNN, its SVMs on the network's last layer."""
    config = RCNNConfig()
    network = WindowNetwork(
        random_backbone(name),
        device,
        choose_dtype("auto", device),
        config.context,
        config.detection.batch,
    )
    return _with_svms("rcnn", name, network, config.detection)


def spp_net(name: Name, device: str, scales: tuple[int, ...]) -> RCNN:
    """SPPnet, seeing the image at these scales."""
    detection, pyramid = SPPConfig().detection, PyramidConfig(scales, levels=levels_of(name))
    backbone = with_pyramid(random_backbone(name), pyramid.levels)
    dtype = choose_dtype("auto", device)
    return _with_svms(
        "spp", name, PyramidNetwork(backbone, device, dtype, pyramid, detection.batch), detection
    )


def levels_of(name: Name) -> tuple[int, ...]:
    """SPPnet's pyramid for the network: the paper's, but for `tiny`, whose map is small."""
    return (4, 2, 1) if name == "tiny" else PyramidConfig().levels


def fast_rcnn(name: Name, device: str, shorter: int, svd: SVDConfig) -> FastRCNN:
    """Fast R-CNN as `fast_rcnn.detector.load` makes it ready."""
    description = fast.Description(
        "fast",
        name,
        CLASSES,
        None,
        SelectiveSearchConfig(),
        ScaleConfig(test=(shorter,)),
        DetectionConfig(),
        svd,
    )
    return fast.ready(fast.build(description), description.detection.dtype, device)


def _with_svms(
    paper: str, name: Name, network: Extractor[Tensor], detection: SVMDetectionConfig
) -> RCNN:
    last = layers_of(name)[-1]
    description = DetectorDescription(
        paper, name, CLASSES, last, "auto", None, SelectiveSearchConfig(), detection
    )
    rng, classes = np.random.default_rng(0), len(CLASSES)
    svms = {
        "weights": rng.normal(0, 0.01, (classes, network.backbone.features)),
        "bias": np.zeros(classes),
        "scale": np.ones(()),
    }
    regressors = {
        "weights": np.zeros((classes, 4, network.pooled_size), np.float32),
        "bias": np.zeros((classes, 4), np.float32),
    }
    return RCNN(description, network, svms, regressors)


def random_image(height: int, width: int) -> Tensor:
    """Noise, uint8 [3, height, width]."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))


def random_boxes(count: int, height: int, width: int) -> Tensor:
    """Boxes of an image, float32 [R, 4] xyxy, of the sizes and shapes that selective search finds.

    As far as possible different on a map of a sixteenth: Fast R-CNN scores those alike once, the
    others score all.
    """
    rng = np.random.default_rng(0)
    drawn, size = 8 * count, np.array([width, height])
    area = np.exp(rng.uniform(np.log(30), np.log(0.8 * min(height, width)), drawn))
    aspect = np.exp(rng.uniform(np.log(1 / 3), np.log(3), drawn)) ** 0.5
    sides = np.stack([area * aspect, area / aspect], axis=1)
    centres = rng.random((drawn, 2)) * size
    corners = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    boxes = np.clip(corners, 0, np.tile(size, 2)).astype(np.float32)
    _, first = np.unique(np.floor(boxes / 16 + 0.5), axis=0, return_index=True)
    others = np.setdiff1d(np.arange(drawn), first)
    return torch.from_numpy(boxes[np.concatenate([np.sort(first), others])[:count]])


def distinct(boxes: Tensor, stride: int) -> int:
    """How many of the boxes differ on the map."""
    return len(torch.unique((boxes / stride + 0.5).floor(), dim=0))
