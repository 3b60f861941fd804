"""Any region, warped to the network's input (R-CNN, section 2.1 and appendix A).

R windows, S the side of the network's input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_windows(image: Tensor, boxes: Tensor, side: int, context: float) -> Tensor:
    """Warp each box, anisotropically, with context around it.

    Bilinear, without smoothing before shrinking, as the released code's resize.

    Args:
        image: float [3, H, W], normalised, so that its mean colour is 0.
        boxes: float [R, 4] xyxy in the image's pixels.
        side: S.
        context: of the warped frame's side, how much on each side is context (paper: p = 16 of 227).

    Returns:
        [R, 3, S, S]. What lies outside the image is 0, the mean.
    """
    if len(boxes) == 0:
        return image.new_zeros(0, 3, side, side)
    height, width = image.shape[1:]
    # The box itself must fill what the context leaves in the middle.
    enlarge = 1 / (1 - 2 * context)
    x1, y1, x2, y2 = boxes.unbind(1)
    zero = torch.zeros_like(x1)
    # From the crop's [-1, 1] to the image's [-1, 1], both edge to edge.
    across = torch.stack([enlarge * (x2 - x1) / width, zero, (x1 + x2) / width - 1], dim=1)
    down = torch.stack([zero, enlarge * (y2 - y1) / height, (y1 + y2) / height - 1], dim=1)
    grid = F.affine_grid(
        torch.stack([across, down], dim=1), [len(boxes), 3, side, side], align_corners=False
    )
    return F.grid_sample(
        image[None].expand(len(boxes), -1, -1, -1), grid, padding_mode="zeros", align_corners=False
    )
