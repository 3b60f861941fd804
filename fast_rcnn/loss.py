"""The multi-task loss: what a RoI is, and where (Fast R-CNN, section 2.3, equations 1 to 3).

R RoIs, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fast_rcnn.config import LossConfig
from stages.ranks import shared_count


def multi_task_loss(
    scores: Tensor, offsets: Tensor, labels: Tensor, targets: Tensor, config: LossConfig
) -> dict[str, Tensor]:
    """Log loss over K + 1 classes, and the box loss of the true class, both averaged over all RoIs.

    Args:
        scores: [R, K + 1], before the softmax; column 0 is background.
        offsets: [R, K, 4], of every class.
        labels: int64 [R], 0 for background.
        targets: [R, 4], the true offsets, normalised; of background unused.

    Returns:
        `classification` and `boxes`, scalars, whose sum is the loss; 0 where there is no RoI.
    """
    rois = shared_count(len(labels), scores)
    classification = F.cross_entropy(scores.float(), labels, reduction="sum") / rois
    error = _errors(offsets, labels, targets)
    if config.box == "smooth_l1":
        boxes = F.smooth_l1_loss(error, torch.zeros_like(error), beta=config.beta, reduction="sum")
    else:
        boxes = 0.5 * error.square().sum()
    return {"classification": classification, "boxes": config.box_weight * boxes / rois}


def losses_by_roi(
    scores: Tensor, offsets: Tensor, labels: Tensor, targets: Tensor, config: LossConfig
) -> Tensor:
    """What each RoI brings into the sum that `multi_task_loss` averages: [R].

    Args: as `multi_task_loss`.
    """
    classification = F.cross_entropy(scores.float(), labels, reduction="none")
    error = _errors(offsets, labels, targets)
    if config.box == "smooth_l1":
        boxes = F.smooth_l1_loss(error, torch.zeros_like(error), beta=config.beta, reduction="none")
    else:
        boxes = 0.5 * error.square()
    return classification + config.box_weight * boxes.sum(dim=1)


def _errors(offsets: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Of the true class's offsets, [R, 4]; 0 for background."""
    # No choice of rows here: on a GPU it would wait for their number.
    own = offsets.float()[torch.arange(len(labels), device=labels.device), (labels - 1).clamp(0)]
    return torch.where(labels[:, None] > 0, own - targets, 0.0)
