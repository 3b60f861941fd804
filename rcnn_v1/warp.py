"""Any region, warped to the network's input (R-CNN, section 2.1 and appendix A).

R windows, S the side of the network's input.
"""

from __future__ import annotations

import numpy as np
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
    # From the crop's [-1, 1] to the image's [-1, 1], both edge to edge. The two axes are apart, so
    # the grid is two short rows spread out: an eighth of the time of `F.affine_grid`.
    centres = (2 * torch.arange(side, device=boxes.device) + 1) / side - 1
    across = enlarge * ((x2 - x1) / width)[:, None] * centres + ((x1 + x2) / width - 1)[:, None]
    down = enlarge * ((y2 - y1) / height)[:, None] * centres + ((y1 + y2) / height - 1)[:, None]
    square = (len(boxes), side, side)
    grid = torch.stack([across[:, None, :].expand(square), down[:, :, None].expand(square)], dim=-1)
    return F.grid_sample(
        image[None].expand(len(boxes), -1, -1, -1), grid, padding_mode="zeros", align_corners=False
    )


def surroundings(
    image: np.ndarray, box: np.ndarray, context: float
) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image that warping a box looks at, and the box within it: the same crop for less.

    Args:
        image: [H, W, 3]; box: float [4] xyxy; context: see `crop_windows`.

    Returns:
        a view [h, w, 3] that ends where the image does or beyond the context, and float32 [4].
    """
    beyond = (box[2:] - box[:2]) * (
        context / (1 - 2 * context)
    ) + 2  # and a pixel for interpolation
    (x1, y1), (x2, y2) = np.floor(box[:2] - beyond), np.ceil(box[2:] + beyond)
    left, top = max(int(x1), 0), max(int(y1), 0)
    part = image[top : max(int(y2), top + 1), left : max(int(x2), left + 1)]
    return part, (box - [left, top, left, top]).astype(np.float32)
