"""Mask R-CNN's configuration: defaults are the paper's values for its pyramid; presets are beside it.

Where the paper is silent they are the released code's: the longest side of 1333, a warm-up of 500 steps,
biases at twice the rate and without decay, proposals before NMS and of any size, background RoIs from IoU
0, scores from 0.05. NMS at test is the later code's, at 0.5. There is no ResNet-101. C4's candidates before
NMS are its own, see `OneMapConfig`; where else its values differ, the README has the options.

The paper: He, Gkioxari, Dollár, Girshick, "Mask R-CNN", ICCV 2017 (arXiv 1703.06870). Its pyramid:
Lin, Dollár, Girshick, He, Hariharan, Belongie, "Feature Pyramid Networks for Object Detection", CVPR
2017 (arXiv 1612.03144), here "FPN".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fast_rcnn.config import DetectionConfig, LossConfig, SamplingConfig, ScaleConfig, TrainConfig
from faster_rcnn.config import (
    AnchorConfig,
    JointConfig,
    LabelConfig,
    ProposalConfig,
    RPNConfig,
    RPNLossConfig,
)
from stages.backbones.config import BackboneConfig, PretrainConfig
from stages.data.load import DataConfig
from stages.data.shapes import ShapesConfig
from stages.training.sgd import SGDConfig


@dataclass(frozen=True)
class PyramidConfig:
    """The feature pyramid (FPN, section 3).

    Attributes:
        finest: stride of its finest map; coarser ones up to the network's last, and for the RPN alone
            one beyond.
        width: channels of every map.
        canonical_side: a RoI of this side is pooled from the map of stride 16 (FPN, equation 1).
    """

    finest: Literal[4, 8, 16] = 4
    width: int = 256
    canonical_side: float = 224.0


@dataclass(frozen=True)
class PoolConfig:
    """How a RoI's features are taken from a map (section 3, "RoIAlign").

    Attributes:
        kind: "align"; "pool": RoIPool, which rounds the RoI and its bins and takes maxima; "warp":
            RoIWarp, which rounds the RoI as RoIPool does and then interpolates.
        points: along each side of a bin where the map is interpolated; 0: as many as the bin has cells
            (released code: 2 with FPN, 0 with C4).
        half_pixel: whether a cell's value is that of its middle; else of its corner, as in the paper's
            own code and torchvision's detectors.
        box_side, mask_side: of the pooled maps. C4's boxes have the backbone's own instead.
        aggregate: what a bin is of its points' values (table 2c): their mean, or of each channel the
            largest. "pool" has no points: its maximum is of cells, whatever is said here.
    """

    kind: Literal["align", "pool", "warp"] = "align"
    points: int = 2
    half_pixel: bool = True
    box_side: int = 7
    mask_side: int = 14
    aggregate: Literal["average", "max"] = "average"


@dataclass(frozen=True)
class MaskConfig:
    """The mask branch (section 3, "Mask Representation", "Network Architecture").

    Attributes:
        branch: "fcn"; "mlp": fully connected layers, which forget position (table 2e); "none": no
            masks, that is Faster R-CNN.
        convs, width: 3x3 convolutions before the deconvolution, and channels. C4 needs none where the
            network's last stage is convolutional: the branch is on top of that.
        fc: width of the "mlp"'s two hidden layers.
        loss: "sigmoid": a pixel is the true class's or not, whatever other classes say; "softmax":
            classes compete for it (table 2b).
        class_specific: a mask for each class; else one for all (section 4.2).
    """

    branch: Literal["fcn", "mlp", "none"] = "fcn"
    convs: int = 4
    width: int = 256
    fc: int = 1024
    loss: Literal["sigmoid", "softmax"] = "sigmoid"
    class_specific: bool = True


@dataclass(frozen=True)
class NetworkConfig:
    """What is built on the backbone (section 3, "Network Architecture").

    Attributes:
        features: "fpn"; "c4": one map at stride 16, the backbone's last stage as the head; "c5": one
            map at stride 32, for table 2d.
        fc: width of the box head's two layers, but C4's.
    """

    features: Literal["fpn", "c4", "c5"] = "fpn"
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    fc: int = 1024
    mask: MaskConfig = field(default_factory=MaskConfig)


@dataclass(frozen=True)
class OneMapConfig:
    """Candidates before NMS where there is one map, C4's or C5's.

    The proposals' `before` is of each of the pyramid's maps. One map with as few would have a fifth of
    the candidates: what a pyramid is worth beside it would be mixed with that.

    Attributes:
        train, test: best-scoring boxes of an image, as on Faster R-CNN's one map; None: all.
    """

    train: int | None = 12_000
    test: int | None = 6_000


@dataclass(frozen=True)
class MaskDetectionConfig(DetectionConfig):
    """From scores to detections and masks (section 3.1, "Inference").

    Attributes:
        per_class: see `DetectionConfig`; here too many to matter: the released code keeps all.
        nms_iou: 0.3 in the paper, 0.5 in the code since.
        per_image: detections that get a mask; no others are reported.
        mask_threshold: of a pixel's probability.
        rounded: whether masks are placed on whole pixels as the released code and torchvision do it, up
            to a pixel off; else where the box is.
    """

    per_class: int = 1000
    nms_iou: float = 0.5
    least_score: float = 0.05
    per_image: int | None = 100
    mask_threshold: float = 0.5
    rounded: bool = False


@dataclass(frozen=True)
class Config:
    """All of Mask R-CNN.

    Attributes:
        difficult: whether VOC's difficult objects are learnt.
        rpn: its anchors have a size for each map, finest first (FPN, section 4.1); with one map, all.
        train: images and RoIs a step, schedule, proposals: RPN, boxes and masks are learnt together.
        loss: of the boxes.
        proposals: at test.
        one_map: with C4 and C5, in the place of both proposals' `before`.
    """

    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    difficult: bool = False
    scale: ScaleConfig = field(
        default_factory=lambda: ScaleConfig(train=(800,), test=(800,), longest=1333)
    )
    network: NetworkConfig = field(default_factory=NetworkConfig)
    rpn: RPNConfig = field(
        default_factory=lambda: RPNConfig(
            width=256,
            anchors=AnchorConfig(sizes=(32.0, 64.0, 128.0, 256.0, 512.0)),
            # Those that cross the image's edge learn too (FPN, section 4.1).
            labels=LabelConfig(inside=False),
            loss=RPNLossConfig(scale="python"),
        )
    )
    train: JointConfig = field(
        default_factory=lambda: JointConfig(
            train=TrainConfig(
                sgd=SGDConfig(
                    lr=0.02,
                    iterations=160_000,
                    lr_steps=(120_000,),
                    weight_decay=1e-4,
                    warmup=500,
                )
            ),
            proposals=ProposalConfig(before=2000, after=2000, least_side=0.0),
            sampling=SamplingConfig(images=16, rois=512, background_iou=(0.0, 0.5)),
        )
    )
    loss: LossConfig = field(default_factory=LossConfig)
    proposals: ProposalConfig = field(
        default_factory=lambda: ProposalConfig(before=1000, after=1000, least_side=0.0)
    )
    one_map: OneMapConfig = field(default_factory=OneMapConfig)
    detection: MaskDetectionConfig = field(default_factory=MaskDetectionConfig)


PUBLISHED = "torchvision-coco"  # as WEIGHTS: torchvision's whole detector, trained on COCO

PRESETS = {
    # As the paper trains on COCO: a day or two on eight GPUs.
    "paper": Config(
        data=DataConfig(name="coco"),
        backbone=BackboneConfig(name="resnet50"),
    ),
    # Minutes on two cores, with the other papers' drawn data and network.
    "small": Config(
        data=DataConfig(shapes=ShapesConfig(train=260, test=100)),
        scale=ScaleConfig(train=(384,), test=(384,)),
        network=NetworkConfig(
            pyramid=PyramidConfig(finest=8, width=64, canonical_side=96.0),
            fc=256,
            mask=MaskConfig(convs=2, width=64),
        ),
        rpn=RPNConfig(
            width=64,
            anchors=AnchorConfig(sizes=(32.0, 64.0, 128.0)),
            labels=LabelConfig(inside=False),
            loss=RPNLossConfig(scale="python"),
        ),
        train=JointConfig(
            train=TrainConfig(
                sgd=SGDConfig(lr=1e-2, iterations=1200, lr_steps=(950,), warmup=50),
                new_layer_factor=3.0,
            ),
            proposals=ProposalConfig(before=1000, after=600, least_side=8.0),
            sampling=SamplingConfig(images=2, rois=64, background_iou=(0.0, 0.5)),
        ),
        proposals=ProposalConfig(before=1000, after=300, least_side=8.0),
        one_map=OneMapConfig(train=3000, test=3000),  # as many as the pyramid's three together
    ),
    # Seconds: every stage runs, nothing is learnt. For tests.
    "micro": Config(
        data=DataConfig(shapes=ShapesConfig(train=8, test=4, width=128, height=96)),
        backbone=BackboneConfig(
            pretrain=PretrainConfig(objects=64, held_out=16, sgd=SGDConfig(lr=0.02, iterations=4))
        ),
        scale=ScaleConfig(train=(96,), test=(96,)),
        network=NetworkConfig(
            pyramid=PyramidConfig(finest=8, width=16, canonical_side=48.0),
            fc=32,
            mask=MaskConfig(convs=1, width=16, fc=32),
        ),
        rpn=RPNConfig(
            width=16,
            anchors=AnchorConfig(sizes=(16.0, 32.0, 64.0)),
            labels=LabelConfig(inside=False),
            loss=RPNLossConfig(scale="python"),
        ),
        train=JointConfig(
            train=TrainConfig(sgd=SGDConfig(lr=1e-3, iterations=3)),
            proposals=ProposalConfig(200, after=60, least_side=4.0),
            sampling=SamplingConfig(images=2, rois=32, background_iou=(0.0, 0.5)),
        ),
        proposals=ProposalConfig(200, after=40, least_side=4.0),
        one_map=OneMapConfig(train=600, test=600),
    ),
}
