"""How many candidates there are before NMS: of each of a pyramid's maps, and of one map."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from faster_rcnn.config import Config as FasterConfig
from mask_rcnn.ablations import variants
from mask_rcnn.config import PRESETS, Config
from mask_rcnn.pipeline import proposals_of
from stages.options import parse


def before(config: Config) -> tuple[int | None, int | None]:
    training, test = proposals_of(config)
    return training.before, test.before


def parsed(*arguments: str) -> Config:
    return parse("mask_rcnn", Config, PRESETS, ["--device", "cpu", *arguments])[1]


def test_of_each_of_the_pyramids_maps_and_of_one_map() -> None:
    # The released code's, and Faster R-CNN's on its one map.
    assert before(parsed("--preset", "paper")) == (2000, 1000)
    faster = FasterConfig()
    for features in ("c4", "c5"):
        config = parsed("--preset", "paper", "--network.features", features)
        assert before(config) == (12_000, 6000)
        assert before(config) == (faster.joint.proposals.before, faster.proposals.before)


def test_they_are_options_and_nothing_else_of_the_proposals_changes() -> None:
    config = parsed(
        *("--preset", "paper", "--network.features", "c4"),
        *("--one-map.train", "None", "--one-map.test", "500"),
        *("--proposals.after", "300", "--train.proposals.nms-iou", "0.8"),
    )
    training, test = proposals_of(config)
    assert training == replace(config.train.proposals, before=None)
    assert test == replace(config.proposals, before=500)
    assert (training.nms_iou, test.after) == (0.8, 300)


@pytest.mark.parametrize("preset", ["small", "micro"])
def test_one_map_has_what_the_pyramids_have_together(preset: Any) -> None:
    config = PRESETS[preset]
    maps = len(config.rpn.anchors.sizes)
    training, test = before(config)
    assert training is not None
    assert test is not None
    assert (config.one_map.train, config.one_map.test) == (maps * training, maps * test)


@pytest.mark.parametrize("preset", PRESETS)
def test_so_have_the_ablations_rows_of_one_map(preset: str) -> None:
    config = PRESETS[preset]
    config = replace(config, backbone=replace(config.backbone, name="resnet50"))
    found = {row: before(each) for row, each in variants(config).items()}
    own = (config.train.proposals.before, config.proposals.before)
    one_map = (config.one_map.train, config.one_map.test)
    assert found.pop("C4") == found.pop("C5") == found.pop("C5, RoIPool") == one_map != own
    assert set(found.values()) == {own}
