"""Mask R-CNN: Faster R-CNN with a third output, a mask for each RoI (figure 1).

N images, R RoIs of all of them, K classes, n detections of an image, H and W of it, m a mask's side.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fast_rcnn.config import LossConfig, SamplingConfig, ScaleConfig
from faster_rcnn.config import ProposalConfig, RPNConfig
from faster_rcnn.network import FasterRCNN, Seen, numbered
from faster_rcnn.rpn import RPN
from mask_rcnn.config import MaskConfig, MaskDetectionConfig, NetworkConfig
from mask_rcnn.loss import mask_loss, mask_targets
from mask_rcnn.mask_head import MaskHead
from mask_rcnn.paste import paste
from mask_rcnn.pyramid import Pyramid, PyramidTrunk, Stage, body_of, stages_of
from mask_rcnn.roi_align import RoIPooling
from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.data.masks import has_pixels
from stages.errors import InputError


class MaskRCNN(FasterRCNN):
    """Faster R-CNN on RoIAlign, and the mask branch beside its head, behind torchvision's call.

    Args:
        backbone, rpn, classes, scale, detection, sampling, loss, ..: see `FasterRCNN`.
        box_pool: of the boxes' features, mask_pool: of the masks'.
        mask_head: None: no masks, and nothing here is more than Faster R-CNN.
        shared: layers between a pooled RoI and the mask branch that are the backbone's head's too.
    """

    detection: MaskDetectionConfig

    def __init__(
        self,
        backbone: Backbone,
        rpn: RPN,
        classes: Sequence[str],
        scale: ScaleConfig,
        box_pool: RoIPooling,
        mask_pool: RoIPooling,
        mask_head: MaskHead | None,
        shared: Sequence[str] = (),
        proposals: ProposalConfig = ProposalConfig(),
        detection: MaskDetectionConfig = MaskDetectionConfig(),
        train_proposals: ProposalConfig = ProposalConfig(before=2000, after=2000),
        sampling: SamplingConfig = SamplingConfig(),
        loss: LossConfig = LossConfig(),
    ) -> None:
        super().__init__(
            backbone,
            rpn,
            classes,
            scale,
            proposals,
            detection,
            train_proposals,
            sampling,
            loss,
            box_pool,
        )
        self.mask_pool, self.mask_head, self.shared = mask_pool, mask_head, tuple(shared)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None = None
    ) -> Any:
        """Losses while it trains, detections with their masks otherwise.

        Args:
            images: each [3, H, W], uint8 or float in [0, 1], RGB.
            targets: in training, torchvision's: `boxes`, `labels`, `iscrowd`, `masks` bool [., H, W]
                or `Masks`.

        Returns:
            as `FasterRCNN`, and in training `masks`, otherwise each image's `masks` bool [n, H, W].
        """
        if self.training or self.mask_head is None or not images:
            return super().forward(images, targets)
        return self.detect(images)

    # ------------------------------------------------------------------ training

    def losses(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]]
    ) -> dict[str, Tensor]:
        """L = L_cls + L_box + L_mask (section 3), and the RPN's, all at once."""
        losses, seen = self.learn(images, targets)
        if self.mask_head is not None:
            losses["masks"] = self._mask_loss(self.mask_head, seen, targets)
        return losses

    def _mask_loss(
        self, head: MaskHead, seen: Seen, targets: Sequence[Mapping[str, Any]]
    ) -> Tensor:
        """Of the positive RoIs alone; an object without a mask, or with an empty one, teaches none.

        `ImageBatches` empties those that lie beside their box.
        """
        rois, labels, wanted = [], [], []
        for sample, target, ratio in zip(seen.samples, targets, seen.batch.ratios, strict=True):
            masks = target["masks"]
            positive = sample.labels > 0
            known = has_pixels(masks).to(positive.device)
            rows = positive.nonzero()[:, 0]
            rows = rows[known[sample.objects[rows]]]
            rois.append(sample.rois[rows])
            labels.append(sample.labels[rows])
            own_pixels = sample.rois[rows] / ratio.to(sample.rois.device)
            wanted.append(mask_targets(masks, sample.objects[rows], own_pixels, head.side))
        logits = self.mask_logits(head, seen.maps, numbered(rois))
        return mask_loss(head, logits, torch.cat(labels), torch.cat(wanted))

    def mask_logits(self, head: MaskHead, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """RoIs [R, 5], see `Pool`, -> [R, outputs, m, m]."""
        pooled = self.mask_pool(maps)(rois)
        for name in self.shared:
            pooled = self.backbone.head.get_submodule(name)(pooled)
        return head(pooled)  # type: ignore[no-any-return]

    # ------------------------------------------------------------------ detection

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Boxes first, then masks of the best of them alone (section 3.1, "Inference")."""
        scored, maps, ratios = self.score_on_maps(images)
        found = [self.suppress(*of_image) for of_image in scored]
        return self.add_masks(images, found, maps, ratios)

    def add_masks(
        self,
        images: Sequence[Tensor],
        found: Sequence[dict[str, Tensor]],
        maps: Sequence[Tensor],
        ratios: Tensor,
    ) -> list[dict[str, Tensor]]:
        """Detections with `masks`, bool [n, H, W].

        Args:
            found: each image's, in its own pixels.
            maps, ratios: see `score_on_maps`.
        """
        assert self.mask_head is not None
        with self.watch("masks"):
            labels = torch.cat([of_image["labels"] for of_image in found])
            rois = [
                of_image["boxes"] * ratio for of_image, ratio in zip(found, ratios, strict=True)
            ]
            logits = self.mask_logits(self.mask_head, maps, numbered(rois))
            each = self.mask_head.probabilities(logits, labels)
            each = each.split([len(of_image["labels"]) for of_image in found])
        with self.watch("pasting"):
            asked = self.detection
            return [
                {
                    **of_image,
                    "masks": paste(
                        masks,
                        of_image["boxes"],
                        image.shape[1],
                        image.shape[2],
                        asked.mask_threshold,
                        asked.rounded,
                    ),
                }
                for of_image, masks, image in zip(found, each, images, strict=True)
            ]


@dataclass(frozen=True)
class Layout:
    """Which maps there are.

    Attributes:
        stages: the network's own, by stride, that they are made of; of C4 none is asked for.
        strides: of the maps that RoIs are taken from; rpn: of those the RPN slides over.
    """

    stages: dict[int, Stage]
    strides: tuple[int, ...]
    rpn: tuple[int, ...]


def layout_of(name: Name, network: NetworkConfig, rpn: RPNConfig) -> Layout:
    """What a configuration asks of a backbone; known without building it.

    Raises:
        InputError: the backbone has no such stages, or the anchors' sizes are not the maps'.
    """
    if network.features == "c4":
        return Layout({}, (Backbone.stride,), (Backbone.stride,))
    if network.features == "c5":
        stages = stages_of(name, 32)
        if not stages:
            raise InputError(f"BACKBONE={name}: has no C5, a map at stride 32")
        return Layout(stages, (32,), (32,))
    stages = stages_of(name, network.pyramid.finest)
    strides = tuple(stages)
    over = (*strides, 2 * strides[-1])
    if len(rpn.anchors.sizes) != len(over):
        raise InputError(
            f"rpn.anchors.sizes: one for each of the pyramid's {len(over)} maps, of "
            f"strides {', '.join(map(str, over))}; there are {len(rpn.anchors.sizes)}"
        )
    return Layout(stages, strides, over)


def build_untrained(
    backbone: Backbone,
    classes: Sequence[str],
    network: NetworkConfig,
    rpn: RPNConfig,
    scale: ScaleConfig,
    **more: Any,
) -> MaskRCNN:
    """The paper's network over a backbone, its new layers as they start.

    Args:
        backbone: taken apart: its parameters become the new network's.
        more: of `MaskRCNN`: `proposals`, `detection`, `train_proposals`, `sampling`, `loss`.

    Raises:
        InputError: as `layout_of`.
    """
    pool, mask = network.pool, network.mask
    layout = layout_of(backbone.name, network, rpn)
    shared: tuple[str, ...] = ()
    sizes: list[tuple[float, ...]] | None = None
    if network.features == "c4":
        built, box_side = backbone, backbone.roi_size
        shared = tuple(
            name for name, _ in backbone.head.named_children() if name in ("layer4", "blocks")
        )
    else:
        body, box_side = body_of(backbone), pool.box_side
        if network.features == "c5":
            trunk: nn.Module = body
            channels = layout.stages[32].channels
        else:
            stages, channels = list(layout.stages.values()), network.pyramid.width
            trunk = PyramidTrunk(body, [stage.layer for stage in stages], Pyramid(stages, channels))
            sizes = [(size,) for size in rpn.anchors.sizes]
        built = Backbone(
            backbone.name,
            trunk,
            _box_head(channels * box_side**2, network.fc),
            channels,
            box_side,
            network.fc,
            backbone.crop_size,
            new=("trunk.pyramid.", "head."),
            mean=tuple(backbone.mean.flatten().tolist()),
            std=tuple(backbone.std.flatten().tolist()),
        )
    side = backbone.roi_size if shared else pool.mask_side
    canonical = network.pyramid.canonical_side
    return MaskRCNN(
        built,
        RPN(built.channels, rpn, layout.rpn, sizes),
        classes,
        scale,
        RoIPooling(layout.strides, box_side, pool, canonical, built.shift),
        RoIPooling(layout.strides, side, pool, canonical, built.shift),
        _mask_head(built, shared, side, len(classes), mask),
        shared,
        **more,
    )


def _box_head(inputs: int, width: int) -> nn.Sequential:
    """Two hidden layers, for what was not pre-trained has none (FPN, section 4.2)."""
    fc6, fc7 = nn.Linear(inputs, width), nn.Linear(width, width)
    for layer in (fc6, fc7):
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc6=nn.Sequential(fc6, nn.ReLU()),
            fc7=nn.Sequential(fc7, nn.ReLU()),
        )
    )


def _mask_head(
    backbone: Backbone, shared: Sequence[str], side: int, classes: int, config: MaskConfig
) -> MaskHead | None:
    if config.branch == "none":
        return None
    if not shared:
        return MaskHead(backbone.channels, side, classes, config)
    # On top of the last stage, 7x7 of what was 14x14 (figure 4, left).
    with torch.no_grad():
        layers = [backbone.head.get_submodule(name) for name in shared]
        probe = torch.zeros(1, backbone.channels, side, side)
        after = nn.Sequential(*layers).eval()(probe)
    return MaskHead(after.shape[1], after.shape[2], classes, config, convs=0)
