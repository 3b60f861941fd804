"""The mask's loss by hand, and its targets by hand and against a loop.

R RoIs, H and W of an image in pixels, m a mask's side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from torch import Tensor

from mask_rcnn import loss as loss_module
from mask_rcnn.config import MaskConfig
from mask_rcnn.loss import mask_loss, mask_targets
from mask_rcnn.mask_head import MaskHead
from stages.data.masks import Masks

HEIGHT, WIDTH = 12, 16
LOG = math.log


def head_of(loss: str = "sigmoid", class_specific: bool = True) -> MaskHead:
    """Of three classes, and masks of 2 x 2."""
    config = MaskConfig(convs=0, width=2, loss=loss, class_specific=class_specific)  # type: ignore[arg-type]
    return MaskHead(2, 1, 3, config)


# Targets -------------------------------------------------------------------------------------


def box_mask(x1: int, y1: int, x2: int, y2: int) -> Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


def targets_of(
    masks: list[Tensor], rois: Sequence[Sequence[float]], objects: list[int], side: int
) -> Tensor:
    return mask_targets(torch.stack(masks), torch.tensor(objects), torch.tensor(rois), side)


@pytest.mark.parametrize("side", [1, 2, 4, 7, 8, 28])
def test_a_full_box_is_a_full_mask(side: int) -> None:
    found = targets_of([box_mask(3, 2, 11, 10)], [[3, 2, 11, 10]], [0], side)
    assert found.shape == (1, side, side)
    assert found.dtype == torch.bool
    if side > 8:  # finer than the pixels, between which it is smooth: the corners are round
        found[:, [0, 0, -1, -1], [0, -1, 0, -1]] ^= True
    assert found.all()


def test_as_many_cells_as_pixels_is_the_mask_itself() -> None:
    mask = torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) < 0.5
    (found,) = targets_of([mask], [[5, 3, 13, 11]], [0], 8)
    assert torch.equal(found, mask[3:11, 5:13])


def test_half_inside() -> None:
    mask = box_mask(4, 0, 8, 12)
    # To the right, to the left, and half a cell less of each: a cell of which half is covered is set.
    rois: list[list[float]] = [[0, 2, 8, 10], [4, 2, 12, 10], [1, 2, 9, 10], [0.5, 2, 8.5, 10]]
    found = targets_of([mask], rois, [0] * 4, 4)
    assert [of_roi[0].tolist() for of_roi in found.int()] == [
        [0, 0, 1, 1],
        [1, 1, 0, 0],
        [0, 1, 1, 1],  # 3 to 5 and 7 to 9 are half covered each
        [0, 0, 1, 1],  # 2.5 to 4.5 by a quarter, 6.5 to 8.5 by three
    ]
    assert (found == found[:, :1]).all()


def test_outside_the_image_there_is_nothing() -> None:
    full = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    rois: list[list[float]] = [[100, 100, 120, 120], [-40, -30, -20, -10], [-16, 0, 16, 12]]
    far, before, across = targets_of([full], rois, [0] * 3, 4)
    assert not far.any() and not before.any()
    assert across.int().tolist() == [[0, 0, 1, 1]] * 4


def test_several_rois_of_several_objects() -> None:
    left, right, nothing = box_mask(0, 0, 8, 12), box_mask(8, 0, 16, 12), box_mask(0, 0, 0, 0)
    whole = [0.0, 0, 16, 12]
    found = targets_of([left, nothing, right], [whole] * 5, [2, 0, 2, 1, 0], 2)
    assert [of_roi[0].tolist() for of_roi in found.int()] == [
        [0, 1],
        [1, 0],
        [0, 1],
        [0, 0],
        [1, 0],
    ]


def test_no_roi() -> None:
    masks = box_mask(0, 0, 4, 4)[None]
    found = mask_targets(masks, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), 14)
    assert (found.shape, found.dtype) == ((0, 14, 14), torch.bool)
    # Nor an object.
    found = mask_targets(masks[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), 14)
    assert found.shape == (0, 14, 14)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 9), st.sampled_from([1, 3, 100]))
def test_targets_do_not_depend_on_how_masks_are_kept_and_how_many_are_drawn_at_once(
    seed: int, objects: int, rois: int, at_once: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(objects, HEIGHT, WIDTH, generator=generator) < 0.5
    encoded = [coco.encode(np.asfortranarray(mask, np.uint8))["counts"] for mask in masks.numpy()]
    chosen = torch.randint(objects, (rois,), generator=generator)
    corners = torch.rand(rois, 2, 2, generator=generator).sort(dim=1).values * 16
    expected = [
        mask_targets(masks[one][None], torch.tensor([0]), corners[n].reshape(1, 4), 14)
        for n, one in enumerate(chosen)
    ]
    runs = Masks(tuple(encoded), HEIGHT, WIDTH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_module, "AT_ONCE", at_once * HEIGHT * WIDTH)
        for kept in (masks, runs, runs.mirrored().mirrored()):
            found = mask_targets(kept, chosen, corners.reshape(-1, 4), 14)
            assert torch.equal(
                found, torch.cat([torch.zeros(0, 14, 14, dtype=torch.bool), *expected])
            )


def slow_share(mask: Tensor, roi: list[float], side: int) -> Tensor:
    """[m, m]: how much of each cell is set, between pixels' middles, a pixel apart at most."""
    x1, y1, x2, y2 = roi
    wide, high = (x2 - x1) / side, (y2 - y1) / side
    across, down = math.ceil(wide), math.ceil(high)
    share = torch.zeros(side, side, dtype=torch.float64)
    for i in range(side):
        for j in range(side):
            for k in range(down):
                for n in range(across):
                    y = y1 + (i + (k + 0.5) / down) * high - 0.5
                    x = x1 + (j + (n + 0.5) / across) * wide - 0.5
                    share[i, j] += between(mask, y, x) / (down * across)
    return share


