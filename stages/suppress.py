"""From scored boxes to detections.

R boxes, K classes, n detections.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms


def suppress(
    scores: Tensor,
    boxes: Tensor,
    per_class: int,
    nms_iou: float,
    least_score: float = 0.0,
    per_image: int | None = None,
) -> dict[str, Tensor]:
    """The best of each class, then greedy suppression: all classes in one batched NMS.

    Args:
        scores: [R, K].
        boxes: [R, K, 4] xyxy, a box for each class, already clipped.
        per_class: how many of a class are kept before suppression.
        nms_iou: of two boxes of a class that overlap more than this, the better-scoring stays.
        least_score: what does not score more is no detection, and suppresses nothing.
        per_image: how many of all classes are kept after suppression; None: all.

    Returns:
        `boxes` [n, 4], `labels` int64 [n] from 1, `scores` [n], best first. Boxes without area,
        which a regressor may have shrunk, are left out.
    """
    best, rows = scores.topk(min(per_class, len(scores)), dim=0)
    labels = torch.arange(1, scores.shape[1] + 1, device=scores.device).expand_as(best)
    chosen = boxes[rows, labels - 1].reshape(-1, 4)
    best, labels = best.flatten(), labels.flatten()
    if least_score > 0:
        sure = best > least_score
        chosen, best, labels = chosen[sure], best[sure], labels[sure]
    keep = batched_nms(chosen, best, labels, nms_iou)
    chosen, labels, best = chosen[keep], labels[keep], best[keep]
    # Left out only now: one without area suppresses nothing, and on a GPU each choice of rows waits.
    real = (chosen[:, 2] > chosen[:, 0]) & (chosen[:, 3] > chosen[:, 1])
    return {
        "boxes": chosen[real][:per_image],
        "labels": labels[real][:per_image],
        "scores": best[real][:per_image],
    }
