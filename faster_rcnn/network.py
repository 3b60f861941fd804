"""Faster R-CNN: one network that proposes and detects (figure 2).

N images, R RoIs of all of them, K classes, P proposals of an image, n detections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fast_rcnn.config import DetectionConfig, LossConfig, SamplingConfig, ScaleConfig
from fast_rcnn.loss import multi_task_loss
from fast_rcnn.predictor import Predictor
from fast_rcnn.sampling import Sample, sample
from faster_rcnn.config import ProposalConfig, RPNConfig
from faster_rcnn.proposals import select_proposals
from faster_rcnn.rpn import RPN
from stages.backbones.backbone import Backbone
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.boxes import clip, decode, encode
from stages.resize import Batch, resize
from stages.roi_head import roi_features
from stages.roi_pool import roi_pool
from stages.stopwatch import OFF, Stopwatch
from stages.suppress import suppress
from stages.training.draws import draws_of, scale_of

# Of maps, how RoIs [R, 5], an image's number and xyxy in pixels of the scaled image, are pooled from
# them: twice, since what is done to the maps beforehand is done once for all RoIs.
Pool = Callable[[Sequence[Tensor]], Callable[[Tensor], Tensor]]


@dataclass(frozen=True, eq=False)
class Seen:
    """What a training step saw on its way to the losses.

    Attributes:
        batch: the images; maps: the trunk's.
        samples: each image's RoIs, in pixels of the scaled image.
    """

    batch: Batch
    maps: list[Tensor]
    samples: list[Sample]


class FasterRCNN(nn.Module):
    """The RPN and Fast R-CNN's detector over the same convolutions, behind torchvision's call.

    Nothing here knows how many maps there are, but the RPN and the pooling that are given.

    Args:
        backbone: its trunk, which sees images, gives a map or several; its head sees pooled RoIs.
            Changed in place: batch norm is frozen.
        rpn: over the trunk's maps.
        classes: K names.
        scale: one at test: a RoI has no better one among several.
        train_proposals, sampling, loss: of joint training; proposals, detection: of test.
        pool: see `Pool`; None: RoI pooling from one map, as the paper's.
    """

    box_std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        rpn: RPN,
        classes: Sequence[str],
        scale: ScaleConfig,
        proposals: ProposalConfig = ProposalConfig(),
        detection: DetectionConfig = DetectionConfig(),
        train_proposals: ProposalConfig = ProposalConfig(before=12_000, after=2000),
        sampling: SamplingConfig = SamplingConfig(),
        loss: LossConfig = LossConfig(),
        pool: Pool | None = None,
    ) -> None:
        super().__init__()
        freeze_batch_norm(backbone)
        self.backbone, self.rpn = backbone, rpn
        self.predictor = Predictor(backbone.features, len(classes))
        self.classes = tuple(classes)
        self.scale, self.proposals, self.detection = scale, proposals, detection
        self.train_proposals, self.sampling, self.loss = train_proposals, sampling, loss
        self.pool = pool or self._pool_one_map
        self.watch: Stopwatch = OFF
        # Of the box layer's targets while it trains; see `JointConfig.box_std`.
        self.register_buffer("box_std", torch.ones(4), persistent=False)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None = None
    ) -> Any:
        """Losses while it trains, detections otherwise; all images go through as one batch.

        Args:
            images: each [3, H, W], uint8 or float in [0, 1], RGB.
            targets: in training, torchvision's: `boxes`, `labels`, `iscrowd`.

        Returns:
            in training `objectness`, `rpn_boxes`, `classification` and `boxes`, scalars; otherwise
            for each image `boxes` float32 [n, 4], `labels` int64 [n], `scores` float32 [n]
            (probabilities), best first.
        """
        if self.training:
            if targets is None:
                raise ValueError("training needs targets")
            return self.losses(images, targets)
        if not images:
            return []
        return [self.suppress(*scored) for scored in self.score(images)]

    # ------------------------------------------------------------------ training

    def losses(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]]
    ) -> dict[str, Tensor]:
        """The losses of the RPN and of the detector on its proposals (section 3.2, joint training)."""
        return self.learn(images, targets)[0]

    def learn(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[str, Tensor], Seen]:
        """The same losses, and what a further branch needs for its own."""
        batch, maps, gt = self._see(images, targets)
        scores, offsets = self.rpn(maps)
        anchors = self.rpn.anchors(maps)
        draws = [draws_of(target, scores.device) for target in gt]
        losses = self.rpn.losses(scores, offsets, anchors, _boxes(gt), batch.sizes, draws)
        proposals = select_proposals(
            scores,
            self.rpn.moves(offsets),
            anchors,
            batch.sizes,
            batch.ratios,
            self.train_proposals,
        )
        samples = [
            sample(boxes, target, self.sampling)
            for (boxes, _), target in zip(proposals, gt, strict=True)
        ]
        rois = torch.cat([drawn.rois for drawn in samples])
        pooled = self.pool(maps)(numbered([drawn.rois for drawn in samples]))
        class_scores, moves = self.predictor(self.backbone.head(pooled))
        labels = torch.cat([drawn.labels for drawn in samples])
        truth = encode(rois, torch.cat([drawn.gt_boxes for drawn in samples])) / self.box_std
        losses |= multi_task_loss(class_scores, moves, labels, truth, self.loss)
        return losses, Seen(batch, maps, samples)

    def rpn_losses(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]]
    ) -> dict[str, Tensor]:
        """The losses of the RPN alone (section 3.2, steps 1 and 3)."""
        batch, maps, gt = self._see(images, targets)
        scores, offsets = self.rpn(maps)
        draws = [draws_of(target, scores.device) for target in gt]
        anchors = self.rpn.anchors(maps)
        return self.rpn.losses(scores, offsets, anchors, _boxes(gt), batch.sizes, draws)

    def _see(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]]
    ) -> tuple[Batch, list[Tensor], list[dict[str, Any]]]:
        """The batch at a scale of each image's own, its maps, and the targets scaled with it."""
        scales = self.scale.train
        shorter = [scale_of(target, scales) for target in targets]
        longest, down = self.scale.longest, self.scale.down
        batch = resize(images, self.backbone, shorter, longest, down)
        gt = [
            {**target, "boxes": target["boxes"] * ratio.to(target["boxes"].device)}
            for target, ratio in zip(targets, batch.ratios, strict=True)
        ]
        return batch, self.maps(batch.pixels), gt

    def fold(self) -> None:
        """End of training: neither box layer's targets need statistics any more."""
        self.rpn.fold()
        self.predictor.fold(
            self.box_std.new_zeros(len(self.classes), 4), self.box_std.expand(len(self.classes), 4)
        )
        self.box_std.fill_(1)

    # ------------------------------------------------------------------ detection

    @torch.inference_mode()
    def score(self, images: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Each image's proposals with their class probabilities, and their boxes.

        Returns:
            [P, K]; [P, K, 4], moved for each class; and [P, 4], as proposed: in each image's own pixels.
        """
        return self.score_on_maps(images)[0]

    def score_on_maps(
        self, images: Sequence[Tensor]
    ) -> tuple[list[tuple[Tensor, Tensor, Tensor]], list[Tensor], Tensor]:
        """What `score` gives, the maps, and the ratios [N, 4] to scaled pixels, on the device."""
        proposed, maps, ratios = self._propose(images)
        boxes = [of_image for of_image, _ in proposed]
        with self.watch("pooling"):
            pool = self.pool(maps)
        features = roi_features(
            numbered(boxes), pool, self.backbone.head, maps[0].device, self.watch
        )
        with self.watch("head"):
            scores, offsets = self.predictor(features.to(self.predictor.scores.weight.dtype))
        with self.watch("boxes"):
            every = torch.cat(boxes)
            moved = decode(every[:, None], offsets.float())
            scores = F.softmax(scores.float(), dim=1)[:, 1:]
            counts = [len(of_image) for of_image in boxes]
            scored = [
                (of_scores, clip(of_moved / ratio, *image.shape[1:]), still / ratio)
                for of_scores, of_moved, still, ratio, image in zip(
                    scores.split(counts), moved.split(counts), boxes, ratios, images, strict=True
                )
            ]
        return scored, maps, ratios

    @torch.inference_mode()
    def propose(self, images: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Each image's proposals, best first: boxes [P, 4] in its own pixels, logits [P]."""
        proposed, _, ratios = self._propose(images)
        return [
            (boxes / ratio, scores) for (boxes, scores), ratio in zip(proposed, ratios, strict=True)
        ]

    def _propose(
        self, images: Sequence[Tensor]
    ) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor], Tensor]:
        """Proposals in scaled pixels, the maps, and the ratios [N, 4] to scaled pixels, on the device."""
        with self.watch("convolutions"):
            batch, maps = self.look(images)
        with self.watch("RPN"):
            scores, offsets = self.rpn(maps)
        with self.watch("top-k and NMS of proposals"):
            anchors = self.rpn.anchors(maps)
            found = select_proposals(
                scores, offsets, anchors, batch.sizes, batch.ratios, self.proposals
            )
        return found, maps, batch.ratios.to(scores.device)

    def look(self, images: Sequence[Tensor]) -> tuple[Batch, list[Tensor]]:
        """The images as one batch at the test scale, and its maps."""
        weight = next(self.backbone.trunk.parameters())
        on_device = [image.to(weight.device, non_blocking=True) for image in images]
        (shorter,) = self.scale.test
        longest, down = self.scale.longest, self.scale.down
        batch = resize(on_device, self.backbone, [shorter] * len(images), longest, down)
        pixels = batch.pixels.to(weight.dtype).contiguous(memory_format=torch.channels_last)
        return batch, self.maps(pixels)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """The trunk's map or maps of normalised pixels [N, 3, H', W']."""
        maps = self.backbone.trunk(pixels)
        return [maps] if isinstance(maps, Tensor) else list(maps)

    def suppress(self, scores: Tensor, boxes: Tensor, _: Tensor) -> dict[str, Tensor]:
        """The detections among an image's scored boxes: see `score`."""
        with self.watch("NMS"):
            asked = self.detection
            return suppress(
                scores,
                boxes,
                asked.per_class,
                asked.nms_iou,
                asked.least_score,
                asked.per_image,
            )

    def _pool_one_map(self, maps: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
        (only,) = maps
        backbone = self.backbone
        side, scale = backbone.roi_size, 1 / backbone.stride
        return lambda rois: roi_pool(only, rois, side, scale, backbone.shift)


def build_untrained(
    backbone: Backbone, classes: Sequence[str], rpn: RPNConfig, scale: ScaleConfig, **more: Any
) -> FasterRCNN:
    """The paper's network, over one map, its RPN and outputs as they start; `more`: of `FasterRCNN`."""
    return FasterRCNN(
        backbone, RPN(backbone.channels, rpn, (backbone.stride,)), classes, scale, **more
    )


def numbered(rois: Sequence[Tensor]) -> Tensor:
    """Each image's RoIs [., 4] as the pooling operators want them: [R, 5], the image's number first."""
    return torch.cat([F.pad(boxes, (1, 0), value=float(n)) for n, boxes in enumerate(rois)])


def _boxes(gt: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
    """What the RPN learns to find: crowds are no objects."""
    return [target["boxes"][~target["iscrowd"]] for target in gt]
