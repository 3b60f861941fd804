"""Selective search on an image that is a tensor: for finished detectors."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.proposals.selective_search import SelectiveSearchConfig, search


def propose(image: Tensor, config: SelectiveSearchConfig, top: int | None) -> Tensor:
    """Selective search's best boxes, float32 [R, 4] on the CPU.

    Args:
        image: [3, H, W], uint8 or float in [0, 1], RGB.
        top: at most so many; None: all.
    """
    pixels = image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)
    return torch.from_numpy(search(pixels.permute(1, 2, 0).cpu().numpy(), config)[:top])
