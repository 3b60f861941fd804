"""A step of each paper's training, timed: forward, backward and SGD's update, with random weights and data.

Where a step looks at more than can be timed in seconds, a part of its images or crops goes through the
convolutions and their time is scaled; the fully connected layers always get all 128 RoIs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.untrained import CLASSES, levels_of, random_backbone, random_boxes, random_image
from fast_rcnn.config import Config as FastConfig
from fast_rcnn.loss import multi_task_loss
from fast_rcnn.network import FastRCNN, on_maps
from fast_rcnn.train import choose_learners
from rcnn_v1.config import Config as RCNNConfig
from spp_net.config import Config as SPPConfig
from spp_net.fine_tune import FullyConnected
from spp_net.network import with_pyramid
from spp_net.pyramid import bins_of
from stages.backbones.classifier import Classifier
from stages.backbones.config import Name
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.device import autocast, choose_dtype
from stages.resize import resize
from stages.roi_pool import roi_pool
from stages.stopwatch import Stopwatch
from stages.training.sgd import Rates, SGDConfig, make_sgd

ROIS = 128  # of a step, in all three papers
CROPS = 16  # of R-CNN's 128 that are timed, a forward pass
PASS = 2  # images a forward pass, as Fast R-CNN has them


@dataclass(frozen=True)
class Step:
    """A training step, cut where RoIs are pooled.

    Attributes:
        name: in the tables.
        model: all that learns, on the device.
        sgd: the paper's.
        pool: each forward pass through the convolutions that is timed: its pooled RoIs.
        scale: how many times as many passes the whole step has.
        loss: of the step's 128 pooled RoIs.
        part: what is timed, in words; empty: everything.
    """

    name: str
    model: nn.Module
    sgd: SGDConfig
    pool: list[Callable[[], Tensor]]
    scale: float
    loss: Callable[[Tensor], Tensor]
    part: str = ""

    def times(self, device: str) -> Iterator[dict[str, float]]:
        """Without end: seconds of a whole step, `seconds`, and of them `conv`, `fc` and `update`."""
        # Noise must not drive the weights to infinity; the arithmetic is the same at any rate.
        optimiser = make_sgd(self.model.train(), dataclasses.replace(self.sgd, lr=1e-9), Rates())
        while True:
            yield self._once(device, optimiser)

    def _once(self, device: str, optimiser: torch.optim.SGD) -> dict[str, float]:
        watch = Stopwatch(device)
        mixed = choose_dtype(self.sgd.dtype, device)
        with watch("conv"), autocast(device, mixed):
            pooled = [look() for look in self.pool]
        # A batch of full size: the RoIs that were pooled, over and over.
        rois = torch.cat([some.detach() for some in pooled])
        rois = rois.repeat(-(-ROIS // len(rois)), *[1] * (rois.ndim - 1))[:ROIS]
        learns = pooled[0].requires_grad
        rois.requires_grad_(learns)
        with watch("fc"):
            with autocast(device, mixed):
                loss = self.loss(rois)
            loss.backward()  # type: ignore[no-untyped-call]
        if learns and rois.grad is not None:
            gradient = rois.grad[: sum(len(some) for some in pooled)]
            with watch("conv"):
                for some, its in zip(pooled, gradient.split([len(p) for p in pooled]), strict=True):
                    some.backward(its)  # type: ignore[no-untyped-call]
        with watch("update"):
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        parts = {part: watch.seconds[part] for part in ("conv", "fc", "update")}
        parts["conv"] *= self.scale
        return {"seconds": sum(parts.values()), **parts}


def step_groups(
    name: Name, device: str, size: tuple[int, int], shorter: int, images: int
) -> Iterator[list[Step]]:
    """The papers' steps, a group with a network of its own at a time: memory holds no two.

    Args:
        size: of the images, height and width; Fast R-CNN brings the shorter side to `shorter`.
        images: of the RoI-centric step's 128, as many are timed.
    """
    yield [_r_cnn(name, device)]
    yield [_spp_net(name, device)]
    yield _fast_rcnn(name, device, size, shorter, images)


def _r_cnn(name: Name, device: str) -> Step:
    """Every layer learns from warped crops, which lie ready: worker processes warp them."""
    backbone = random_backbone(name)
    freeze_batch_norm(backbone)
    model = Classifier(backbone, len(CLASSES) + 1)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    crops = torch.randn(CROPS, 3, backbone.crop_size, backbone.crop_size, device=device)
    labels = _labels(device)

    def loss(pooled: Tensor) -> Tensor:
        return F.cross_entropy(model.scores(backbone.head(pooled)).float(), labels)

    return Step(
        "R-CNN: 128 crops",
        model,
        RCNNConfig().fine_tune.sgd,
        [lambda: backbone.pool5(backbone.trunk(crops))],
        ROIS / CROPS,
        loss,
        f"{CROPS} of {ROIS} crops",
    )


def _spp_net(name: Name, device: str) -> Step:
    """The fully connected layers alone learn, from pyramids of cached maps, which lie ready."""
    levels = levels_of(name)
    backbone = with_pyramid(random_backbone(name), levels)
    model = FullyConnected(backbone, len(CLASSES) + 1)
    # The convolutions are not used, and would only be carried along.
    backbone.trunk.requires_grad_(False)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pyramids = torch.rand(ROIS, backbone.channels * bins_of(levels), device=device)
    labels = _labels(device)
    return Step(
        "SPPnet: fc layers alone, 128 pyramids",
        model,
        SPPConfig().fine_tune.sgd,
        [lambda: pyramids],
        1.0,
        lambda pooled: F.cross_entropy(model(pooled).float(), labels),
    )


def _fast_rcnn(
    name: Name, device: str, size: tuple[int, int], shorter: int, images: int
) -> list[Step]:
    """The same network, loss and layers that learn; RoIs of 128 images and of two."""
    config = FastConfig()
    scale = dataclasses.replace(config.scale, train=(shorter,))
    model = FastRCNN(
        random_backbone(name),
        CLASSES,
        scale,
        config.sampling,
        config.loss,
        config.detection,
        config.proposals,
        config.top,
    )
    choose_learners(model, config.backbone.name, config.train.learn)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    backbone = model.backbone
    pair = [random_image(*size).to(device)] * PASS
    labels, targets = _labels(device), torch.zeros(ROIS, 4, device=device)

    boxes = random_boxes(ROIS // PASS, *size).to(device)

    def pool(rois: int) -> Tensor:
        """Two images, and so many RoIs of each: as `FastRCNN.losses`."""
        batch = resize(pair, backbone, [shorter] * PASS, scale.longest)
        maps = backbone.trunk(batch.pixels)
        placed = on_maps([boxes[:rois]] * PASS, batch)
        return roi_pool(maps, placed, backbone.roi_size, 1 / backbone.stride, backbone.shift)

    def loss(pooled: Tensor) -> Tensor:
        scores, offsets = model.predictor(backbone.head(pooled))
        losses = multi_task_loss(scores, offsets, labels, targets, config.loss)
        return losses["classification"] + losses["boxes"]

    passes = max(1, images // PASS)
    return [
        Step(
            "RoI-centric: 128 images, a RoI each",
            model,
            config.train.sgd,
            [lambda: pool(1)] * passes,
            ROIS / (passes * PASS),
            loss,
            f"{passes * PASS} of {ROIS} images",
        ),
        Step(
            "Fast R-CNN, image-centric: 2 images, 64 RoIs each",
            model,
            config.train.sgd,
            [lambda: pool(ROIS // PASS)],
            1.0,
            loss,
        ),
    ]


def _labels(device: str) -> Tensor:
    """A quarter of 128 RoIs are objects."""
    labels = torch.zeros(ROIS, dtype=torch.int64, device=device)
    labels[: ROIS // 4] = 1 + torch.arange(ROIS // 4, device=device) % len(CLASSES)
    return labels
