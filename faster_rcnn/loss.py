"""The RPN's loss: is there an object, and where (section 3.1.2, equation 1).

N images, S anchors drawn of each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from faster_rcnn.config import RPNLossConfig
from stages.ranks import shared_count

OWN_WEIGHT = {"paper": 10.0, "matlab": 10.0, "python": 1.0}  # lambda
SIGMA = 3.0  # of the Python code's smooth L1, which is quadratic up to 1 / sigma^2


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

    Args:
        scores: [N, S], the logit that there is an object (the paper's footnote 2 allows one).
        offsets, targets: [N, S, 4]; for "matlab" the targets are standardised already.
        positive, used: bool [N, S].
        anchors: N_cls, how many are drawn of an image (256).
        positions: N_reg, of an image's anchors (about 2,400).

    Returns:
        `objectness` and `rpn_boxes`, scalars.
    """
    each = F.binary_cross_entropy_with_logits(scores.float(), positive.float(), reduction="none")
    objectness = torch.where(used, each, 0.0).sum()
    error = torch.where((positive & used)[..., None], offsets.float() - targets, 0.0)
    beta = 1 / SIGMA**2 if config.scale == "python" else 1.0
    boxes = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="sum", beta=beta)
    if config.scale == "python":  # which counts the anchors it found
        drawn = shared_count(used.sum(), scores)
        objectness, boxes = objectness / drawn, boxes / drawn
    else:
        images = shared_count(len(scores), scores)
        objectness, boxes = objectness / (images * anchors), boxes / (images * positions)
    weight = OWN_WEIGHT[config.scale] if config.box_weight is None else config.box_weight
    return {"objectness": config.score_weight * objectness, "rpn_boxes": weight * boxes}
