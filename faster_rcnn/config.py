"""Faster R-CNN's configuration: the paper's value is every default; presets are beside it.

The paper: Ren, He, Girshick, Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region
Proposal Networks", NIPS 2015 (arXiv 1506.01497).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fast_rcnn.config import DetectionConfig, LossConfig, SamplingConfig, ScaleConfig, TrainConfig
from stages.backbones.config import BackboneConfig, PretrainConfig
from stages.data.load import DataConfig
from stages.data.shapes import ShapesConfig
from stages.training.sgd import SGDConfig


@dataclass(frozen=True)
class AnchorConfig:
    """The boxes that the RPN starts from, the same at every position of the map (section 3.1.1).

    Attributes:
        sizes: sides of the squares of the anchors' areas, in pixels of the scaled image.
        ratios: height over width; each with each size.
        centre: where in its cell an anchor's centre lies, in cells (torchvision: 0). It does not follow
            `Backbone.shift`, as RoI pooling does: an anchor is what offsets are measured from, and a
            constant distance to where its cell looks is learnt in their biases. With 0.5 it is 7.5
            pixels for every network (none for VGG16), as in the released code; and objects overlap a
            grid of anchors as well wherever it begins.
        as_torchvision: for torchvision's weights, corners are rounded to whole pixels, and the cells of
            a map that reaches beyond the image's frame are a little closer than its stride.
    """

    sizes: tuple[float, ...] = (128.0, 256.0, 512.0)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    centre: float = 0.5
    as_torchvision: bool = False


@dataclass(frozen=True)
class LabelConfig:
    """Which anchors are objects, which are not, and how many of them learn (sections 3.1.2, 3.1.3).

    Attributes:
        positive_iou: from which an anchor is an object's; an object's best anchor always is.
        negative_iou: below which, with all objects, it is background.
        inside: whether anchors that cross the image's edge are left out of training.
        anchors: drawn of an image.
        positive_fraction: at most this part of them is positive.
    """

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    inside: bool = True
    anchors: int = 256
    positive_fraction: float = 0.5


@dataclass(frozen=True)
class RPNLossConfig:
    """The RPN's loss (section 3.1.2, equation 1), whose scale differs between the paper and its codes.

    Attributes:
        scale: of the box loss. "paper": smooth L1 of the offsets, over the number of positions;
            "matlab": the same of offsets brought to mean 0 and deviation 1; "python": smooth L1 with
            sigma 3, over the number of anchors drawn. "released": that of the code whose way of
            training it is, "matlab" in the four steps, "python" where all is learnt at once.
        box_weight: lambda; None: the scale's own, 10, 10 and 1. 0: the boxes are not learnt.
        score_weight: of the objectness; 0: it is not learnt.
    """

    scale: Literal["released", "paper", "matlab", "python"] = "released"
    box_weight: float | None = None
    score_weight: float = 1.0


@dataclass(frozen=True)
class RPNConfig:
    """The region proposal network (section 3.1).

    Attributes:
        width: channels of its 3x3 convolution (256 with ZF, 512 with VGG16).
    """

    width: int = 512
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    loss: RPNLossConfig = field(default_factory=RPNLossConfig)


@dataclass(frozen=True)
class ProposalConfig:
    """From the RPN's answers to proposals (section 3.3, "we adopt NMS").

    Attributes:
        before: best-scoring boxes of an image and map that are suppressed; None: all.
        nms_iou: of two that overlap more than this, the better-scoring stays; 1: no suppression.
        after: best of those left that are proposed.
        least_side: shorter ones, in the image's own pixels, are dropped, and take no place among
            `before` (released codes: 16). 0: as in Mask R-CNN's code and torchvision, what is cut to
            nothing at the image's edge is dropped, and has taken its place.
        scores: "none": a random order, as the ablation without the cls layer has it.
        boxes: "none": the anchors themselves, as the ablation without the reg layer.
    """

    before: int | None = 6000
    nms_iou: float = 0.7
    after: int = 300
    least_side: float = 16.0
    scores: Literal["rpn", "none"] = "rpn"
    boxes: Literal["rpn", "none"] = "rpn"


@dataclass(frozen=True)
class AlternatingConfig:
    """4-step alternating training (section 3.2).

    Attributes:
        rpn: of steps 1 and 3, `rpn_images` a batch; detector: of steps 2 and 4, as Fast R-CNN.
        proposals: of steps 1 and 3 for the detector to learn from.
        sampling: of the detector's RoIs.
    """

    rpn: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            sgd=SGDConfig(lr=1e-3, iterations=80_000, lr_steps=(60_000,))
        )
    )
    rpn_images: int = 1
    detector: TrainConfig = field(default_factory=TrainConfig)
    proposals: ProposalConfig = field(
        default_factory=lambda: ProposalConfig(before=None, after=2000)
    )
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


@dataclass(frozen=True)
class JointConfig:
    """Approximate joint training (section 3.2; its numbers are the released Python code's).

    Attributes:
        sampling: of the detector's RoIs. The paper's code sees one image twice before each step.
        box_std: deviations that the detector's box targets are divided by.
    """

    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            sgd=SGDConfig(lr=1e-3, iterations=70_000, lr_steps=(50_000,))
        )
    )
    proposals: ProposalConfig = field(
        default_factory=lambda: ProposalConfig(before=12_000, after=2000)
    )
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(images=2, rois=128, background_iou=(0.0, 0.5))
    )
    box_std: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)


@dataclass(frozen=True)
class Config:
    """All of Faster R-CNN.

    Attributes:
        training: which of the paper's two ways; the other's part of the configuration is idle.
        difficult: whether VOC's difficult objects are learnt (released code: not).
        loss: of the detector.
        proposals: at test.
    """

    training: Literal["alternating", "joint"] = "alternating"
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    difficult: bool = False
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    alternating: AlternatingConfig = field(default_factory=AlternatingConfig)
    joint: JointConfig = field(default_factory=JointConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)


# New layers learn three times as fast as the others: schedules of a minute are short of steps.
_SMALL = TrainConfig(
    sgd=SGDConfig(lr=1e-2, iterations=1200, lr_steps=(950,), warmup=50), new_layer_factor=3.0
)
_SMALL_STEP = TrainConfig(
    sgd=SGDConfig(lr=1e-2, iterations=600, lr_steps=(470,), warmup=50), new_layer_factor=3.0
)
_MICRO = TrainConfig(sgd=SGDConfig(lr=1e-3, iterations=3))

PRESETS = {
    # As the paper trains on VOC 2007: hours on one GPU.
    "paper": Config(backbone=BackboneConfig(name="vgg16")),
    # Two or three minutes on two cores, with the other papers' drawn data and network.
    "small": Config(
        training="joint",
        data=DataConfig(shapes=ShapesConfig(train=260, test=100)),
        # Twice the scenes' size. `tiny` sees about 95 pixels: at 576, Fast R-CNN's best, most objects
        # are more than the RPN can take in. Chosen, as the loss and the rates, with a third of the
        # training split held out (mAP 15.9 at 288, 18.8 at 384, 16.0 at 576; the paper's loss is slower).
        scale=ScaleConfig(train=(384,), test=(384,)),
        rpn=RPNConfig(
            width=128,
            anchors=AnchorConfig(sizes=(32.0, 64.0, 128.0)),
            loss=RPNLossConfig(scale="python"),
        ),
        proposals=ProposalConfig(least_side=8.0),
        joint=JointConfig(
            train=_SMALL,
            proposals=ProposalConfig(before=2000, after=600, least_side=8.0),
            sampling=SamplingConfig(images=2, rois=64, background_iou=(0.0, 0.5)),
        ),
        alternating=AlternatingConfig(
            rpn=_SMALL_STEP,
            rpn_images=2,
            detector=_SMALL_STEP,
            proposals=ProposalConfig(before=None, after=2000, least_side=8.0),
        ),
    ),
    # Seconds: every stage runs, nothing is learnt. For tests.
    "micro": Config(
        data=DataConfig(shapes=ShapesConfig(train=8, test=4, width=128, height=96)),
        backbone=BackboneConfig(
            pretrain=PretrainConfig(objects=64, held_out=16, sgd=SGDConfig(lr=0.02, iterations=4))
        ),
        scale=ScaleConfig(train=(96,), test=(96,)),
        rpn=RPNConfig(width=32, anchors=AnchorConfig(sizes=(16.0, 32.0, 64.0))),
        alternating=AlternatingConfig(
            rpn=_MICRO, detector=_MICRO, proposals=ProposalConfig(None, after=60, least_side=4.0)
        ),
        joint=JointConfig(train=_MICRO, proposals=ProposalConfig(200, after=60, least_side=4.0)),
        proposals=ProposalConfig(200, after=40, least_side=4.0),
    ),
}
