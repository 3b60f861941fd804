"""RoIs through pooling and the head, a few at a time on a CPU.

R RoIs, D features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stages.stopwatch import OFF, Stopwatch

# A convolutional head needs a megabyte of maps a RoI. Two thousand of them at once, another number in
# each image, made the C library's heap grow to 20 GB over 140 images: no free block fits the next.
CHUNK = 256


def roi_features(
    rois: Tensor,
    pool: Callable[[Tensor], Tensor],
    head: Callable[[Tensor], Tensor],
    device: torch.device,
    watch: Stopwatch = OFF,
) -> Tensor:
    """The head's output for every RoI, [R, D]; for detection, not for training.

    Args:
        rois: [R, ...].
        pool: of some of them, their pooled maps; head: of these, their features.
        device: where they are computed: a GPU takes all at once.
    """
    features = []
    for part in rois.split(CHUNK) if device.type == "cpu" else (rois,):
        with watch("pooling"):
            pooled = pool(part)
        with watch("head"):
            features.append(head(pooled))
    return torch.cat(features)
