"""The RPN's loss by hand at each of its scales, and its gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from faster_rcnn.config import RPNConfig, RPNLossConfig
from faster_rcnn.loss import OWN_WEIGHT, rpn_loss, settle, settle_loss

PAPER, MATLAB, PYTHON = (
    RPNLossConfig("paper"),
    RPNLossConfig("matlab"),
    RPNLossConfig("python"),
)
EVERY = [PAPER, MATLAB, PYTHON]

# Two images, three places of each: two used of the first, one of the second.
CHANCES = torch.tensor([[0.5, 0.25, 0.75], [0.125, 0.9, 0.5]])
POSITIVE = torch.tensor([[True, False, False], [True, False, False]])
USED = torch.tensor([[True, True, False], [True, False, False]])
TARGETS = torch.tensor(
    [
        [[1.0, 0.25, -1, 0], [70, 80, 90, 100], [1, 1, 1, 1]],
        [[0.0, 0, 2, 0.5], [9, 9, 9, 9], [7, 7, 7, 7]],
    ]
)
ERRORS = torch.zeros(2, 3, 4)
ERRORS[0, 0] = torch.tensor([0.5, -0.25, 3.0, 0.0])
ERRORS[1, 0] = torch.tensor([-0.0625, 1.0, -2.0, 0.125])
ERRORS[0, 1:], ERRORS[1, 1:] = 5.0, -5.0  # of what has no box to learn
OFFSETS = TARGETS + ERRORS
ANCHORS, POSITIONS = 4, 5  # N_cls of an image, N_reg of an image

LOGS = -(math.log(0.5) + math.log(1 - 0.25) + math.log(0.125))
# 0.5 x^2 up to 1, |x| - 0.5 from there.
SMOOTH = (0.125 + 0.03125 + 2.5 + 0) + (0.001953125 + 0.5 + 1.5 + 0.0078125)
# 0.5 (3x)^2 up to 1/9, |x| - 1/18 from there (the Python code's smooth_l1_loss_layer.cu).
SIGMA_3 = (
    (0.5 - 1 / 18)
    + (0.25 - 1 / 18)
    + (3 - 1 / 18)
    + 0
    + 4.5 * 0.0625**2
    + (1 - 1 / 18)
    + (2 - 1 / 18)
    + (0.125 - 1 / 18)
)


def loss(
    config: RPNLossConfig,
    scores: Tensor | None = None,
    offsets: Tensor = OFFSETS,
    targets: Tensor = TARGETS,
    positive: Tensor = POSITIVE,
    used: Tensor = USED,
    anchors: int = ANCHORS,
    positions: int = POSITIONS,
) -> dict[str, Tensor]:
    scores = CHANCES.logit() if scores is None else scores
    return rpn_loss(scores, offsets, targets, positive, used, anchors, positions, config)


def values(losses: dict[str, Tensor]) -> dict[str, float]:
    return {key: value.item() for key, value in losses.items()}


def test_by_hand_as_the_paper_has_it() -> None:
    # Equation 1: over N_cls = 4 places of each of two images, used or not; over N_reg = 5 positions
    # of each; lambda 10.
    assert values(loss(PAPER)) == pytest.approx(
        {"objectness": LOGS / 8, "rpn_boxes": 10 * SMOOTH / 10}, rel=1e-5
    )


def test_by_hand_as_the_matlab_code_has_it() -> None:
    # Its softmax layer divides by the weights' sum, the three anchors that are used; its box layer by
    # the map's height and width; lambda 10. (The targets are standardised before.)
    assert values(loss(MATLAB)) == pytest.approx(
        {"objectness": LOGS / 3, "rpn_boxes": 10 * SMOOTH / 10}, rel=1e-5
    )


def test_by_hand_as_the_python_code_has_it() -> None:
    # Both over the three anchors that are used; lambda 1.
    assert values(loss(PYTHON)) == pytest.approx(
        {"objectness": LOGS / 3, "rpn_boxes": SIGMA_3 / 3}, rel=1e-5
    )


def test_with_the_papers_numbers() -> None:
    # One image, 256 anchors drawn, about 2,400 positions: cls and reg are "roughly equally weighted".
    scores, offsets = torch.zeros(1, 256), torch.ones(1, 256, 4)
    positive = torch.arange(256)[None] < 128
    every = torch.ones(1, 256, dtype=torch.bool)
    losses = rpn_loss(scores, offsets, torch.zeros_like(offsets), positive, every, 256, 2400, PAPER)
    assert values(losses) == pytest.approx(
        {"objectness": math.log(2), "rpn_boxes": 10 * 128 * 4 * 0.5 / 2400}
    )


def test_twice_the_images_half_the_weight_of_each() -> None:
    for config in EVERY:
        once = loss(config)
        twice = loss(
            config,
            CHANCES.logit().repeat(2, 1),
            OFFSETS.repeat(2, 1, 1),
            TARGETS.repeat(2, 1, 1),
            POSITIVE.repeat(2, 1),
            USED.repeat(2, 1),
        )
        assert values(twice) == pytest.approx(values(once))


def test_only_their_own_numbers_scale_them() -> None:
    plain = values(loss(PAPER))
    assert values(loss(PAPER, anchors=8)) == pytest.approx(
        {**plain, "objectness": plain["objectness"] / 2}
    )
    assert values(loss(PAPER, positions=10)) == pytest.approx(
        {**plain, "rpn_boxes": plain["rpn_boxes"] / 2}
    )
    assert values(loss(PYTHON, anchors=8, positions=10)) == values(loss(PYTHON))
    plain = values(loss(MATLAB))
    assert values(loss(MATLAB, anchors=8, positions=10)) == pytest.approx(
        {**plain, "rpn_boxes": plain["rpn_boxes"] / 2}
    )


@pytest.mark.parametrize("config", EVERY)
@pytest.mark.parametrize("weight", [0.0, 0.5, 10.0])
def test_lambda_weighs_the_boxes_alone(config: RPNLossConfig, weight: float) -> None:
    once = values(loss(replace(config, box_weight=1.0)))
    weighed = values(loss(replace(config, box_weight=weight)))
    assert weighed == pytest.approx({**once, "rpn_boxes": weight * once["rpn_boxes"]})


@pytest.mark.parametrize("config", EVERY)
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_other_weight_weighs_objectness_alone(config: RPNLossConfig, weight: float) -> None:
    plain = values(loss(config))
    weighed = values(loss(replace(config, score_weight=weight)))
    assert weighed == pytest.approx({**plain, "objectness": weight * plain["objectness"]})


def test_lambda_is_each_scales_own() -> None:
    for config, own in ((PAPER, 10.0), (MATLAB, 10.0), (PYTHON, 1.0)):
        assert config.box_weight is None
        assert values(loss(config)) == values(loss(replace(config, box_weight=own)))


@pytest.mark.parametrize(
    ("training", "scale", "weight"), [("alternating", "matlab", 10.0), ("joint", "python", 1.0)]
)
def test_as_released_is_each_ways_own(training: Any, scale: Any, weight: float) -> None:
    config = RPNLossConfig("released", score_weight=0.25)
    expected = RPNLossConfig(scale, weight, 0.25)
    assert settle_loss(config, training) == expected
    assert settle_loss(expected, training) == expected
    # A lambda of one's own stays.
    assert settle_loss(replace(config, box_weight=0.0), training) == replace(expected, box_weight=0)
    rpn = RPNConfig(width=7, loss=config)
    assert settle(rpn, training) == RPNConfig(width=7, loss=expected)


@pytest.mark.parametrize("training", ["alternating", "joint"])
def test_a_scale_that_is_asked_for_is_every_ways(training: Any) -> None:
    for config in EVERY:
        own = OWN_WEIGHT[config.scale]
        assert settle_loss(config, training) == replace(config, box_weight=own)


def test_a_network_that_nobody_told_learns_all_at_once() -> None:
    assert values(loss(RPNLossConfig())) == values(loss(PYTHON))


@given(st.floats(-50, 50), st.sampled_from(EVERY))
def test_one_offset_wrong_by_any_amount(error: float, config: RPNLossConfig) -> None:
    offsets = torch.zeros(1, 1, 4, dtype=torch.float64)
    offsets[0, 0, 2] = error
    yes = torch.ones(1, 1, dtype=torch.bool)
    losses = rpn_loss(
        torch.zeros(1, 1),
        offsets,
        torch.zeros(1, 1, 4),
        yes,
        yes,
        1,
        1,
        replace(config, box_weight=1.0),
    )
    knee = 1 / 9 if config is PYTHON else 1.0
    expected = error**2 / knee / 2 if abs(error) < knee else abs(error) - knee / 2
    assert losses["rpn_boxes"].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(st.floats(-30, 30), st.booleans())
def test_one_score(score: float, is_object: bool) -> None:
    losses = rpn_loss(
        torch.tensor([[score]]),
        torch.zeros(1, 1, 4),
        torch.zeros(1, 1, 4),
        torch.tensor([[is_object]]),
        torch.tensor([[True]]),
        1,
        1,
        PAPER,
    )
    # Two-class softmax over (0, score), as footnote 2 allows.
    chance = 1 / (1 + math.exp(-score if is_object else score))
    assert losses["objectness"].item() == pytest.approx(-math.log(chance), rel=1e-4, abs=1e-6)


# What counts nothing -------------------------------------------------------------------------


def gradients(
    config: RPNLossConfig,
    targets: Tensor = TARGETS,
    positive: Tensor = POSITIVE,
    used: Tensor = USED,
) -> tuple[Tensor, Tensor]:
    scores, offsets = CHANCES.logit().requires_grad_(), OFFSETS.clone().requires_grad_()
    losses = loss(config, scores, offsets, targets, positive, used)
    sum(losses.values(), torch.tensor(0.0)).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert offsets.grad is not None
    return scores.grad, offsets.grad


@pytest.mark.parametrize(("config", "counted"), [(PAPER, 8), (MATLAB, 3)])
def test_the_gradient_by_hand(config: RPNLossConfig, counted: int) -> None:
    of_scores, of_offsets = gradients(config)
    expected = torch.where(USED, CHANCES - POSITIVE.float(), 0.0) / counted
    torch.testing.assert_close(of_scores, expected)
    expected = torch.where(POSITIVE[..., None], ERRORS.clamp(-1, 1), 0.0) * 10 / 10
    torch.testing.assert_close(of_offsets, expected)


def test_the_python_codes_gradient_by_hand() -> None:
    of_scores, of_offsets = gradients(PYTHON)
    torch.testing.assert_close(of_scores, torch.where(USED, CHANCES - POSITIVE.float(), 0.0) / 3)
    expected = torch.where(POSITIVE[..., None], (9 * ERRORS).clamp(-1, 1), 0.0) / 3
    torch.testing.assert_close(of_offsets, expected)


@pytest.mark.parametrize("config", EVERY)
def test_places_that_are_not_used_count_nothing(config: RPNLossConfig) -> None:
    plain = values(loss(config))
    scores, offsets = CHANCES.logit(), OFFSETS.clone()
    scores[~USED], offsets[~USED] = 50.0, -50.0
    assert values(loss(config, scores, offsets)) == plain
    # Not even one that is said to be an object.
    assert values(loss(config, positive=POSITIVE | ~USED)) == plain


@pytest.mark.parametrize("config", EVERY)
@pytest.mark.parametrize("unused", [math.nan, math.inf, -math.inf])
def test_background_has_no_box_whatever_its_target(config: RPNLossConfig, unused: float) -> None:
    targets = TARGETS.clone()
    targets[~POSITIVE] = unused
    assert values(loss(config, targets=targets)) == values(loss(config))
    of_scores, of_offsets = gradients(config, targets)
    assert torch.isfinite(of_scores).all()
    assert torch.isfinite(of_offsets).all()
    assert (of_offsets[~POSITIVE] == 0).all()


@pytest.mark.parametrize("config", EVERY)
def test_only_background(config: RPNLossConfig) -> None:
    nothing = torch.zeros_like(POSITIVE)
    losses = values(loss(config, positive=nothing))
    logs = -(math.log(0.5) + math.log(0.75) + math.log(0.875))
    assert losses["rpn_boxes"] == 0
    assert losses["objectness"] == pytest.approx(logs / (8 if config is PAPER else 3), rel=1e-5)
    _, of_offsets = gradients(config, positive=nothing)
    assert (of_offsets == 0).all()


@pytest.mark.parametrize("config", EVERY)
def test_nothing_used_no_loss_and_a_gradient_of_nought(config: RPNLossConfig) -> None:
    nothing = torch.zeros_like(USED)
    assert values(loss(config, positive=nothing, used=nothing)) == {
        "objectness": 0,
        "rpn_boxes": 0,
    }
    for gradient in gradients(config, positive=nothing, used=nothing):
        assert (gradient == 0).all()


@pytest.mark.parametrize("config", EVERY)
def test_scores_of_any_size_are_finite(config: RPNLossConfig) -> None:
    scores = torch.tensor([[-1e4, 1e4, 0.0], [1e4, 0, 0]])
    assert values(loss(config, scores))["objectness"] == pytest.approx(
        (1e4 + 1e4) / (8 if config is PAPER else 3)
    )


def test_the_sums_are_in_float32() -> None:
    scores, offsets = CHANCES.logit().bfloat16(), OFFSETS.bfloat16()
    for config in EVERY:
        losses = loss(config, scores, offsets)
        assert {value.dtype for value in losses.values()} == {torch.float32}
        assert values(losses) == values(loss(config, scores.float(), offsets.float()))
