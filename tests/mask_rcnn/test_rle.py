"""Run lengths, there and back through COCO's own decoder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from torch import Tensor

from mask_rcnn.rle import encode, to_coco


def decoded(masks: Tensor) -> Tensor:
    """[n, H, W], by way of JSON, as a file of results has it."""
    segmentations = json.loads(json.dumps(to_coco(masks)))
    assert len(segmentations) == len(masks)
    return torch.from_numpy(
        np.stack([coco.decode(segmentation) for segmentation in segmentations])
    ).bool()


def make_masks(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(count * 100 + height)
    coarse = torch.rand(count, 1, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth[:, 0] > 0.5


@pytest.mark.parametrize(("count", "height", "width"), [(1, 1, 1), (5, 31, 17), (3, 12, 40)])
def test_there_and_back(count: int, height: int, width: int) -> None:
    masks = make_masks(count, height, width)
    assert torch.equal(decoded(masks), masks)
    noise = torch.rand(masks.shape) < 0.5
    assert torch.equal(decoded(noise), noise)


@pytest.mark.parametrize("value", [True, False])
def test_full_and_empty(value: bool) -> None:
    masks = torch.full((2, 9, 5), value)
    assert torch.equal(decoded(masks), masks)


def test_in_any_layout_of_memory() -> None:
    masks = make_masks(4, 10, 14)
    for other in (masks.transpose(1, 2), masks.flip(0)[::2], masks[:, 2:7, 3:9]):
        assert torch.equal(decoded(other), other)


def test_down_the_columns() -> None:
    masks = torch.zeros(1, 3, 4, dtype=torch.bool)
    masks[0, 1:, 2] = True  # after seven pixels two, and three more
    (segmentation,) = to_coco(masks)
    assert segmentation["size"] == [3, 4]
    plain = {"size": [3, 4], "counts": [7, 2, 3]}
    assert segmentation["counts"] == coco.frPyObjects(plain, 3, 4)["counts"].decode()


def test_of_an_array_of_bytes() -> None:
    masks = make_masks(6, 20, 30)
    counts = encode(masks)
    assert (counts.shape, counts.dtype.kind) == ((6,), "S")
    # Nothing is cut off where one is shorter than the longest.
    each = [encode(masks[n : n + 1])[0] for n in range(6)]
    assert counts.tolist() == each


def test_none() -> None:
    nothing = torch.zeros(0, 20, 30, dtype=torch.bool)
    assert encode(nothing).shape == (0,)
    assert to_coco(nothing) == []
