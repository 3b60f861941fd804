"""Pooling and the head, a few RoIs at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.roi_head import CHUNK, roi_features
from stages.stopwatch import Stopwatch

CPU = torch.device("cpu")


def test_every_roi_goes_through_once_in_order() -> None:
    rois = torch.arange(2 * CHUNK + 3.0)[:, None].repeat(1, 5)
    seen: list[int] = []

    def pool(some: Tensor) -> Tensor:
        seen.append(len(some))
        return some[:, :2] + 1

    features = roi_features(rois, pool, lambda pooled: 10 * pooled, CPU)
    assert seen == [CHUNK, CHUNK, 3]
    assert torch.equal(features, 10 * (rois[:, :2] + 1))


def test_a_gpu_takes_all_at_once() -> None:
    seen: list[int] = []

    def pool(some: Tensor) -> Tensor:
        seen.append(len(some))
        return some

    roi_features(torch.zeros(2 * CHUNK, 5), pool, lambda pooled: pooled, torch.device("cuda"))
    assert seen == [2 * CHUNK]


def test_no_roi_has_no_features() -> None:
    features = roi_features(torch.zeros(0, 5), lambda some: some[:, :3], lambda p: p, CPU)
    assert features.shape == (0, 3)


def test_each_part_is_timed() -> None:
    watch = Stopwatch()
    roi_features(torch.zeros(3, 5), lambda some: some, lambda pooled: pooled, CPU, watch)
    assert set(watch.seconds) == {"pooling", "head"}
