"""SPPnet's configuration: the paper's value is every default; presets are beside it.

The paper: He, Zhang, Ren, Sun, "Spatial pyramid pooling in deep convolutional networks for visual
recognition", ECCV 2014 (arXiv 1406.4729). What it has from R-CNN is R-CNN's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rcnn_v1.config import BoxRegressionConfig, DetectionConfig, FeaturesConfig, SVMConfig
from stages.backbones.config import BackboneConfig, PretrainConfig
from stages.data.load import DataConfig
from stages.data.shapes import ShapesConfig
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.training.sgd import SGDConfig


@dataclass(frozen=True)
class PyramidConfig:
    """From an image to its windows' features of one length (section 4.1).

    Attributes:
        scales: lengths that the image's shorter side is brought to.
        longest: of the longer side at most (the paper has no cap; Fast R-CNN's for these scales).
        window_side: a window is taken from the scale at which its area is nearest to this squared;
            in fine-tuning from a random one. None: the side the network was pre-trained on, but
            at least six cells of the map.
        levels: bins on each side of each level of the pyramid.
    """

    scales: tuple[int, ...] = (480, 576, 688, 864, 1200)
    longest: int = 2000
    window_side: int | None = 224
    levels: tuple[int, ...] = (6, 3, 2, 1)


@dataclass(frozen=True)
class FineTuneConfig:
    """Fine-tuning of the fully connected layers (section 4.1).

    Attributes:
        sgd: the schedule; 0 iterations: no fine-tuning.
        positives, backgrounds: windows a batch: 25 % of 128 are positive.
        positive_iou: with an object, from which a window is positive.
        background_iou: from which, up to `positive_iou`, one is background.
        mirror: whether every other window by chance is of its image mirrored (released code). Costs the
            maps of the mirrored images, as much disk again.
        bias_factor: how much faster biases learn (released code).
        new_layer_factor: how much faster the network's own layers without pre-training learn. The
            paper has none but the scores, which learn no faster than the others.
    """

    sgd: SGDConfig = field(
        default_factory=lambda: SGDConfig(lr=1e-4, iterations=300_000, lr_steps=(250_000,))
    )
    positives: int = 32
    backgrounds: int = 96
    positive_iou: float = 0.5
    background_iou: float = 0.1
    mirror: bool = True
    bias_factor: float = 2.0
    new_layer_factor: float = 10.0


@dataclass(frozen=True)
class Config:
    """All of SPPnet.

    Attributes:
        proposals_file: a `proposals.h5` made elsewhere, used instead of searching.
        top: best-ranked proposals an image, in training and test; None: all.
        difficult: whether VOC's difficult objects train, as R-CNN's do; the 63.1 that Fast R-CNN's
            table 1 gives for SPPnet with VGG16 is without them.
        features: a batch is of windows, through the fully connected layers.
        svms: as R-CNN's; "any negative sample is removed if it overlaps another negative sample by
            more than 70 %".
        box_regression: from the pooled pyramid, windows with IoU of a half; released code's lambda.
    """

    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    proposals: SelectiveSearchConfig = field(default_factory=SelectiveSearchConfig)
    proposals_file: str | None = None
    top: int | None = None
    difficult: bool = True
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    fine_tune: FineTuneConfig = field(default_factory=FineTuneConfig)
    features: FeaturesConfig = field(default_factory=lambda: FeaturesConfig(batch=512))
    svms: SVMConfig = field(default_factory=lambda: SVMConfig(negative_nms=0.7))
    box_regression: BoxRegressionConfig = field(
        default_factory=lambda: BoxRegressionConfig(min_iou=0.5, ridge=4000.0, batch=512)
    )
    detection: DetectionConfig = field(default_factory=lambda: DetectionConfig(batch=512))


PRESETS = {
    # As the paper trains on VOC 2007, AlexNet in place of ZF-5: hours on one GPU, 90 GB of maps.
    "paper": Config(backbone=BackboneConfig(name="alexnet")),
    # Minutes on two cores, with the drawn data and the tiny network. R-CNN's small preset has the
    # same images, proposals and pre-training.
    "small": Config(
        data=DataConfig(shapes=ShapesConfig(train=260, test=100)),
        # `tiny` was pre-trained on 64 pixels, of which it makes a 4x4 map: its pyramid's finest level.
        # Scales and rate were chosen with a third of the training split held out.
        pyramid=PyramidConfig(scales=(288, 576), window_side=None, levels=(4, 2, 1)),
        fine_tune=FineTuneConfig(sgd=SGDConfig(lr=0.02, iterations=1000, lr_steps=(750,))),
        # As R-CNN's: a class has few objects here, each must count for more.
        svms=SVMConfig(c=1e-2, positive_weight=10.0, negative_nms=0.7),
    ),
    # Seconds: every stage runs, nothing is learnt. For tests.
    "micro": Config(
        data=DataConfig(shapes=ShapesConfig(train=8, test=4, width=128, height=96)),
        backbone=BackboneConfig(
            pretrain=PretrainConfig(objects=64, held_out=16, sgd=SGDConfig(lr=0.02, iterations=4))
        ),
        top=60,
        pyramid=PyramidConfig(scales=(96, 144), window_side=None, levels=(4, 2, 1)),
        fine_tune=FineTuneConfig(sgd=SGDConfig(lr=1e-2, iterations=6)),
    ),
}
