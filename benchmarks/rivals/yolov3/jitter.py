"""Random crops and margins, as Darknet changes training images (section 2.5: "lots of data augmentation").

G objects of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.boxes import clip

LEAST = 1.0  # side in pixels of what is left of an object, below which it is none any more


def jitter(
    image: Tensor, target: Mapping[str, Any], amount: float, fill: Tensor
) -> tuple[Tensor, dict[str, Any]]:
    """The image, of the same size still, with each of its sides moved in or out by chance.

    Moves are drawn from torch's generator. What is in the image is stretched to its size, as Darknet's
    is to the network's square.

    Args:
        image: [3, H, W], uint8 or float in [0, 1].
        target: torchvision's: `boxes` [G, 4], `labels`, `iscrowd`.
        amount: a side moves by at most this part of the width or height; below a half.
        fill: [3, 1, 1], a colour in [0, 1] for what is beyond the image.

    Returns:
        float [3, H, W] in [0, 1], and what is seen of the objects: their `boxes`, `labels`, `iscrowd`.
    """
    height, width = image.shape[1:]
    chance = (2 * torch.rand(4) - 1) * amount * torch.tensor([width, height, width, height])
    left, top, right, bottom = chance.round().int().tolist()  # how far in
    whole = image.float() / 255 if image.dtype == torch.uint8 else image
    canvas = fill.repeat(1, height - top - bottom, width - left - right)
    x, y = max(left, 0), max(top, 0)
    part = whole[:, y : height - max(bottom, 0), x : width - max(right, 0)]
    canvas[:, y - top : y - top + part.shape[1], x - left : x - left + part.shape[2]] = part
    stretch = [width / canvas.shape[2], height / canvas.shape[1]] * 2
    boxes: Tensor = target["boxes"]
    boxes = boxes - boxes.new_tensor([left, top, left, top])
    boxes = clip(boxes * boxes.new_tensor(stretch), height, width)
    seen = (boxes[:, 2:] - boxes[:, :2] >= LEAST).all(dim=1)
    pixels = F.interpolate(canvas[None], (height, width), mode="bilinear", align_corners=False)[0]
    others = {key: target[key][seen] for key in ("labels", "iscrowd")}
    return pixels, {"boxes": boxes[seen], **others}
