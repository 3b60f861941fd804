"""The paper's values, and the released code's where the paper gives none, are the defaults."""

from __future__ import annotations

import pytest

from rcnn_v1.config import PRESETS, Config
from rcnn_v1.pipeline import feature_layer


def test_the_papers_schedule() -> None:
    tune = PRESETS["paper"].fine_tune
    assert (tune.positives, tune.backgrounds, tune.positive_iou) == (32, 96, 0.5)
    assert tune.new_layer_factor == 10
    assert (tune.sgd.iterations, tune.sgd.momentum) == (70_000, 0.9)
    rates = [tune.sgd.lr_at(s) for s in (0, 19_999, 20_000, 40_000, 60_000, 69_999)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6])


def test_the_papers_windows() -> None:
    paper = PRESETS["paper"]
    assert paper.context == pytest.approx(16 / 227)
    assert paper.top is None
    assert (paper.proposals.mode, paper.proposals.min_side) == ("fast", 20)
    assert paper.backbone.name == "alexnet"
    for network in ("alexnet", "vgg16"):
        assert feature_layer(network, paper.features.layer) == "fc7"


def test_the_released_codes_svms_and_regressors() -> None:
    svms, boxes = PRESETS["paper"].svms, PRESETS["paper"].box_regression
    assert (svms.negative_iou, svms.c, svms.positive_weight) == (0.3, 1e-3, 2)
    assert (svms.bias_scale, svms.norm) == (10, 20)
    assert (boxes.min_iou, boxes.ridge, boxes.norm, boxes.whiten) == (0.6, 1000, 20, 1e-3)
    assert boxes.max_windows is None


def test_the_released_codes_detections() -> None:
    detection = PRESETS["paper"].detection
    assert (detection.per_class, detection.nms_iou) == (100, 0.3)


def test_what_is_not_said_is_the_papers() -> None:
    paper = PRESETS["paper"]
    assert (Config().fine_tune, Config().svms) == (paper.fine_tune, paper.svms)
    for preset in PRESETS.values():
        assert (preset.box_regression, preset.detection) == (paper.box_regression, paper.detection)
        assert preset.context == paper.context
