"""`python -m benchmarks.roi_align`: our RoIAlign on a CPU against torchvision's operator, in milliseconds.

R RoIs.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from benchmarks.peers import seconds_of
from mask_rcnn.config import PoolConfig
from mask_rcnn.roi_align import RoIPooling

STRIDES = (4, 8, 16, 32)
HEIGHT, WIDTH, CHANNELS, ROIS, SIDE = 480, 640, 256, 1000, 7


def main(turns: int = 9) -> None:
    """A line for each type. torchvision's operator knows no bfloat16 and is given float32."""
    rois = some_rois(ROIS)
    pooling = RoIPooling(STRIDES, SIDE, PoolConfig())
    for dtype in (torch.float32, torch.bfloat16):
        maps = [
            torch.randn(1, CHANNELS, HEIGHT // stride, WIDTH // stride)
            .to(dtype)
            .to(memory_format=torch.channels_last)
            for stride in STRIDES
        ]
        with torch.inference_mode():
            ours = milliseconds(lambda maps=maps: pooling(maps)(rois), turns)  # type: ignore[misc]
            theirs = milliseconds(lambda maps=maps: pooling.by_operator(maps, rois), turns)  # type: ignore[misc]
        print(f"{dtype}: ours {ours:.0f} ms, torchvision's {theirs:.0f} ms")


def some_rois(count: int) -> Tensor:
    """[R, 5], of image 0, sides of 20 to 150 pixels, all inside."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator) * (HEIGHT - 150)
    sides = 20 + torch.rand(count, 2, generator=generator) * 130
    return torch.cat([torch.zeros(count, 1), corner, corner + sides], dim=1)


def milliseconds(run: Callable[[], object], turns: int) -> float:
    """Median of so many turns, after one uncounted."""
    times = [seconds_of(run, "cpu") for _ in range(turns + 1)]
    return 1000 * median(times[1:])


if __name__ == "__main__":
    main()
