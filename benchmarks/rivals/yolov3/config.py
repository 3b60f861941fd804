"""YOLOv3's configuration: the paper's or, where it is silent, the released code's value is every default.

The paper: Redmon, Farhadi, "YOLOv3: An Incremental Improvement", arXiv 1804.02767; the released code:
Darknet, with `cfg/yolov3.cfg` (of VOC: `cfg/yolov3-voc.cfg`). Departures from both:

- Images are resized as our papers' are (shorter side, longest at most, padded to multiples of 32), so
  that speed is compared at the same size; Darknet's are squares of 320, 416 or 608, letterboxed.
- Backbones are ours, their batch norm frozen; the paper's is Darknet-53. The heads' batch norm learns.
- Images are mirrored and their sides moved ("lots of data augmentation"), but not recoloured.
- Over a pretrained network whose norms are frozen the rate must be a tenth (`--train.sgd.lr 1e-4
  --train.new-layer-factor 10`): the losses are sums, and at 1e-3 gradients of 1,000 tore it apart within
  100 steps of BCCD.
- Outputs start small and the objectness at a hundredth, see `YOLOv3`; the rate rises linearly to its
  full height, not with the fourth power.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fast_rcnn.config import DetectionConfig, ScaleConfig, TrainConfig
from stages.backbones.config import BackboneConfig, PretrainConfig
from stages.data.load import DataConfig
from stages.data.shapes import ShapesConfig
from stages.errors import InputError
from stages.training.sgd import SGDConfig

# Those that have maps of strides 8 and 16; `tiny` has none of stride 32 and is given one.
BACKBONES = ("tiny", "mobilenet_v2", "resnet18", "resnet50")


@dataclass(frozen=True)
class LossConfig:
    """What the priors learn (section 2.1).

    Attributes:
        ignored_iou: a prior that is no object's best, but overlaps one by more, learns no objectness.
        ignored_by: which box of it overlaps. "prior": the prior itself, in the middle of its cell, as
            the paper says; "prediction": what it predicts now, as the released code has it, from 0.7.
        small_boxes: whether an object's box loss is weighted by 2 - w h, of its width and height
            over the image's (released code; not in the paper).
    """

    ignored_iou: float = 0.5
    ignored_by: Literal["prior", "prediction"] = "prior"
    small_boxes: bool = True


@dataclass(frozen=True)
class Config:
    """All of YOLOv3.

    Attributes:
        difficult: whether VOC's difficult objects are learnt (released code: not).
        scale: lengths of the shorter side; in training one by chance for each step (section 2.5,
            "multi-scale training"; released code: 320 to 608, every ten steps), one at test.
        width: channels of the 3x3 convolutions at stride 32; half as many at 16, a quarter at 8.
        images: of a step. Darknet computes the batch norm of four at a time.
        jitter: by which part of its width and height at most each side of a training image is moved, in
            or out; 0: images are only mirrored, as our papers'.
        train: `learn` is not "boxes".
        clip_norm: a longer gradient is shortened to this length; None: as it is. (MMDetection: 35.)
        detection: thresholds of Darknet's evaluation.
    """

    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    difficult: bool = False
    scale: ScaleConfig = field(
        default_factory=lambda: ScaleConfig(train=tuple(range(320, 609, 32)), test=(600,))
    )
    width: int = 1024
    images: int = 64
    jitter: float = 0.3
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            sgd=SGDConfig(lr=1e-3, iterations=50_200, lr_steps=(40_000, 45_000), warmup=1000),
            bias_factor=1.0,
            learn="all",
        )
    )
    clip_norm: float | None = None
    detection: DetectionConfig = field(
        default_factory=lambda: DetectionConfig(
            per_class=400, nms_iou=0.45, least_score=0.005, per_image=100
        )
    )


def check(config: Config) -> None:
    """Before anything is trained.

    Raises:
        InputError: what is asked for is not built here.
    """
    if config.backbone.name not in BACKBONES:
        raise InputError(f"BACKBONE={config.backbone.name}: YOLOv3 takes {', '.join(BACKBONES)}")
    if len(config.scale.test) != 1:
        raise InputError("scale.test: YOLOv3 sees an image at one size")
    if config.train.learn == "boxes":
        raise InputError("learn boxes: is Fast R-CNN's stage-wise training, not YOLOv3's")
    if config.clip_norm is not None and not config.clip_norm > 0:
        raise InputError(f"--clip-norm {config.clip_norm}: takes more than 0")
    if config.width < 4 or config.width % 4:
        raise InputError(f"--width {config.width}: takes multiples of 4")
    if not 0 <= config.jitter < 0.5:
        raise InputError(f"--jitter {config.jitter}: takes 0 or more, below 0.5")
    sides = (*config.scale.train, *config.scale.test, config.scale.longest, config.images)
    if min(sides) < 1 or not config.scale.train:
        raise InputError("--scale and --images take numbers of 1 or more")


PRESETS = {
    # As Darknet trains on VOC 2007 and 2012: hours on one GPU.
    "paper": Config(backbone=BackboneConfig(name="resnet50")),
    # Two or three minutes on two cores, with the papers' drawn data and network.
    "small": Config(
        data=DataConfig(shapes=ShapesConfig(train=260, test=100)),
        scale=ScaleConfig(train=(384,), test=(384,)),
        width=256,
        images=4,
        train=TrainConfig(
            sgd=SGDConfig(lr=1e-3, iterations=1200, lr_steps=(950,), warmup=50),
            bias_factor=1.0,
            new_layer_factor=3.0,
        ),
    ),
    # Seconds: every stage runs, nothing is learnt. For tests.
    "micro": Config(
        data=DataConfig(shapes=ShapesConfig(train=8, test=4, width=128, height=96)),
        backbone=BackboneConfig(
            pretrain=PretrainConfig(objects=64, held_out=16, sgd=SGDConfig(lr=0.02, iterations=4))
        ),
        scale=ScaleConfig(train=(96, 128), test=(96,)),
        width=32,
        images=2,
        train=TrainConfig(sgd=SGDConfig(lr=1e-4, iterations=3), bias_factor=1.0),
    ),
}
