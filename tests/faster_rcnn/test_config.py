"""The paper's numbers are the defaults; presets are another's; and all of them can be options."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from faster_rcnn.config import PRESETS, Config, ProposalConfig
from faster_rcnn.loss import OWN_WEIGHT, SIGMA
from stages.options import parse


def test_the_papers_numbers() -> None:
    config = Config()
    assert config == dataclasses.replace(PRESETS["paper"], backbone=config.backbone)
    assert PRESETS["paper"].backbone.name == "vgg16"
    assert config.training == "alternating"  # section 3.2: "We adopt" it "in all experiments"
    # Section 3.3.
    assert (config.scale.train, config.scale.test) == ((600,), (600,))
    anchors, labels = config.rpn.anchors, config.rpn.labels
    assert anchors.sizes == (128, 256, 512)
    assert anchors.ratios == (0.5, 1, 2)
    assert config.proposals.nms_iou == 0.7
    assert config.proposals.after == 300  # tables 1 to 3
    assert config.proposals.before == 6000  # released code
    train = config.alternating.proposals
    assert (train.nms_iou, train.after, train.before) == (0.7, 2000, None)
    assert config.proposals.least_side == train.least_side == 16
    # Sections 3.1.1 to 3.1.3.
    assert config.rpn.width == 512
    assert (labels.positive_iou, labels.negative_iou) == (0.7, 0.3)
    assert (labels.anchors, labels.positive_fraction, labels.inside) == (256, 0.5, True)
    # What trained the tables; the paper's own formula is there to be chosen.
    assert config.rpn.loss.scale == "released"
    assert config.rpn.loss.box_weight is None
    assert OWN_WEIGHT == {"paper": 10, "matlab": 10, "python": 1}
    assert SIGMA == 3
    # "a learning rate of 0.001 for 60k mini-batches, and 0.0001 for the next 20k".
    sgd = config.alternating.rpn.sgd
    assert (sgd.lr, sgd.lr_steps, sgd.iterations) == (0.001, (60_000,), 80_000)
    assert (sgd.momentum, sgd.weight_decay) == (0.9, 0.0005)
    assert config.alternating.rpn_images == 1  # "image-centric"
    # Fast R-CNN's own, on which it builds.
    assert config.detection.nms_iou == 0.3
    assert config.alternating.sampling.rois * config.alternating.sampling.images == 128


def test_the_joint_ones_are_the_released_python_codes() -> None:
    joint = Config().joint
    assert (joint.proposals.before, joint.proposals.after) == (12_000, 2000)
    assert joint.box_std == (0.1, 0.1, 0.2, 0.2)
    assert (joint.train.sgd.iterations, joint.train.sgd.lr_steps) == (70_000, (50_000,))
    assert joint.sampling.background_iou == (0.0, 0.5)
    assert joint.sampling.rois == 128


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_sees_an_image_at_one_size(preset: str) -> None:
    assert len(PRESETS[preset].scale.test) == 1


def test_any_field_is_an_option() -> None:
    given = {
        "--training": ["joint"],
        "--rpn.anchors.sizes": ["32", "64"],
        "--rpn.labels.positive-iou": ["0.5"],
        "--rpn.loss.scale": ["python"],
        "--proposals.before": ["None"],
        "--proposals.scores": ["none"],
        "--alternating.detector.sgd.lr": ["0.01"],
        "--joint.box-std": ["1", "1", "2", "2"],
    }
    arguments = [part for name, values in given.items() for part in (name, *values)]
    _, config = parse("faster_rcnn", Config, PRESETS, ["--preset", "micro", *arguments])
    assert config.training == "joint"
    assert config.rpn.anchors.sizes == (32, 64)
    assert config.rpn.labels.positive_iou == 0.5
    assert config.rpn.loss.scale == "python"
    expected: dict[str, Any] = {"before": None, "scores": "none"}
    assert config.proposals == dataclasses.replace(PRESETS["micro"].proposals, **expected)
    assert config.alternating.detector.sgd.lr == 0.01
    assert config.joint.box_std == (1, 1, 2, 2)


def test_what_the_ablations_leave_out_is_there_by_default() -> None:
    assert (ProposalConfig().scores, ProposalConfig().boxes) == ("rpn", "rpn")
