"""The RPN's loss: is there an object, and where (section 3.1.2, equation 1).

N images, S anchors drawn of each.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from faster_rcnn.config import RPNConfig, RPNLossConfig
from stages.ranks import shared_count

Training = Literal["alternating", "joint"]
OWN_WEIGHT = {"paper": 10.0, "matlab": 10.0, "python": 1.0}  # lambda
SIGMA = 3.0  # of the Python code's smooth L1, which is quadratic up to 1 / sigma^2


def settle(rpn: RPNConfig, training: Training) -> RPNConfig:
    """The RPN of a way of training, with nothing left open: see `settle_loss`."""
    return dataclasses.replace(rpn, loss=settle_loss(rpn.loss, training))


def settle_loss(config: RPNLossConfig, training: Training) -> RPNLossConfig:
    """The same loss, which says whose scale it has in that way of training, and which lambda."""
    scale = config.scale
    if scale == "released":
        scale = "matlab" if training == "alternating" else "python"
    weight = OWN_WEIGHT[scale] if config.box_weight is None else config.box_weight
    return dataclasses.replace(config, scale=scale, box_weight=weight)


def rpn_loss(
    scores: Tensor,
    offsets: Tensor,
    targets: Tensor,
    positive: Tensor,
    used: Tensor,
    anchors: int,
    positions: int,
    config: RPNLossConfig,
) -> dict[str, Tensor]:
    """Log loss over the anchors drawn, and the box loss of the positive ones.

    Both codes divide the log loss by the anchors that were drawn, the paper by those to be drawn: the
    same wherever an image has so many.

    Args:
        scores: [N, S], the logit that there is an object (the paper's footnote 2 allows one).
        offsets, targets: [N, S, 4]; for "matlab" the targets are standardised already.
        positive, used: bool [N, S].
        anchors: N_cls, how many are drawn of an image (256).
        positions: N_reg, of an image's anchors (about 2,400).
        config: "released" is the Python code's.

    Returns:
        `objectness` and `rpn_boxes`, scalars.
    """
    loss = settle_loss(config, "joint")
    each = F.binary_cross_entropy_with_logits(scores.float(), positive.float(), reduction="none")
    objectness = torch.where(used, each, 0.0).sum()
    error = torch.where((positive & used)[..., None], offsets.float() - targets, 0.0)
    beta = 1 / SIGMA**2 if loss.scale == "python" else 1.0
    boxes = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="sum", beta=beta)
    images = len(scores)
    counted = shared_count(images * anchors if loss.scale == "paper" else used.sum(), scores)
    places = counted if loss.scale == "python" else shared_count(images * positions, scores)
    assert loss.box_weight is not None
    return {
        "objectness": loss.score_weight * objectness / counted,
        "rpn_boxes": loss.box_weight * boxes / places,
    }
