"""Which scale of the image a window is taken from (SPPnet, section 4.1).

R windows, S scales.
"""

from __future__ import annotations

import torch
from torch import Tensor


def best_scale(boxes: Tensor, ratios: Tensor, side: int) -> Tensor:
    """The scale at which each window's area is nearest to side x side: int64 [R].

    Args:
        boxes: float [R, 4] xyxy in the image's own pixels.
        ratios: float [S, 4], what boxes are multiplied by at each scale.
        side: in pixels; the paper's 224 is what its network was pre-trained on.
    """
    scaled = boxes[:, None] * ratios  # [R, S, 4]
    area = (scaled[..., 2] - scaled[..., 0]) * (scaled[..., 3] - scaled[..., 1])
    return torch.argmin((area - side**2).abs(), dim=1)
