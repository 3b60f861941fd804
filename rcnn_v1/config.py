"""R-CNN's configuration: the paper's value is every default; presets are beside it.

The paper: Girshick, Donahue, Darrell, Malik, "Rich feature hierarchies for accurate
object detection and semantic segmentation", CVPR 2014 (arXiv 1311.2524v5).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rcnn_v1.box_regression import BoxRegressionConfig
from rcnn_v1.detector import DetectionConfig
from rcnn_v1.features import FeaturesConfig
from rcnn_v1.fine_tune import FineTuneConfig
from rcnn_v1.svm import SVMConfig
from stages.backbones.pretrain import PretrainConfig
from stages.backbones.weights import BackboneConfig
from stages.data.load import DataConfig
from stages.data.shapes import ShapesConfig
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.training.sgd import SGDConfig


@dataclass(frozen=True)
class Config:
    """All of R-CNN.

    Attributes:
        top: best-ranked proposals an image, in training and test; None: all (section 2.2: about
            2,000 an image, no cap).
        context: pixels of context around a window, in the warped frame (appendix A: p = 16).
    """

    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    proposals: SelectiveSearchConfig = field(default_factory=SelectiveSearchConfig)
    top: int | None = None
    context: int = 16
    fine_tune: FineTuneConfig = field(default_factory=FineTuneConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    svms: SVMConfig = field(default_factory=SVMConfig)
    box_regression: BoxRegressionConfig = field(default_factory=BoxRegressionConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)


PRESETS = {
    # As the paper trains on VOC 2007: days on one GPU.
    "paper": Config(backbone=BackboneConfig(name="alexnet")),
    # Minutes on two cores, with the drawn data and the tiny network (crops of 64 pixels, so
    # context in proportion). The schedule is short because the network is.
    "small": Config(
        data=DataConfig(shapes=ShapesConfig(train=300, test=100)),
        context=4,
        fine_tune=FineTuneConfig(
            sgd=SGDConfig(lr=1e-2, iterations=400, lr_steps=(300,)), new_layer_factor=1.0
        ),
        features=FeaturesConfig(batch=256),
        box_regression=BoxRegressionConfig(batch=256),
        detection=DetectionConfig(batch=256),
    ),
    # Seconds: every stage runs, nothing is learnt. For tests.
    "micro": Config(
        data=DataConfig(shapes=ShapesConfig(train=8, test=4, width=128, height=96)),
        backbone=BackboneConfig(
            pretrain=PretrainConfig(objects=64, held_out=16, sgd=SGDConfig(lr=0.02, iterations=4))
        ),
        top=60,
        context=4,
        fine_tune=FineTuneConfig(sgd=SGDConfig(lr=1e-2, iterations=6)),
    ),
}
