"""The paper's values are the defaults, and what a preset does not say is the paper's."""

from __future__ import annotations

import pytest

from fast_rcnn.config import FIVE_SCALES, PRESETS, Config, SVDConfig

PAPER = PRESETS["paper"]


def test_the_papers_scales() -> None:
    assert (PAPER.scale.train, PAPER.scale.test, PAPER.scale.longest) == ((600,), (600,), 1000)
    assert FIVE_SCALES == (480, 576, 688, 864, 1200)
    assert PAPER.scale.window_side == 224


def test_the_papers_mini_batches() -> None:
    sampling = PAPER.sampling
    assert (sampling.images, sampling.rois) == (2, 64)
    assert (sampling.positive_fraction, sampling.positive_iou) == (0.25, 0.5)
    assert sampling.background_iou == (0.1, 0.5)
    assert not sampling.hard
    assert PAPER.difficult
    assert PAPER.train.mirror


def test_the_papers_loss() -> None:
    assert (PAPER.loss.box_weight, PAPER.loss.box) == (1, "smooth_l1")


def test_the_papers_schedule() -> None:
    train = PAPER.train
    rates = [train.sgd.lr_at(s) for s in (0, 29_999, 30_000, 39_999)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    assert train.sgd.iterations == 40_000
    assert (train.sgd.momentum, train.sgd.weight_decay) == (0.9, 5e-4)
    assert (train.bias_factor, train.new_layer_factor, train.learn) == (2, 1, "default")


def test_the_papers_detections() -> None:
    assert (PAPER.detection.per_class, PAPER.detection.nms_iou) == (100, 0.3)
    assert PAPER.proposals.mode == "fast"
    assert PAPER.top == 2000
    assert SVDConfig() == PAPER.svd == SVDConfig(None, None)


def test_the_papers_network() -> None:
    assert (PAPER.backbone.name, PAPER.backbone.weights) == ("vgg16", "default")


def test_what_is_not_said_is_the_papers() -> None:
    assert Config().train == PAPER.train
    for preset in PRESETS.values():
        assert (preset.sampling, preset.loss) == (PAPER.sampling, PAPER.loss)
        assert (preset.detection, preset.svd) == (PAPER.detection, PAPER.svd)
        assert preset.difficult
        assert (preset.train.bias_factor, preset.train.learn, preset.train.mirror) == (
            PAPER.train.bias_factor,
            PAPER.train.learn,
            PAPER.train.mirror,
        )
