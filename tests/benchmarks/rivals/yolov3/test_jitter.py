"""A training image's sides moved by chance: pixels and boxes go together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import benchmarks.rivals.yolov3.jitter
from benchmarks.rivals.yolov3.jitter import jitter

FILL = torch.tensor([0.25, 0.5, 0.75])[:, None, None]
H, W = 60, 80


def target(boxes: list[list[float]]) -> dict[str, Any]:
    count = len(boxes)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.arange(1, count + 1),
        "iscrowd": torch.arange(count) % 2 == 1,
        "image_id": "not needed",
    }


def moved(monkeypatch: pytest.MonkeyPatch, left: int, top: int, right: int, bottom: int) -> None:
    """Let chance move each side so far in, of an image of 60 by 80 and an amount of 0.25."""
    parts = torch.tensor([left / 80, top / 60, right / 80, bottom / 60]) / 0.25
    monkeypatch.setattr(benchmarks.rivals.yolov3.jitter.torch, "rand", lambda _: (parts + 1) / 2)


def ramp() -> Tensor:
    """Its first channel is the column, its second the row, over the sides."""
    rows, columns = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    return torch.stack([columns / W, rows / H, torch.zeros(H, W)])


def test_cropped_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # From 10 to 70 across and 15 to 60 down: 60 x 45, stretched by 4 / 3 both ways.
    moved(monkeypatch, 10, 15, 10, 0)
    boxes = [[25.0, 21, 40, 30], [0, 0, 9, 60], [5, 0, 40, 45], [0, 0, 10.5, 60]]
    pixels, found = jitter(ramp(), target(boxes), 0.25, FILL)
    assert pixels.shape == (3, H, W)
    # The second is outside, of the fourth less than a pixel is left.
    assert found["labels"].tolist() == [1, 3]
    assert found["iscrowd"].tolist() == [False, False]
    assert found["boxes"].tolist() == [
        pytest.approx([20, 8, 40, 20]),
        pytest.approx([0, 0, 40, 40]),
    ]
    # What was at 25, 21 is at 20, 8 now.
    assert float(pixels[0, 8, 19:21].mean()) == pytest.approx(25 / W, abs=0.005)
    assert float(pixels[1, 7:9, 20].mean()) == pytest.approx(21 / H, abs=0.005)


def test_margins_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20 more at the left and 15 below: 100 x 75, stretched by 4 / 5.
    moved(monkeypatch, -20, 0, 0, -15)
    pixels, found = jitter(ramp(), target([[10, 10, 30, 40]]), 0.25, FILL)
    assert found["boxes"].tolist() == [pytest.approx([24, 8, 40, 32])]
    for margin in (pixels[:, :, :15], pixels[:, 49:]):
        torch.testing.assert_close(margin, FILL.expand_as(margin))
    assert float(pixels[0, 20, 17:].min()) > 0 and float(pixels[2, :47, 17:].max()) == 0


def test_objects_stay_where_they_are_in_the_picture() -> None:
    # A white box on black, found again in the pixels, by chances of all kinds.
    kinds = set()
    for seed in range(30):
        image = torch.zeros(3, H, W, dtype=torch.uint8)
        image[:, 20:40, 30:60] = 255
        torch.manual_seed(seed)
        pixels, found = jitter(image, target([[30, 20, 60, 40]]), 0.3, torch.zeros(3, 1, 1))
        (box,) = found["boxes"].tolist()
        white = pixels[0] > 0.5
        rows, columns = white.any(dim=1).nonzero()[:, 0], white.any(dim=0).nonzero()[:, 0]
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box == pytest.approx([float(side) for side in seen], abs=1)
        assert float(pixels.min()) >= 0 and float(pixels.max()) <= 1
        kinds.add(((box[2] - box[0]) > 30, (box[3] - box[1]) > 20))
    assert len(kinds) == 4  # wider and narrower, higher and lower


def test_by_nought_nothing_changes() -> None:
    image = (ramp() * 255).byte()
    given = target([[10, 10, 30, 40], [0, 0, 80, 60]])
    pixels, found = jitter(image, given, 0.0, FILL)
    torch.testing.assert_close(pixels, image / 255)
    assert torch.equal(found["boxes"], given["boxes"])


def test_without_objects() -> None:
    _, found = jitter(ramp(), target([]), 0.3, FILL)
    assert found["boxes"].shape == (0, 4) and len(found["labels"]) == len(found["iscrowd"]) == 0
