"""R-CNN's configuration: the paper's value is every default; presets are beside it.

The paper: Girshick, Donahue, Darrell, Malik, "Rich feature hierarchies for accurate
object detection and semantic segmentation", CVPR 2014 (arXiv 1311.2524v5).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stages.backbones.config import BackboneConfig, PretrainConfig
from stages.data.load import DataConfig
from stages.data.shapes import ShapesConfig
from stages.device import DType
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.training.sgd import SGDConfig


@dataclass(frozen=True)
class FineTuneConfig:
    """R-CNN, section 2.3 and the released code.

    Attributes:
        sgd: the schedule; 0 iterations: no fine-tuning.
        positives: windows a batch with IoU >= `positive_iou` to an object.
        backgrounds: the others.
        bias_factor: how much faster biases learn; they do not decay (released code).
        new_layer_factor: how much faster layers without pre-training learn.
    """

    sgd: SGDConfig = field(
        default_factory=lambda: SGDConfig(
            lr=1e-3, iterations=70_000, lr_steps=(20_000, 40_000, 60_000)
        )
    )
    positives: int = 32
    backgrounds: int = 96
    positive_iou: float = 0.5
    bias_factor: float = 2.0
    new_layer_factor: float = 10.0


@dataclass(frozen=True)
class FeaturesConfig:
    """What is cached (R-CNN, section 3.2).

    Attributes:
        layer: `pool5`, or a layer of the head by name: `fc6`, `fc7`; `last`: the head's last, which
            is the paper's fc7 wherever there is one.
        batch: crops a forward pass.
        dtype: of the network; the cache is half precision in any case.
    """

    layer: str = "last"
    batch: int = 128
    dtype: DType = "auto"


@dataclass(frozen=True)
class SVMConfig:
    """Released code's values, where the paper gives none.

    Attributes:
        negative_iou: windows whose IoU with every object of the class is below are negatives;
            positives are the objects' own boxes, and what lies between is ignored.
        negative_nms: of an image's negatives that would join the training set and overlap more
            than this, the hardest alone does (SPPnet, section 4.1: 0.7); None: all do.
        c: the hinge loss's weight.
        positive_weight: how much more a positive's loss counts.
        bias_scale: the constant feature whose weight is the bias.
        norm: features are scaled to this norm on average.
        hard_score: a negative that scores above joins the training set.
        easy_score: one that scores below after a retraining leaves it.
        retrain_after: new negatives of a class that make it worth retraining.
        tolerance: of the solver (released code: liblinear's own 0.1).
        mined_bytes: memory for mined negatives, of all classes together; where more would be
            kept, the easiest leave. The released code keeps all.
    """

    negative_iou: float = 0.3
    negative_nms: float | None = None
    c: float = 1e-3
    positive_weight: float = 2.0
    bias_scale: float = 10.0
    norm: float = 20.0
    hard_score: float = -1.0001
    easy_score: float = -1.2
    retrain_after: int = 2000
    tolerance: float = 1e-3
    mined_bytes: int = 800 * 2**20
    seed: int = 0


@dataclass(frozen=True)
class BoxRegressionConfig:
    """R-CNN, appendix C, and the released code.

    Attributes:
        min_iou: windows nearer than this to an object of the class learn.
        ridge: lambda; it holds the bias column too, as in the released code.
        norm: pool5 is scaled to this norm on average.
        whiten: added to the covariance's eigenvalues before the targets are whitened by it.
        max_windows: of a class, drawn at random where there are more; None: all, as in the paper.
        batch, dtype: of the network.
    """

    min_iou: float = 0.6
    ridge: float = 1000.0
    norm: float = 20.0
    whiten: float = 1e-3
    max_windows: int | None = None
    batch: int = 128
    dtype: DType = "auto"
    seed: int = 0


@dataclass(frozen=True)
class DetectionConfig:
    """From scores to detections (released code).

    Attributes:
        per_class: best-scoring windows of a class and image that are kept before suppression. The
            released code then lowers this by a per-class threshold that leaves 40 an image on
            average; we keep them all, which can only lengthen a precision-recall curve.
        nms_iou: of two boxes of a class that overlap more than this, the better-scoring stays
            (section 2.2 learns it; released code: 0.3).
        batch: crops a forward pass.
    """

    per_class: int = 100
    nms_iou: float = 0.3
    batch: int = 128


@dataclass(frozen=True)
class Config:
    """All of R-CNN.

    Attributes:
        proposals_file: a `proposals.h5` made elsewhere, used instead of searching.
        top: best-ranked proposals an image, in training and test; None: all (section 2.2: about
            2,000 an image, no cap).
        context: around a window, on each side, as a part of the warped frame's side (appendix A:
            p = 16 of AlexNet's 227).
    """

    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    proposals: SelectiveSearchConfig = field(default_factory=SelectiveSearchConfig)
    proposals_file: str | None = None
    top: int | None = None
    context: float = 16 / 227
    fine_tune: FineTuneConfig = field(default_factory=FineTuneConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    svms: SVMConfig = field(default_factory=SVMConfig)
    box_regression: BoxRegressionConfig = field(default_factory=BoxRegressionConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)


PRESETS = {
    # As the paper trains on VOC 2007: days on one GPU.
    "paper": Config(backbone=BackboneConfig(name="alexnet")),
    # Minutes on two cores, with the drawn data and the tiny network.
    "small": Config(
        data=DataConfig(shapes=ShapesConfig(train=260, test=100)),
        fine_tune=FineTuneConfig(sgd=SGDConfig(lr=5e-3, iterations=320, lr_steps=(240,))),
        # A class has some 130 objects here, where VOC's have several hundred: each must count for
        # more. Chosen with a third of the training split held out.
        svms=SVMConfig(c=1e-2, positive_weight=10.0),
    ),
    # Seconds: every stage runs, nothing is learnt. For tests.
    "micro": Config(
        data=DataConfig(shapes=ShapesConfig(train=8, test=4, width=128, height=96)),
        backbone=BackboneConfig(
            pretrain=PretrainConfig(objects=64, held_out=16, sgd=SGDConfig(lr=0.02, iterations=4))
        ),
        top=60,
        fine_tune=FineTuneConfig(sgd=SGDConfig(lr=1e-2, iterations=6)),
    ),
}
