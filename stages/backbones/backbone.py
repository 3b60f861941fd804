"""A backbone as every paper draws it: a `trunk` over the image and a `head` over a pooled RoI.

N images, R RoIs, C the trunk's channels, S the side of the pooled map, D the head's features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbones.centres import first_centre
from stages.backbones.config import Name
from stages.backbones.normalisation import IMAGENET_MEAN, IMAGENET_STD, Channels, Normalisation


class Backbone(nn.Module):
    """A classification network cut in two.

    Args:
        name: its name.
        trunk: normalised image [N, 3, H, W] -> map [N, channels, H / 16, W / 16].
        head: pooled map [R, channels, roi_size, roi_size] -> vector [R, features], a sequence of
            named layers: `fc6`, `fc7` where the network has fully connected ones.
        channels: C.
        roi_size: S, the side of the map that the head takes.
        features: D.
        crop_size: the side in pixels of the image that the whole network was trained on.
        new: prefixes of the parameters that no pre-training fills; they learn faster.
        mean, std: of the weights' training, per RGB channel in [0, 1]. They are a part of the
            network's state and are saved with its weights, without which they mean nothing.
        released_centre: where the first cell of the papers' released network looks, if this one stands in
            for it with other padding; None: this network is the released one, or there is none.

    Attributes:
        shift: how much further right and down its cells look than the released network's, in pixels of
            the image that it sees: what pooling at 1 / `stride` takes off a box. See `centres`.
    """

    stride = 16
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: Name,
        trunk: nn.Module,
        head: nn.Sequential,
        channels: int,
        roi_size: int,
        features: int,
        crop_size: int = 224,
        new: tuple[str, ...] = (),
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
        released_centre: float | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.trunk = trunk
        self.head = head
        self.channels = channels
        self.roi_size = roi_size
        self.features = features
        self.crop_size = crop_size
        self.new = new
        self.shift = 0.0 if released_centre is None else first_centre(trunk) - released_centre
        for key, value in (("mean", mean), ("std", std)):
            self.register_buffer(key, per_channel(value))

    def expect(self, images: Normalisation) -> None:
        """Have the network take the images that its weights, as their file has them, were trained on."""
        self.mean, self.std = per_channel(images.mean), per_channel(images.std)
        if images.bgr:
            first = next(part for part in self.trunk.modules() if isinstance(part, nn.Conv2d))
            with torch.no_grad():
                first.weight.copy_(first.weight.flip(1))

    def normalise(self, images: Tensor) -> Tensor:
        """`normalise` as these weights expect it."""
        return normalise(images, self.mean, self.std)

    def pool5(self, maps: Tensor) -> Tensor:
        """Whole crops' maps [N, C, h, w] max-pooled to what the head takes, [N, C, S, S].

        On AlexNet's 13x13 and VGG16's 14x14 map this is their last max-pooling to the letter.
        """
        return F.adaptive_max_pool2d(maps, self.roi_size)

    def until(self, layer: str, pooled: Tensor) -> Tensor:
        """The head's output up to and including the named layer, flattened: [R, ...].

        Args:
            layer: `pool5` (the pooled map itself) or a name in `layers`.
        """
        if layer == "pool5":
            return pooled.flatten(1)
        for name, module in self.head.named_children():
            pooled = module(pooled)
            if name == layer:
                return pooled.flatten(1)
        raise ValueError(f"{self.name} has no layer {layer!r}, but {', '.join(self.layers)}")

    @property
    def layers(self) -> tuple[str, ...]:
        """Names that `until` takes."""
        silent = (nn.Dropout, nn.Flatten)
        named = (
            name for name, module in self.head.named_children() if not isinstance(module, silent)
        )
        return ("pool5", *named)

    def forward(self, crops: Tensor) -> Tensor:
        """Normalised crops [N, 3, crop_size, crop_size] -> [N, D]: the whole network."""
        return self.head(self.pool5(self.trunk(crops)))  # type: ignore[no-any-return]


def per_channel(values: Channels) -> Tensor:
    """[3, 1, 1]; numbers also where a network is only planned, on the meta device, for others ask them."""
    return torch.tensor(values, device="cpu")[:, None, None]


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """RGB [..., 3, H, W], uint8 or float in [0, 1], as float32 less `mean`, over `std`.

    A pixel of the mean colour becomes 0, so padding with 0 is padding with the mean.
    """
    scaled = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    return (scaled - mean) / std
