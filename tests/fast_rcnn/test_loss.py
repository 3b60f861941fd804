"""The multi-task loss by hand, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fast_rcnn.config import LossConfig
from fast_rcnn.loss import losses_by_roi, multi_task_loss

SMOOTH, SQUARED = LossConfig(), LossConfig(box="l2")
# Three RoIs, two classes: background, class 2, class 1.
CHANCES = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75], [0.25, 0.5, 0.25]])
LABELS = torch.tensor([0, 2, 1])
OFFSETS = torch.tensor(
    [
        [[9.0, 9, 9, 9], [-9.0, -9, -9, -9]],
        [[7.0, 7, 7, 7], [0.5, -0.25, 3.0, 0.0]],
        [[1.0, 0.0, -2.0, 0.5], [5.0, 5, 5, 5]],
    ]
)
TARGETS = torch.tensor([[70.0, 80, 90, 100], [0.0, 0.25, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
# Errors of the true classes: (0.5, -0.5, 2, 0) and (1, 0, -2, 0.5).
SMOOTH_SUM = (0.125 + 0.125 + 1.5 + 0) + (0.5 + 0 + 1.5 + 0.125)
SQUARED_SUM = (0.125 + 0.125 + 2 + 0) + (0.5 + 0 + 2 + 0.125)


def test_by_hand() -> None:
    losses = multi_task_loss(CHANCES.log() + 3, OFFSETS, LABELS, TARGETS, SMOOTH)
    assert list(losses) == ["classification", "boxes"]
    expected = -(math.log(0.5) + math.log(0.75) + math.log(0.5)) / 3
    assert losses["classification"].item() == pytest.approx(expected, rel=1e-6)
    # Averaged over all RoIs, background among them, not over the positive ones.
    assert losses["boxes"].item() == pytest.approx(SMOOTH_SUM / 3, rel=1e-6)


def test_l2_by_hand() -> None:
    losses = multi_task_loss(CHANCES.log(), OFFSETS, LABELS, TARGETS, SQUARED)
    assert losses["boxes"].item() == pytest.approx(SQUARED_SUM / 3, rel=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("box", ["smooth_l1", "l2"])
def test_lambda_weighs_the_boxes_alone(weight: float, box: str) -> None:
    plain = multi_task_loss(CHANCES.log(), OFFSETS, LABELS, TARGETS, LossConfig(1.0, box))  # type: ignore[arg-type]
    config = LossConfig(weight, box)  # type: ignore[arg-type]
    weighed = multi_task_loss(CHANCES.log(), OFFSETS, LABELS, TARGETS, config)
    assert weighed["boxes"].item() == pytest.approx(weight * plain["boxes"].item())
    assert torch.equal(weighed["classification"], plain["classification"])


@given(st.floats(-50, 50))
def test_one_offset_wrong_by_any_amount(error: float) -> None:
    offsets = torch.zeros(1, 1, 4, dtype=torch.float64)
    offsets[0, 0, 2] = error
    arguments = (torch.zeros(1, 2), offsets, torch.tensor([1]), torch.zeros(1, 4))
    smooth = multi_task_loss(*arguments, SMOOTH)["boxes"].item()
    assert smooth == pytest.approx(
        0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5, rel=1e-4, abs=1e-6
    )
    squared = multi_task_loss(*arguments, SQUARED)["boxes"].item()
    assert squared == pytest.approx(0.5 * error**2, rel=1e-4, abs=1e-6)


@given(st.floats(-50, 50), st.sampled_from([0.0, 1 / 9, 0.5, 2.0]))
def test_beta_is_where_the_square_ends(error: float, beta: float) -> None:
    offsets = torch.zeros(1, 1, 4, dtype=torch.float64)
    offsets[0, 0, 2] = error
    arguments = (torch.zeros(1, 2), offsets, torch.tensor([1]), torch.zeros(1, 4))
    expected = 0.5 * error**2 / beta if abs(error) < beta else abs(error) - beta / 2
    config = LossConfig(beta=beta)
    boxes = multi_task_loss(*arguments, config)["boxes"].item()
    assert boxes == pytest.approx(expected, rel=1e-4, abs=1e-6)
    alone = losses_by_roi(*arguments, config) - losses_by_roi(*arguments, LossConfig(0.0))
    assert alone.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


# Gradients -----------------------------------------------------------------------------------


def gradients(
    scores: Tensor, offsets: Tensor, labels: Tensor, targets: Tensor, config: LossConfig
) -> tuple[Tensor, Tensor]:
    scores, offsets = scores.clone().requires_grad_(), offsets.clone().requires_grad_()
    losses = multi_task_loss(scores, offsets, labels, targets, config)
    sum(losses.values(), torch.tensor(0.0)).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert offsets.grad is not None
    return scores.grad, offsets.grad


@pytest.mark.parametrize("config", [SMOOTH, SQUARED])
def test_only_the_true_classs_offsets_learn(config: LossConfig) -> None:
    of_scores, of_offsets = gradients(CHANCES.log(), OFFSETS, LABELS, TARGETS, config)
    bound = 1.0 if config is SMOOTH else 9.0
    expected = torch.zeros(3, 2, 4)
    expected[1, 1] = torch.tensor([0.5, -0.5, 2, 0]).clamp(-bound, bound) / 3
    expected[2, 0] = torch.tensor([1, 0, -2, 0.5]).clamp(-bound, bound) / 3
    torch.testing.assert_close(of_offsets, expected)
    torch.testing.assert_close(of_scores, (CHANCES - torch.eye(3)[LABELS]) / 3)


@pytest.mark.parametrize("config", [SMOOTH, SQUARED])
@pytest.mark.parametrize("unused", [math.nan, math.inf, -math.inf])
def test_background_has_no_box_whatever_its_target(config: LossConfig, unused: float) -> None:
    # Encoding a RoI to no object gives the logarithm of nought.
    targets = TARGETS.clone()
    targets[0] = unused
    losses = multi_task_loss(CHANCES.log(), OFFSETS, LABELS, targets, config)
    plain = multi_task_loss(CHANCES.log(), OFFSETS, LABELS, TARGETS, config)
    assert torch.equal(losses["boxes"], plain["boxes"])
    _, of_offsets = gradients(CHANCES.log(), OFFSETS, LABELS, targets, config)
    assert torch.isfinite(of_offsets).all()
    assert (of_offsets[0] == 0).all()


def test_only_background() -> None:
    labels = torch.zeros(3, dtype=torch.int64)
    losses = multi_task_loss(CHANCES.log(), OFFSETS, labels, TARGETS, SMOOTH)
    assert losses["boxes"].item() == 0
    assert losses["classification"].item() == pytest.approx(
        -(math.log(0.5) + math.log(0.125) + math.log(0.25)) / 3
    )
    of_scores, of_offsets = gradients(CHANCES.log(), OFFSETS, labels, TARGETS, SMOOTH)
    assert (of_offsets == 0).all()
    assert (of_scores != 0).all()


def test_where_boxes_are_not_learnt_they_have_no_gradient() -> None:
    _, of_offsets = gradients(CHANCES.log(), OFFSETS, LABELS, TARGETS, LossConfig(box_weight=0.0))
    assert (of_offsets == 0).all()


@pytest.mark.parametrize("config", [SMOOTH, SQUARED])
def test_no_roi_no_loss_and_a_gradient_of_nought(config: LossConfig) -> None:
    weight = torch.ones(3, requires_grad=True)
    scores, offsets = weight * torch.zeros(0, 3), weight[:2, None] * torch.zeros(0, 2, 4)
    losses = multi_task_loss(
        scores, offsets, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), config
    )
    assert [value.item() for value in losses.values()] == [0, 0]
    assert all(value.requires_grad for value in losses.values())
    sum(losses.values(), torch.tensor(0.0)).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.tolist() == [0, 0, 0]


def test_the_sums_are_in_float32() -> None:
    scores, offsets = CHANCES.log().bfloat16(), OFFSETS.bfloat16()
    losses = multi_task_loss(scores, offsets, LABELS, TARGETS, SMOOTH)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    exact = multi_task_loss(scores.float(), offsets.float(), LABELS, TARGETS, SMOOTH)
    assert torch.equal(losses["classification"], exact["classification"])
    assert torch.equal(losses["boxes"], exact["boxes"])


def test_scores_of_any_size_are_finite() -> None:
    scores = torch.tensor([[1e4, -1e4, 0.0]])
    losses = multi_task_loss(scores, OFFSETS[:1], torch.tensor([1]), TARGETS[1:2], SMOOTH)
    assert losses["classification"].item() == pytest.approx(2e4)


# By RoI --------------------------------------------------------------------------------------


def test_each_rois_by_hand() -> None:
    smooth = losses_by_roi(CHANCES.log() + 3, OFFSETS, LABELS, TARGETS, SMOOTH)
    logs = [-math.log(0.5), -math.log(0.75), -math.log(0.5)]
    assert smooth.tolist() == pytest.approx([logs[0], logs[1] + 1.75, logs[2] + 2.125], rel=1e-6)
    half = LossConfig(0.5, "l2")
    squared = losses_by_roi(CHANCES.log(), OFFSETS, LABELS, TARGETS, half)
    assert squared.tolist() == pytest.approx(
        [logs[0], logs[1] + 0.5 * 2.25, logs[2] + 0.5 * 2.625], rel=1e-6
    )


@pytest.mark.parametrize("config", [SMOOTH, SQUARED, LossConfig(box_weight=0.0)])
def test_their_mean_is_the_loss(config: LossConfig) -> None:
    targets = TARGETS.clone()
    targets[0] = torch.nan  # of background unused
    arguments = (CHANCES.log().bfloat16(), OFFSETS.bfloat16(), LABELS, targets, config)
    every = losses_by_roi(*arguments)
    assert every.shape == (3,)
    assert every.dtype == torch.float32
    whole = torch.stack(list(multi_task_loss(*arguments).values())).sum()
    torch.testing.assert_close(every.mean(), whole)
