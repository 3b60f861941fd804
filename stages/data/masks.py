"""The masks of an image's objects, kept as run lengths: drawn, they may fill the memory.

An image of 3 million pixels with 2,500 objects has 7 GB of masks. As run lengths they are a megabyte, and a
step of training draws those that it looks at, a few at a time.

N objects of an image, H, W its height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco  # type: ignore[import-untyped]
from torch import Tensor

from stages.data.segmentation import draw_run_lengths, encode_segmentation


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of N objects; asked for as those of a tensor, bool [N, H, W]: `masks[objects]`.

    Attributes:
        runs: of each object, compressed as COCO's; see `stages.data.segmentation`.
        height, width: of the image.
        is_mirrored: whether left and right are exchanged when they are drawn.
    """

    runs: tuple[bytes, ...]
    height: int
    width: int
    is_mirrored: bool = False

    @classmethod
    def empty(cls, count: int, height: int, width: int) -> Masks:
        """Of objects that have none."""
        return cls((encode_segmentation(None, width, height),) * count, height, width)

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def shape(self) -> tuple[int, int, int]:
        """N, H, W."""
        return len(self.runs), self.height, self.width

    def __getitem__(self, objects: Tensor) -> Tensor:
        """bool [n, H, W], where `objects`, int64 [n] or bool [N], is.

        Args:
            objects: n of them, in any order, also twice.
        """
        places = torch.arange(len(self))[objects.cpu()].tolist()
        drawn = np.zeros((len(places), self.height, self.width), bool)
        for mask, place in zip(drawn, places, strict=True):
            self.draw(place, mask)
        return torch.from_numpy(drawn).to(objects.device)

    def draw(self, place: int, mask: np.ndarray) -> None:
        """Set an object's pixels in an empty mask, bool [H, W]."""
        draw_run_lengths(self.runs[place], mask[:, ::-1] if self.is_mirrored else mask)

    @property
    def pixels(self) -> Sequence[np.ndarray]:
        """Each mask as bool [H, W], drawn when its place is asked for."""
        return _Drawn(self)

    def has_pixels(self) -> Tensor:
        """bool [N], whether a mask is not empty."""
        # One by one: pycocotools counts no more than 255 at once.
        return torch.tensor([bool(coco.area(mask)) for mask in self.rles], dtype=torch.bool)

    def mirrored(self) -> Masks:
        """Left and right exchanged."""
        return replace(self, is_mirrored=not self.is_mirrored)

    def within(self, boxes: np.ndarray) -> Masks:
        """The same, but empty where no pixel of a mask lies in its object's box, whole pixels outwards.

        Args:
            boxes: [N, 4] xyxy, within the image; as the masks were before they were mirrored.
        """
        if not self.runs:
            return self
        low, high = np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])
        xywh = np.hstack([low, high - low]).astype(np.float64)
        inside = [
            bool(coco.area(coco.merge([mask, box], intersect=True)))
            for mask, box in zip(
                self.rles, coco.frPyObjects(xywh, self.height, self.width), strict=True
            )
        ]
        none = encode_segmentation(None, self.width, self.height)
        runs = zip(self.runs, inside, strict=True)
        return replace(self, runs=tuple(own if here else none for own, here in runs))

    @property
    def rles(self) -> list[dict[str, Any]]:
        """As pycocotools takes them, not mirrored."""
        return [{"size": [self.height, self.width], "counts": counts} for counts in self.runs]


class _Drawn(Sequence[np.ndarray]):
    def __init__(self, masks: Masks) -> None:
        self._masks = masks

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, place: Any) -> Any:
        mask = np.zeros((self._masks.height, self._masks.width), bool)
        self._masks.draw(range(len(self))[place], mask)
        return mask


def has_pixels(masks: Tensor | Masks) -> Tensor:
    """bool [N], which of N masks, bool [N, H, W], are not empty."""
    return masks.has_pixels() if isinstance(masks, Masks) else masks.flatten(1).any(dim=1)