def between(mask: Tensor, y: float, x: float) -> float:
    height, width = mask.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    total = 0.0
    for row in {math.floor(y), math.ceil(y)}:
        for column in {math.floor(x), math.ceil(x)}:
            total += float(mask[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


Corner = st.tuples(st.floats(-6, 14, width=32), st.floats(-6, 10, width=32))
Sides = st.tuples(st.floats(0.25, 20, width=32), st.floats(0.25, 16, width=32))


@settings(max_examples=40)
@given(st.integers(0, 10**6), Corner, Sides, st.integers(1, 5))
def test_targets_of_any_roi(
    seed: int, corner: tuple[float, float], sides: tuple[float, float], side: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(3, HEIGHT, WIDTH, generator=generator) < 0.5
    x, y = corner
    roi = [x, y, x + sides[0], y + sides[1]]
    found = mask_targets(masks, torch.tensor([2]), torch.tensor([roi]), side)[0]
    # As float32 has it: half a cell, and the edge of what counts, may be on either side of a hair.
    low, high = (
        slow_share(masks[2], [edge + shift for edge in roi], side) for shift in (-1e-4, 1e-4)
    )
    share = slow_share(masks[2], torch.tensor([roi])[0].tolist(), side)
    sure = ((share - 0.5).abs() > 1e-3) & ((low - high).abs() < 1e-2)
    assert torch.equal(found[sure], (share >= 0.5)[sure])


# The loss ------------------------------------------------------------------------------------


def test_by_hand() -> None:
    """Section 3: the average binary cross-entropy of the true class's mask alone."""
    logits = torch.zeros(2, 3, 2, 2)
    logits[0, 1] = torch.tensor([[LOG(3), LOG(3)], [-LOG(3), 0]])  # 3/4, 3/4, 1/4, 1/2
    targets = torch.tensor([[[1, 0], [0, 1]], [[1, 1], [0, 0]]]).bool()
    loss = mask_loss(head_of(), logits, torch.tensor([2, 1]), targets)
    # Of the second RoI nothing is known: a half everywhere.
    expected = (LOG(4 / 3) + LOG(4) + LOG(4 / 3) + LOG(2) + 4 * LOG(2)) / 8
    assert float(loss) == pytest.approx(expected)


def gradient(head: MaskHead, logits: Tensor, labels: list[int], targets: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    mask_loss(head, logits, torch.tensor(labels), targets).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    return logits.grad


def test_masks_of_other_classes_learn_nothing() -> None:
    targets = torch.rand(4, 2, 2) < 0.5
    labels = [2, 1, 3, 2]
    found = gradient(head_of(), torch.randn(4, 3, 2, 2), labels, targets)
    for n, label in enumerate(labels):
        for k in range(3):
            assert bool((found[n, k] != 0).all()) == (k == label - 1)
            assert bool((found[n, k] == 0).all()) == (k != label - 1)


def test_a_softmax_couples_the_classes() -> None:
    """Table 2b: at a pixel of the object its class, elsewhere background, against all others."""
    targets = torch.tensor([[[True, False], [True, False]]])
    shares = torch.tensor([1.0, 2, 3, 4])
    logits = shares.log()[None, :, None, None].expand(1, 4, 2, 2)
    head = head_of("softmax")
    loss = mask_loss(head, logits, torch.tensor([3]), targets)
    assert float(loss) == pytest.approx((LOG(10 / 4) + LOG(10 / 1)) / 2)
    found = 4 * gradient(head, logits, [3], targets)[0]  # of each of four pixels
    assert found[:, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4 - 1])
    assert found[:, 0, 1].tolist() == pytest.approx([0.1 - 1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
def test_one_mask_for_all_classes(loss: str) -> None:
    head = head_of(loss, class_specific=False)
    logits, targets = torch.randn(3, head.outputs, 2, 2), torch.rand(3, 2, 2) < 0.5
    first, other = (
        mask_loss(head, logits, torch.tensor(labels), targets) for labels in ([1, 1, 1], [3, 2, 1])
    )
    assert torch.equal(first, other)
    # Two shares, of which one is background's, are a sigmoid of their difference.
    if loss == "softmax":
        plain = head_of(class_specific=False)
        margin = logits[:, 1:] - logits[:, :1]
        torch.testing.assert_close(
            first, mask_loss(plain, margin, torch.tensor([1, 1, 1]), targets)
        )


@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
@pytest.mark.parametrize("class_specific", [True, False])
def test_without_a_roi_it_is_0_and_the_branch_still_has_a_gradient(
    loss: str, class_specific: bool
) -> None:
    head = head_of(loss, class_specific)
    logits = head(torch.randn(0, 2, 1, 1))
    nothing = torch.zeros(0, dtype=torch.int64)
    found = mask_loss(head, logits, nothing, torch.zeros(0, 2, 2, dtype=torch.bool))
    assert found.item() == 0
    found.backward()  # type: ignore[no-untyped-call]
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert (parameter.grad == 0).all()


@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
def test_it_is_computed_in_float32(loss: str) -> None:
    head = head_of(loss)
    logits = torch.randn(5, head.outputs, 2, 2).to(torch.bfloat16)
    labels, targets = torch.tensor([1, 2, 3, 1, 2]), torch.rand(5, 2, 2) < 0.5
    found = mask_loss(head, logits, labels, targets)
    assert found.dtype == torch.float32
    assert torch.equal(found, mask_loss(head, logits.float(), labels, targets))


def test_the_mean_over_rois_of_their_means() -> None:
    head = head_of()
    logits, targets = torch.randn(6, 3, 2, 2), torch.rand(6, 2, 2) < 0.5
    labels = torch.tensor([1, 2, 3, 1, 2, 2])
    each = [
        float(mask_loss(head, logits[n : n + 1], labels[n : n + 1], targets[n : n + 1]))
        for n in range(6)
    ]
    assert float(mask_loss(head, logits, labels, targets)) == pytest.approx(sum(each) / 6)
