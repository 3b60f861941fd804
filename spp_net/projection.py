"""From a window to cells of the feature map (SPPnet, appendix A, "mapping a window to feature maps").

R windows.
"""

from __future__ import annotations

import torch
from torch import Tensor


def project(boxes: Tensor, sizes: Tensor, first: float, stride: int) -> Tensor:
    """The cells whose centres lie inside each window: int64 [R, 4], first and last x y, inclusive.

    left, top: floor(x / stride) + 1; right, bottom: ceil(x / stride) - 1. A window that holds no
    centre gets the cell nearest to its middle, one outside the map a cell at its edge.

    Args:
        boxes: float [R, 4] xyxy in pixels of the image at the map's scale.
        sizes: int64 [R, 2] or [2], height and width in cells of the map that the window is on.
        first: where the first cell looks, `stages.backbones.centres.first_centre`: the paper's "proper
            offset" where layers are not padded by half their filter.
    """
    at = (boxes - first) / stride
    near, far = torch.floor(at[:, :2]) + 1, torch.ceil(at[:, 2:]) - 1
    middle = torch.round((at[:, :2] + at[:, 2:]) / 2)
    none = far < near
    cells = torch.cat([torch.where(none, middle, near), torch.where(none, middle, far)], dim=1)
    last = sizes.to(boxes.device)[..., [1, 0, 1, 0]] - 1
    return torch.minimum(cells.long().clamp(min=0), last)
