"""Fast R-CNN: one pass over the image, RoIs pooled from its map, two sibling outputs (figure 1).

N images, R RoIs of an image or of all, K classes, C channels and S side of a pooled map, n detections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fast_rcnn.config import DetectionConfig, LossConfig, SamplingConfig, ScaleConfig
from fast_rcnn.loss import losses_by_roi, multi_task_loss
from fast_rcnn.predictor import Predictor
from fast_rcnn.sampling import candidates, hardest, sample
from spp_net.scales import best_scale
from stages.backbones.backbone import Backbone
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.boxes import clip, decode, encode
from stages.proposals.propose import propose
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.resize import Batch, resize
from stages.roi_head import roi_features
from stages.roi_pool import place, roi_pool
from stages.stopwatch import OFF, Stopwatch
from stages.suppress import suppress
from stages.training.draws import scale_of


class FastRCNN(nn.Module):
    """The network of section 2.1, behind torchvision's call.

    Args:
        backbone: its trunk sees images, its head pooled RoIs. Changed in place: batch norm is frozen.
        classes: K names.
        sampling, loss: of training; detection: of what comes after it.
        proposals, top: of selective search, when detection is given none.
    """

    box_mean: Tensor
    box_std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        classes: Sequence[str],
        scale: ScaleConfig,
        sampling: SamplingConfig = SamplingConfig(),
        loss: LossConfig = LossConfig(),
        detection: DetectionConfig = DetectionConfig(),
        proposals: SelectiveSearchConfig = SelectiveSearchConfig(),
        top: int | None = None,
    ) -> None:
        super().__init__()
        freeze_batch_norm(backbone)
        self.backbone = backbone
        self.predictor = Predictor(backbone.features, len(classes))
        self.classes = tuple(classes)
        self.scale, self.sampling, self.loss, self.detection = scale, sampling, loss, detection
        self.proposals, self.top = proposals, top
        self.watch: Stopwatch = OFF
        # Of the box layer's targets while it trains; see `targets.statistics`.
        self.register_buffer("box_mean", torch.zeros(len(classes), 4), persistent=False)
        self.register_buffer("box_std", torch.ones(len(classes), 4), persistent=False)

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Mapping[str, Any]] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> Any:
        """Losses while it trains, detections otherwise.

        Args:
            images: each [3, H, W], uint8 or float in [0, 1], RGB.
            targets: in training, torchvision's: `boxes`, `labels`, `iscrowd`.
            proposals: each float [R, 4] xyxy; training needs them, detection without them has
                selective search make them, on the CPU.

        Returns:
            in training `classification` and `boxes`, scalars; otherwise for each image `boxes`
            float32 [n, 4], `labels` int64 [n], `scores` float32 [n] (probabilities), best first.
        """
        if self.training:
            if targets is None or proposals is None:
                raise ValueError("training needs targets and proposals")
            return self.losses(images, targets, proposals)
        results = []
        for index, image in enumerate(images):
            boxes = self.propose(image) if proposals is None else proposals[index]
            scores, moved = self.score(image, boxes)
            results.append(self.suppress(scores, moved))
        return results

    # ------------------------------------------------------------------ training

    def losses(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Mapping[str, Any]],
        proposals: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The multi-task loss of RoIs drawn from each image (section 2.3), or of the hardest of all."""
        draw = candidates if self.sampling.hard else sample
        samples = [
            draw(boxes, target, self.sampling)
            for boxes, target in zip(proposals, targets, strict=True)
        ]
        scales = self.scale.train
        shorter = [scale_of(target, scales) for target in targets]
        batch = resize(images, self.backbone, shorter, self.scale.longest)
        maps = self.backbone.trunk(batch.pixels)
        rois = on_maps([drawn.rois for drawn in samples], batch)
        labels = torch.cat([drawn.labels for drawn in samples])
        own_rois = torch.cat([drawn.rois for drawn in samples])
        truth = encode(own_rois, torch.cat([drawn.gt_boxes for drawn in samples]))
        of_class = (labels - 1).clamp(0)
        truth = (truth - self.box_mean[of_class]) / self.box_std[of_class]
        if self.sampling.hard:
            losses = self._losses_by_roi(maps, rois, labels, truth)
            count = self.sampling.rois * len(images)
            rows = hardest(losses, own_rois, rois[:, 0], count)
            rois, labels, truth = rois[rows], labels[rows], truth[rows]
        scores, offsets = self.predictor(self.backbone.head(self._pool_scaled(maps, rois)))
        return multi_task_loss(scores, offsets, labels, truth, self.loss)

    @torch.no_grad()
    def _losses_by_roi(self, maps: Tensor, rois: Tensor, labels: Tensor, truth: Tensor) -> Tensor:
        """How badly the network does on each RoI, [R]: OHEM's read-only pass, dropout as in the other.

        Args:
            rois: [R, 5], as `on_maps` gives them; truth: [R, 4], the true offsets, normalised.
        """
        features = roi_features(
            rois,
            lambda some: self._pool_scaled(maps, some),
            self.backbone.head,
            maps.device,
        )
        scores, offsets = self.predictor(features)
        return losses_by_roi(scores, offsets, labels, truth, self.loss)

    def _pool_scaled(self, maps: Tensor, rois: Tensor) -> Tensor:
        """RoIs [R, 5] of `on_maps`, in pixels of the scaled images, pooled: [R, C, S, S]."""
        backbone = self.backbone
        return roi_pool(maps, rois, backbone.roi_size, 1 / backbone.stride, backbone.shift)

    def fold(self) -> None:
        """End of training: the box layer's targets need no statistics any more."""
        self.predictor.fold(self.box_mean, self.box_std)
        self.box_mean.zero_()
        self.box_std.fill_(1)

    # ------------------------------------------------------------------ detection

    def propose(self, image: Tensor) -> Tensor:
        """Selective search's best boxes, float32 [R, 4]."""
        with self.watch("proposals"):
            return propose(image, self.proposals, self.top)

    @torch.inference_mode()
    def score(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Every RoI's class probabilities, [R, K], and its box moved for each class, [R, K, 4].

        RoIs that are the same on the map are scored once (released code; many of selective
        search's are, at a sixteenth of the resolution).
        """
        with self.watch("convolutions"):
            maps, ratios = self.look(image)
        with self.watch("pooling"):
            cells, same = _unique(self.cells(boxes, ratios))
        features = roi_features(
            cells,
            lambda some: self.pool(maps, some),
            self.backbone.head,
            maps[0].device,
            self.watch,
        )
        with self.watch("head"):
            scores, offsets = self.predictor(features.to(self.predictor.scores.weight.dtype))
        with self.watch("boxes"):
            boxes = boxes.to(scores.device)
            if same is not None:
                scores, offsets = scores[same], offsets[same]
            moved = decode(boxes[:, None], offsets.float())
            scores = F.softmax(scores.float(), dim=1)[:, 1:]
            return scores, clip(moved, image.shape[1], image.shape[2])

    def look(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """The image's map at each of the test scales, [1, C, h, w], and the ratios [scales, 4]."""
        weight = next(self.backbone.trunk.parameters())
        maps, ratios = [], []
        for length in self.scale.test:
            batch = resize([image.to(weight.device)], self.backbone, [length], self.scale.longest)
            pixels = batch.pixels.to(weight.dtype).contiguous(memory_format=torch.channels_last)
            maps.append(self.backbone.trunk(pixels))
            ratios.append(batch.ratios)
        return maps, torch.cat(ratios)

    def cells(self, boxes: Tensor, ratios: Tensor) -> Tensor:
        """Where RoIs [R, 4] lie on the maps: [R, 5], the number of the scale, then xyxy in whole cells."""
        ratios = ratios.to(boxes.device)
        level = best_scale(boxes, ratios, self.scale.window_side)
        scaled = place(boxes * ratios[level], self.backbone.shift) / self.backbone.stride
        # Rounded as the pooling operator does, halves away from 0.
        whole = scaled.sign() * (scaled.abs() + 0.5).floor()
        return torch.cat([level[:, None], whole], dim=1)

    def pool(self, maps: Sequence[Tensor], cells: Tensor) -> Tensor:
        """RoIs [R, 5], see `cells`, pooled from their maps: [R, C, S, S]."""
        cells = cells.to(maps[0].device)
        side = self.backbone.roi_size
        if len(maps) == 1:
            return roi_pool(maps[0], cells, side, 1.0)
        pooled = maps[0].new_empty(len(cells), maps[0].shape[1], side, side)
        for number, of_scale in enumerate(maps):
            rows = (cells[:, 0] == number).nonzero()[:, 0]
            rois = torch.cat([torch.zeros_like(cells[rows, :1]), cells[rows, 1:]], dim=1)
            pooled[rows] = roi_pool(of_scale, rois, side, 1.0)
        return pooled

    @torch.inference_mode()
    def suppress(self, scores: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """The detections among scored boxes: scores [R, K], boxes [R, K, 4], already clipped."""
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


def on_maps(rois: Sequence[Tensor], batch: Batch) -> Tensor:
    """Each image's RoIs [., 4] as the pooling operator wants them: [R, 5], the image's number first."""
    parts = [
        F.pad(of_image * ratio.to(of_image.device), (1, 0), value=float(number))
        for number, (of_image, ratio) in enumerate(zip(rois, batch.ratios, strict=True))
    ]
    return torch.cat(parts)


def _unique(cells: Tensor) -> tuple[Tensor, Tensor | None]:
    """Different rows, and each row's place among them; on a GPU all, since counting would wait."""
    if cells.device.type != "cpu":
        return cells, None
    return torch.unique(cells, dim=0, return_inverse=True)
