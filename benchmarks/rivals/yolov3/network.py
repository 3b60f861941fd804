"""YOLOv3: one look at the image, everything predicted at once.

N images, P priors, K classes, n detections of an image, H' and W' the sides of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.rivals.yolov3.config import LossConfig
from benchmarks.rivals.yolov3.heads import Heads, conv
from benchmarks.rivals.yolov3.loss import yolo_losses
from benchmarks.rivals.yolov3.priors import STRIDES, Sizes, place
from fast_rcnn.config import DetectionConfig, ScaleConfig
from mask_rcnn.pyramid import Stage, body_of, stages_of
from stages.backbones.backbone import Backbone
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.boxes import clip
from stages.resize import Batch, frame_of, resize, size_at
from stages.stopwatch import OFF, Stopwatch
from stages.suppress import suppress


class YOLOv3(nn.Module):
    """The network, behind torchvision's call.

    Args:
        backbone: taken apart: its parameters become the new network's, its batch norm is frozen.
            One without a map of stride 32 gets a 3x3 convolution of stride 2 and as many channels
            after its last.
        classes: K names.
        priors: nine widths and heights, see `place`.
        width: see `Config`.
        scale: one at test; in training one by chance for the whole batch.
        loss: of training; detection: of test.

    Raises:
        InputError: the backbone has no such maps.
    """

    sizes: Tensor

    def __init__(
        self,
        backbone: Backbone,
        classes: Sequence[str],
        priors: Sizes,
        width: int,
        scale: ScaleConfig,
        detection: DetectionConfig,
        loss: LossConfig,
    ) -> None:
        super().__init__()
        stages = list(stages_of(backbone.name, STRIDES[0]).values())
        self.ends = tuple(stage.layer for stage in stages)
        channels = stages[-1].channels
        self.backbone = Backbone(
            backbone.name,
            body_of(backbone),
            nn.Sequential(),  # no RoIs, no head over them
            channels,
            0,
            0,
            backbone.crop_size,
            mean=tuple(backbone.mean.flatten().tolist()),
            std=tuple(backbone.std.flatten().tolist()),
        )
        freeze_batch_norm(self.backbone)
        self.further = nn.Sequential()
        if len(stages) < len(STRIDES):
            self.further = conv(channels, channels, 3, stride=2)
            stages.append(Stage("further", channels))
        self.heads = Heads(stages, width, len(classes))
        self.classes = tuple(classes)
        self.scale, self.detection, self.loss = scale, detection, loss
        self.register_buffer("sizes", torch.tensor(priors), persistent=False)
        self.watch: Stopwatch = OFF

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None = None
    ) -> Any:
        """Losses while it trains, detections otherwise.

        Args:
            images: each [3, H, W], uint8 or float in [0, 1], RGB.
            targets: in training, torchvision's: `boxes`, `labels`, `iscrowd`.

        Returns:
            in training `boxes`, `objectness` and `classification`, scalars; otherwise for each
            image `boxes` float32 [n, 4], `labels` int64 [n], `scores` float32 [n] (objectness times
            the class's probability), best first.
        """
        if self.training:
            if targets is None:
                raise ValueError("training needs targets")
            return self.losses(images, targets)
        return self.detect(images)

    def outputs(self, pixels: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        """Normalised pixels [N, 3, H', W'] -> float32 [N, P, 5 + K], and the maps' shapes.

        Args:
            pixels: their sides are multiples of 32.
        """
        with self.watch("convolutions"):
            maps = []
            for name, layer in self.backbone.trunk.named_children():
                pixels = layer(pixels)
                if name in self.ends:
                    maps.append(pixels)
            if len(self.further):
                maps.append(self.further(pixels))
        with self.watch("heads"):
            outputs = self.heads(maps).float()
        return outputs, [(of_map.shape[2], of_map.shape[3]) for of_map in maps]

    # ------------------------------------------------------------------ training

    def losses(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]]
    ) -> dict[str, Tensor]:
        """See `yolo_losses`. Crowds are no objects; what lies on one is background."""
        scales = self.scale.train
        # By chance, from the generator that the training loop seeds for this step.
        shorter = scales[int(torch.randint(len(scales), ()))]
        batch = self._resize(images, shorter)
        outputs, shapes = self.outputs(batch.pixels)
        objects = []
        for target, ratio in zip(targets, batch.ratios, strict=True):
            real = ~target["iscrowd"]
            boxes = target["boxes"][real] * ratio.to(target["boxes"].device)
            objects.append((boxes, target["labels"][real]))
        priors = place(self.sizes, shapes)
        return yolo_losses(outputs, priors, self.sizes, objects, batch.sizes, self.loss)

    # ------------------------------------------------------------------ detection

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Detections of each image, which do not depend on the others.

        Images whose own frames are of one size go through as one batch: a larger frame would change
        what the convolutions see beyond an image's edge.
        """
        (shorter,) = self.scale.test
        longest, down = self.scale.longest, self.scale.down
        alike: dict[tuple[int, int], list[int]] = {}
        for number, image in enumerate(images):
            size = size_at(image.shape[1], image.shape[2], shorter, longest, down)
            alike.setdefault(frame_of([size]), []).append(number)
        found: dict[int, dict[str, Tensor]] = {}
        for numbers in alike.values():
            together = self._detect([images[number] for number in numbers])
            found.update(zip(numbers, together, strict=True))
        return [found[number] for number in range(len(images))]

    def _detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        (shorter,) = self.scale.test
        weight = next(self.backbone.trunk.parameters())
        with self.watch("resize"):
            on_device = [image.to(weight.device, non_blocking=True) for image in images]
            batch = self._resize(on_device, shorter)
            pixels = batch.pixels.to(weight.dtype).contiguous(memory_format=torch.channels_last)
        outputs, shapes = self.outputs(pixels)
        priors, asked = place(self.sizes, shapes), self.detection
        found = []
        for of_image, ratio, image in zip(outputs, batch.ratios, images, strict=True):
            with self.watch("boxes"):
                objectness = of_image[:, 4].sigmoid()
                # No class scores higher than that; the others need not be looked at.
                (places,) = (objectness > asked.least_score).nonzero(as_tuple=True)
                scores = objectness[places, None] * of_image[places, 5:].sigmoid()
                moved = priors.decode(of_image[places, :4], places) / ratio.to(weight.device)
                boxes = clip(moved, *image.shape[1:])[:, None].expand(-1, scores.shape[1], -1)
            with self.watch("NMS"):
                found.append(
                    suppress(
                        scores,
                        boxes,
                        asked.per_class,
                        asked.nms_iou,
                        asked.least_score,
                        asked.per_image,
                    )
                )
        return found

    def _resize(self, images: Sequence[Tensor], shorter: int) -> Batch:
        longest, down = self.scale.longest, self.scale.down
        return resize(images, self.backbone, [shorter] * len(images), longest, down)
