"""The pyramid against loops, and against an operator call for each level."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision.ops
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spp_net.pyramid import bins_of, pool_crops, pool_windows

PAPER = (6, 3, 2, 1)
HEIGHT, WIDTH = 17, 23


def make_maps(count: int = 2, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, channels, HEIGHT, WIDTH, generator=generator)


def slow(maps: Tensor, cells: list[int], levels: tuple[int, ...]) -> list[float]:
    """The paper's words: bin (i, j) of n x n from floor to ceil, the maximum of each channel."""
    number, x1, y1, x2, y2 = cells
    window = maps[number, :, y1 : y2 + 1, x1 : x2 + 1].numpy()
    _, h, w = window.shape
    pooled = []
    for n in levels:
        for channel in window:
            for j in range(n):
                for i in range(n):
                    bin_of = channel[
                        math.floor(j * h / n) : math.ceil((j + 1) * h / n),
                        math.floor(i * w / n) : math.ceil((i + 1) * w / n),
                    ]
                    pooled.append(float(bin_of.max()))
    return pooled


def crops_of(maps: Tensor, cells: list[list[int]]) -> list[Tensor]:
    channels_last = maps.permute(0, 2, 3, 1)
    return [channels_last[n, y1 : y2 + 1, x1 : x2 + 1] for n, x1, y1, x2, y2 in cells]


def test_fifty_bins() -> None:
    assert bins_of(PAPER) == 50
    maps, cells = make_maps(channels=256), torch.tensor([[0, 2, 3, 9, 9]])
    assert pool_windows(maps, cells, PAPER).shape == (1, 12_800)


def test_by_hand() -> None:
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    # Two levels over the right upper 2 rows x 3 columns: 1 2 3 / 5 6 7.
    cells = torch.tensor([[0, 1, 0, 3, 1]])
    assert pool_windows(maps, cells, (2, 1)).tolist() == [[2, 3, 6, 7, 7]]
    assert pool_windows(maps, cells, (1, 2)).tolist() == [[7, 2, 3, 6, 7]]


def test_each_level_is_the_head_of_the_network_it_replaces() -> None:
    # A level's values lie as a flattened map [C, n, n]: what fc6 was pre-trained on.
    maps, cells = make_maps(), torch.tensor([[1, 4, 2, 16, 14]])
    expected = torch.nn.functional.adaptive_max_pool2d(maps[1:, :, 2:15, 4:17], 6).flatten(1)
    assert torch.equal(pool_windows(maps, cells, PAPER)[:, : 3 * 36], expected)


Column, Row = st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1)
Window = st.tuples(st.integers(0, 1), Column, Row, Column, Row).map(
    lambda v: [v[0], min(v[1], v[3]), min(v[2], v[4]), max(v[1], v[3]), max(v[2], v[4])]
)
Levels = st.sampled_from([PAPER, (1, 2, 3, 6), (4, 2, 1), (5, 4, 2), (7, 3, 2, 1), (1,)])


@given(st.lists(Window, min_size=1, max_size=5), Levels)
def test_any_windows_as_loops_do(windows: list[list[int]], levels: tuple[int, ...]) -> None:
    maps = make_maps()
    expected = np.array([slow(maps, window, levels) for window in windows], np.float32)
    assert np.array_equal(pool_windows(maps, torch.tensor(windows), levels).numpy(), expected)
    assert np.array_equal(pool_crops(crops_of(maps, windows), levels).numpy(), expected)


@pytest.mark.parametrize("levels", [PAPER, (4, 2, 1)])
def test_every_size_as_an_operator_call_a_level(levels: tuple[int, ...]) -> None:
    # Bin edges are multiples of a quotient in single precision: none may fall on the other side.
    maps = torch.randn(1, 1, 1, 128)
    cells = torch.tensor([[0, 0, 0, last, 0] for last in range(128)])
    separate = [torchvision.ops.roi_pool(maps, cells.float(), n, 1.0).flatten(1) for n in levels]
    assert torch.equal(pool_windows(maps, cells, levels), torch.cat(separate, dim=1))


def test_bfloat16_loses_nothing() -> None:
    maps, cells = make_maps().bfloat16(), torch.tensor([[0, 1, 2, 9, 9], [1, 0, 0, 3, 16]])
    pooled = pool_windows(maps, cells, PAPER)
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled.float(), pool_windows(maps.float(), cells, PAPER))


def test_a_single_cell_is_repeated() -> None:
    maps = make_maps()
    pooled = pool_windows(maps, torch.tensor([[1, 5, 7, 5, 7]]), (2, 1))
    assert torch.equal(
        pooled[0], torch.cat([maps[1, :, 7, 5].repeat_interleave(4), maps[1, :, 7, 5]])
    )


def test_gradients_go_to_the_maxima() -> None:
    maps = torch.arange(16.0).reshape(1, 1, 4, 4).requires_grad_()
    pool_windows(maps, torch.tensor([[0, 0, 0, 3, 3]]), (2, 1)).sum().backward()
    assert maps.grad is not None
    expected = torch.zeros(4, 4)
    expected[1, 1] = expected[1, 3] = expected[3, 1] = 1
    expected[3, 3] = 2
    assert torch.equal(maps.grad[0, 0], expected)


def test_no_windows() -> None:
    assert pool_windows(make_maps(), torch.zeros(0, 5), PAPER).shape == (0, 150)
