"""One forward pass a window: the crops of an image through the network, in batches.

R windows, C channels and S side of the pooled map.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from rcnn_v1.warp import crop_windows
from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.backbones.weights import Weights, build_backbone
from stages.device import DType, choose_dtype
from stages.stopwatch import Stopwatch

Look = TypeVar("Look", contravariant=True)


class Extractor(Protocol[Look]):
    """What turns windows of an image into features: R-CNN's way below, SPPnet's in its folder.

    Attributes:
        backbone: holds its parameters.
        device: that it works on.
        pooled_size: P, the values of a window's pooled map.
    """

    backbone: Backbone
    device: str

    @property
    def pooled_size(self) -> int: ...

    def pooled(self, look: Look, boxes: Tensor, watch: Stopwatch) -> Iterator[Tensor]:
        """Each batch of windows' pooled maps, [R, ...]; `look`: the image, or what was made of it."""
        ...

    def until(self, layer: str, pooled: Tensor) -> Tensor:
        """The features [R, D] of pooled maps, up to and including the named layer."""
        ...


class WindowNetwork:
    """The network as a feature extractor: frozen, in the device's best type.

    Args:
        backbone: changed in place: put on `device`, in evaluation mode, in `dtype`.
        context: see `crop_windows`.
        batch: crops a forward pass.
    """

    def __init__(
        self, backbone: Backbone, device: str, dtype: str, context: float, batch: int
    ) -> None:
        freeze_batch_norm(backbone)
        self.backbone = backbone.eval().requires_grad_(False)
        backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        backbone.trunk.to(self.dtype)
        backbone.head.to(self.dtype)
        self.device, self.context, self.batch = device, context, batch

    @staticmethod
    def load(
        name: Name, weights: Weights, device: str, dtype: DType, context: float, batch: int
    ) -> WindowNetwork:
        """The network with its weights in it, on the device.

        Raises:
            InputError: the weights do not fit.
        """
        backbone = build_backbone(name, weights)
        return WindowNetwork(backbone, device, choose_dtype(dtype, device), context, batch)

    @property
    def pooled_size(self) -> int:
        return self.backbone.channels * self.backbone.roi_size**2

    def until(self, layer: str, pooled: Tensor) -> Tensor:
        """See `Backbone.until`."""
        return self.backbone.until(layer, pooled)

    def pooled(self, image: Tensor, boxes: Tensor, watch: Stopwatch) -> Iterator[Tensor]:
        """Each batch of windows' pool5 map, [R, C, S, S].

        Args:
            image: [3, H, W], uint8 or float in [0, 1].
            boxes: float [R, 4], on the device.
        """
        with watch("warp"):
            normalised = self.backbone.normalise(image.to(self.device))
        for part in boxes.split(self.batch) if len(boxes) else ():
            with watch("warp"):
                crops = crop_windows(normalised, part, self.backbone.crop_size, self.context)
                # Two steps: converting both at once takes PyTorch twice as long on a CPU.
                crops = crops.to(self.dtype).contiguous(memory_format=torch.channels_last)
            with watch("convolutions"):
                pooled = self.backbone.pool5(self.backbone.trunk(crops))
            yield pooled
