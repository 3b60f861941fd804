"""From an m x m mask of a box to a mask of the image (section 3.1: "resized to the RoI size, binarized").

n boxes, H and W of the image in pixels, m of a mask.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 16  # masks at a time on a GPU: each is an image of floats before it is cut
# Values at a time on a CPU, so that they are cut while its cache has them. Of more, NumPy would do the
# product on every core, and the cores' waiting for each other costs more than that saves.
BLOCK = 2**13


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
    paste_in = paste_by_box if masks.device.type == "cpu" else paste_by_image
    return paste_in(masks, boxes, height, width, threshold)


def paste_by_box(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float) -> Tensor:
    """One box after the other, in each no more than its own pixels: for a CPU.

    By NumPy, since PyTorch takes several times as long to begin each of these small products.
    """
    # NumPy's zeros take no memory where nothing is written; PyTorch's fill n images of it.
    out = np.zeros((len(masks), height, width), np.bool_)
    # The pixels whose middles lie in the box.
    x = (boxes[:, 0::2] - 0.5).ceil().clamp(max=width).long().clamp(min=0)
    y = (boxes[:, 1::2] - 0.5).ceil().clamp(max=height).long().clamp(min=0)
    columns = _weights(x, boxes[:, 0], boxes[:, 2], masks.shape[2])
    rows = _weights(y, boxes[:, 1], boxes[:, 3], masks.shape[1])
    for image, mask, left, along, top, down in zip(
        out, masks.numpy(), x[:, 0].tolist(), columns, y[:, 0].tolist(), rows, strict=True
    ):
        place = image[top : top + len(down), left : left + len(along)]
        across = mask @ along.T
        step = max(1, BLOCK // max(1, len(along)))
        for n in range(0, len(down), step):
            some = slice(n, n + step)
            np.greater_equal(down[some] @ across, threshold, out=place[some])
    return torch.from_numpy(out)


def _weights(ends: Tensor, start: Tensor, end: Tensor, m: int) -> list[np.ndarray]:
    """What `_resizing` says of each box's pixels, those from `ends[n, 0]` to before `ends[n, 1]`."""
    count = (ends[:, 1] - ends[:, 0]).clamp(min=0)
    box = torch.arange(len(ends)).repeat_interleave(count)
    pixel = torch.arange(len(box)) + (ends[:, 0] - count.cumsum(0) + count)[box]
    weights = _resizing(pixel, start[box], end[box], m).split(count.tolist())
    return [of_box.numpy() for of_box in weights]


def paste_by_image(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float
) -> Tensor:
    """All of the image at once, for a GPU: it waits longer for another kernel than for other pixels."""
    out = torch.empty(len(masks), height, width, dtype=torch.bool, device=masks.device)
    y, x = (torch.arange(length, device=masks.device) for length in (height, width))
    for n in range(0, len(masks), CHUNK):
        some = slice(n, n + CHUNK)
        left, top, right, bottom = boxes[some, :, None].unbind(1)
        down = _resizing(y, top, bottom, masks.shape[1])
        along = _resizing(x, left, right, masks.shape[2])
        torch.ge(down @ masks[some] @ along.mT, threshold, out=out[some])
    return out


def _resizing(pixel: Tensor, start: Tensor, end: Tensor, m: int) -> Tensor:
    """How much of each of m values, spread from start to end, a pixel takes: [.., m].

    Bilinear: two neighbours by nearness, beyond the outermost value's middle that value alone.

    Args:
        pixel, start, end: [..], of one shape when broadcast.
    """
    size = (end - start).clamp(min=torch.finfo(start.dtype).eps)
    part = (pixel + 0.5 - start) / size
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
