"""Images brought to the network's scale, on the device, and put together into a batch.

N images, H and W an image's own height and width in pixels, H' and W' those of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.backbones.backbone import Backbone

MULTIPLE = 32  # a batch's sides are multiples: few different shapes, whole cells of the map
LEAST = 64  # and at least this, below which AlexNet's map is empty


@dataclass(frozen=True)
class Batch:
    """Images at one scale, from the top left corner of a common frame.

    Attributes:
        pixels: float [N, 3, H', W'], normalised; beyond each image 0, the mean colour.
        sizes: each image's height and width in the frame.
        ratios: float32 [N, 4], what a box in an image's own pixels is multiplied by; on the CPU, where
            it is known without waiting for a GPU.
    """

    pixels: Tensor
    sizes: list[tuple[int, int]]
    ratios: Tensor


def size_at(
    height: int, width: int, shorter: int, longest: int, down: bool = False
) -> tuple[int, int]:
    """The height and width at which the shorter side is `shorter` or the longer side `longest`.

    As Fast R-CNN's section 2.3 and 5 have it ("600, while capping the longest side at 1000").

    Args:
        down: round sides down, as torchvision's detectors do; which may make 799 of 800.
    """
    scale = min(shorter / min(height, width), longest / max(height, width))
    if down:
        return max(1, int(height * scale)), max(1, int(width * scale))
    return max(1, round(height * scale)), max(1, round(width * scale))


def frame_of(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The height and width of the frame that images of these heights and widths share."""
    high, wide = (
        max(LEAST, -(-max(size[axis] for size in sizes) // MULTIPLE) * MULTIPLE) for axis in (0, 1)
    )
    return high, wide


def resize(
    images: Sequence[Tensor],
    backbone: Backbone,
    shorter: Sequence[int],
    longest: int,
    down: bool = False,
) -> Batch:
    """Resize (bilinear, without smoothing before shrinking, as the released codes), normalise, pad.

    Args:
        images: each [3, H, W], uint8 or float in [0, 1], on the backbone's device.
        shorter: the length of each image's shorter side; longest: of its longer side at most.
        down: see `size_at`.
    """
    sizes, ratios, scaled = [], [], []
    for image, length in zip(images, shorter, strict=True):
        height, width = image.shape[1:]
        size = size_at(height, width, length, longest, down)
        pixels = backbone.normalise(image)
        if size != (height, width):
            pixels = F.interpolate(pixels[None], size, mode="bilinear", align_corners=False)[0]
        sizes.append(size)
        ratios.append([size[1] / width, size[0] / height] * 2)
        scaled.append(pixels)
    batch = scaled[0].new_zeros(len(scaled), 3, *frame_of(sizes))
    for i, pixels in enumerate(scaled):
        batch[i, :, : pixels.shape[1], : pixels.shape[2]] = pixels
    return Batch(batch, sizes, torch.tensor(ratios))
