"""Fast R-CNN's configuration: the paper's value is every default; presets are beside it.

The paper: Girshick, "Fast R-CNN", ICCV 2015 (arXiv 1504.08083).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stages.backbones.config import BackboneConfig, PretrainConfig
from stages.data.load import DataConfig
from stages.data.shapes import ShapesConfig
from stages.device import DType
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.training.sgd import SGDConfig

FIVE_SCALES = (480, 576, 688, 864, 1200)  # section 5.2, SPPnet's


@dataclass(frozen=True)
class ScaleConfig:
    """At what size the network sees an image (sections 2.4, 3.2 and 5.2).

    Attributes:
        train: lengths of the shorter side; one of them by chance for each image and step.
        test: an image is seen at each; a RoI is pooled from where its area is nearest to
            `window_side` squared.
        longest: of the longer side (section 5.2: 1000 at one scale, 2000 at five).
        down: round both sides down, for torchvision's weights.
    """

    train: tuple[int, ...] = (600,)
    test: tuple[int, ...] = (600,)
    longest: int = 1000
    window_side: int = 224
    down: bool = False


@dataclass(frozen=True)
class SamplingConfig:
    """RoIs to learn from (section 2.3, "mini-batch sampling").

    Attributes:
        images: N, of a step.
        rois: of an image; fewer where it has no more that qualify.
        positive_fraction: at most this part is positive, to the nearest whole number.
        positive_iou: with an object, from which a RoI is positive.
        background_iou: of background, lowest (included) and highest (excluded): the lowest stands in
            for hard example mining. Objects' own boxes are RoIs too.
        hard: online hard example mining instead (Shrivastava, Gupta, Girshick, CVPR 2016, section 4.1):
            the network sees every RoI, background from IoU 0, and learns from the images x rois of a
            step that it does worst on, whatever part of them is positive. Of Fast R-CNN's training;
            Faster R-CNN's joint training, which draws for itself, refuses it.
    """

    images: int = 2
    rois: int = 64
    positive_fraction: float = 0.25
    positive_iou: float = 0.5
    background_iou: tuple[float, float] = (0.1, 0.5)
    hard: bool = False


@dataclass(frozen=True)
class LossConfig:
    """The multi-task loss (section 2.3, equations 1 to 3).

    Attributes:
        box_weight: lambda; 0: the boxes are not learnt.
        box: of box offsets; "l2", as R-CNN's and SPPnet's, is there to see what it does.
        beta: the error, in standard deviations of the targets, up to which smooth L1 is a square and
            from which it is a line (equation 3: 1). Torchvision's heads have 1/9, which pulls up to
            nine times as hard at boxes that are nearly right.
    """

    box_weight: float = 1.0
    box: Literal["smooth_l1", "l2"] = "smooth_l1"
    beta: float = 1.0


@dataclass(frozen=True)
class TrainConfig:
    """Section 2.3, "SGD hyper-parameters", and 4.5, "which layers to fine-tune".

    Attributes:
        sgd: the schedule; 30k steps and 10k at a tenth of the rate on VOC 2007.
        bias_factor: how much faster biases learn; they do not decay (released code).
        new_layer_factor: how much faster layers without pre-training learn, the two outputs among
            them: for schedules too short for the paper's equal rates.
        learn: "default": all but the early layers, which see half the resolution and more and,
            beyond VGG16 and AlexNet, a quarter; "head": none of the convolutions, as SPPnet; "all";
            "boxes": the box layer alone, on a network that is finished.
        mirror: whether every other image by chance is mirrored.
    """

    sgd: SGDConfig = field(
        default_factory=lambda: SGDConfig(lr=1e-3, iterations=40_000, lr_steps=(30_000,))
    )
    bias_factor: float = 2.0
    new_layer_factor: float = 1.0
    learn: Literal["default", "head", "all", "boxes"] = "default"
    mirror: bool = True


@dataclass(frozen=True)
class DetectionConfig:
    """From scores to detections (section 2.4: "the algorithm and settings from R-CNN").

    Attributes:
        per_class: best-scoring RoIs of a class and image that are kept before suppression.
        nms_iou: of two boxes of a class that overlap more than this, the better-scoring stays.
        least_score: what does not score more is dropped before suppression.
        per_image: best-scoring detections of an image that are kept after it; None: all.
        dtype: of the network.
    """

    per_class: int = 100
    nms_iou: float = 0.3
    least_score: float = 0.0
    per_image: int | None = None
    dtype: DType = "auto"


@dataclass(frozen=True)
class SVDConfig:
    """Truncated SVD of the finished network's layers (section 3.1); the paper: 1024 and 256.

    Attributes:
        fc6, fc7: singular values kept; None: the layer stays as it is.
    """

    fc6: int | None = None
    fc7: int | None = None


@dataclass(frozen=True)
class Config:
    """All of Fast R-CNN.

    Attributes:
        proposals_file: a `proposals.h5` made elsewhere, used instead of searching.
        top: best-ranked proposals an image, in training and test; None: all.
        difficult: whether VOC's difficult objects are learnt (section 4.2: R-CNN's do, SPPnet's do not).
    """

    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    proposals: SelectiveSearchConfig = field(default_factory=SelectiveSearchConfig)
    proposals_file: str | None = None
    top: int | None = 2000
    difficult: bool = True
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    svd: SVDConfig = field(default_factory=SVDConfig)


PRESETS = {
    # As the paper trains on VOC 2007: hours on one GPU.
    "paper": Config(backbone=BackboneConfig(name="vgg16")),
    # A minute or two on two cores, with R-CNN's drawn data, network and proposals.
    "small": Config(
        data=DataConfig(shapes=ShapesConfig(train=260, test=100)),
        # Three times the scenes' size: at a stride of 16 their objects cover few cells otherwise. Chosen,
        # as the rate, with a third of the training split held out (mAP 24.5 at 288, 26.8 at 480).
        scale=ScaleConfig(train=(576,), test=(576,)),
        train=TrainConfig(sgd=SGDConfig(lr=1e-2, iterations=800, lr_steps=(620,), warmup=50)),
    ),
    # Seconds: every stage runs, nothing is learnt. For tests.
    "micro": Config(
        data=DataConfig(shapes=ShapesConfig(train=8, test=4, width=128, height=96)),
        backbone=BackboneConfig(
            pretrain=PretrainConfig(objects=64, held_out=16, sgd=SGDConfig(lr=0.02, iterations=4))
        ),
        top=60,
        scale=ScaleConfig(train=(96,), test=(96,)),
        train=TrainConfig(sgd=SGDConfig(lr=1e-3, iterations=6)),
    ),
}
