"""From an m x m mask of a box to a mask of the image (section 3.1: "resized to the RoI size, binarized").

n boxes, H and W of the image in pixels, m of a mask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 16  # masks at a time on a GPU: each is an image of floats before it is cut


def paste(
    masks: Tensor,
    boxes: Tensor,
    height: int,
    width: int,
    threshold: float = 0.5,
    rounded: bool = False,
) -> Tensor:
    """Each mask resized (bilinear) to its box, cut at the threshold, in an image otherwise False.

    A pixel belongs to a box if its middle lies in it.

    Args:
        masks: [n, m, m], probabilities.
        boxes: [n, 4] xyxy, pixels of the image.
        rounded: onto whole pixels, as the released code and torchvision: mask and box are first grown
            by a border of zeros, then the box's corners cut to whole numbers.

    Returns:
        bool [n, H, W].
    """
    boxes = boxes.to(masks.dtype)
    if rounded:
        masks, boxes = _on_whole_pixels(masks, boxes)
    out = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    if not len(masks):
        return out
    rows = _resizing(boxes[:, 1], boxes[:, 3], masks.shape[1], height)
    columns = _resizing(boxes[:, 0], boxes[:, 2], masks.shape[2], width).transpose(1, 2)
    if masks.device.type != "cpu":
        for part in torch.arange(len(masks)).split(CHUNK):
            some = slice(int(part[0]), int(part[-1]) + 1)
            out[some] = rows[some] @ masks[some] @ columns[some] >= threshold
        return out
    # Only what is in the box, which is most of the image's pixels less.
    low, high = boxes[:, :2].sub(0.5).ceil().long(), boxes[:, 2:].sub(0.5).ceil().long()
    for n, ((left, top), (right, bottom)) in enumerate(
        zip(low.clamp(min=0).tolist(), high.clamp(min=0).tolist(), strict=True)
    ):
        part = rows[n, top:bottom] @ masks[n] @ columns[n, :, left:right]
        out[n, top:bottom, left:right] = part >= threshold
    return out


def _resizing(start: Tensor, end: Tensor, m: int, length: int) -> Tensor:
    """How much of each of m values, spread from start to end, each pixel takes: [n, length, m].

    Bilinear: two neighbours by nearness, beyond the outermost value's middle that value alone.
    """
    middle = torch.arange(length, dtype=start.dtype, device=start.device) + 0.5
    size = (end - start).clamp(min=torch.finfo(start.dtype).eps)
    part = (middle - start[:, None]) / size[:, None]
    within = (part >= 0) & (part < 1)
    at = (part * m - 0.5).clamp(0, m - 1)
    values = torch.arange(m, dtype=start.dtype, device=start.device)
    weights = (1 - (at[..., None] - values).abs()).clamp(min=0)
    return weights * within[..., None]


def _on_whole_pixels(masks: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The mask within a border of zeros, and the box as much larger, from whole pixel to whole pixel."""
    m = masks.shape[-1]
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = half * ((m + 2) / m)
    # Cut towards zero; the last pixel is the box's too.
    low, high = (centre - half).trunc(), (centre + half).trunc() + 1
    return F.pad(masks, (1, 1, 1, 1)), torch.cat([low, torch.maximum(high, low + 1)], dim=1)
