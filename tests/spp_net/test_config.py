"""The paper's values, and the released code's where the paper gives none, are the defaults."""

from __future__ import annotations

import pytest

from rcnn_v1.config import PRESETS as RCNN
from spp_net.config import PRESETS, Config
from spp_net.pyramid import bins_of


def test_the_papers_pyramid() -> None:
    pyramid = PRESETS["paper"].pyramid
    assert pyramid.scales == (480, 576, 688, 864, 1200)
    assert pyramid.window_side == 224
    assert bins_of(pyramid.levels) == 50
    assert PRESETS["paper"].backbone.name == "alexnet"


def test_the_papers_schedule() -> None:
    tune = PRESETS["paper"].fine_tune
    assert tune.positives / (tune.positives + tune.backgrounds) == 0.25
    assert (tune.background_iou, tune.positive_iou) == (0.1, 0.5)
    assert tune.sgd.iterations == 300_000
    rates = [tune.sgd.lr_at(s) for s in (0, 249_999, 250_000, 299_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])


def test_svms_and_regressors_are_rcnns_but_for_what_the_paper_says() -> None:
    paper, rcnn = PRESETS["paper"], RCNN["paper"]
    assert paper.svms.negative_nms == 0.7
    assert rcnn.svms.negative_nms is None
    assert (paper.svms.c, paper.svms.negative_iou, paper.svms.norm) == (
        rcnn.svms.c,
        rcnn.svms.negative_iou,
        rcnn.svms.norm,
    )
    assert (paper.box_regression.min_iou, paper.box_regression.ridge) == (0.5, 4000)
    assert (paper.detection.per_class, paper.detection.nms_iou) == (100, 0.3)


def test_what_is_not_said_is_the_papers() -> None:
    paper = PRESETS["paper"]
    assert (Config().pyramid, Config().fine_tune) == (paper.pyramid, paper.fine_tune)
    for preset in PRESETS.values():
        assert (preset.box_regression, preset.detection) == (paper.box_regression, paper.detection)
        assert preset.svms.negative_nms == 0.7


@pytest.mark.parametrize("name", ["small", "micro"])
def test_the_small_ones_share_rcnns_images_proposals_and_pre_training(name: str) -> None:
    spp, rcnn = PRESETS[name], RCNN[name]
    assert (spp.data, spp.proposals, spp.top) == (rcnn.data, rcnn.proposals, rcnn.top)
    assert spp.backbone == rcnn.backbone
