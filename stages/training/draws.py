"""What is drawn by chance of an image, whatever other images are in its step and whichever rank has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def draws_of(target: Mapping[str, Any], device: torch.device | str) -> torch.Generator | None:
    """The generator that an image's anchors and RoIs are drawn with; None: the device's own.

    Args:
        target: `ImageBatches` gives it a `seed`.
    """
    seed = target.get("seed")
    return None if seed is None else torch.Generator(device).manual_seed(seed)


def scale_of(target: Mapping[str, Any], scales: Sequence[int]) -> int:
    """One of the training scales by chance."""
    if len(scales) == 1:
        return scales[0]
    return scales[int(torch.randint(len(scales), (), generator=draws_of(target, "cpu")))]
