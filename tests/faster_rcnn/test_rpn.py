"""The region proposal network: which number is which anchor's, what it learns, and folding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from faster_rcnn.anchors import base_anchors, grid_anchors
from faster_rcnn.config import AnchorConfig, LabelConfig, RPNConfig, RPNLossConfig
from faster_rcnn.labels import NEGATIVE, POSITIVE, label_anchors
from faster_rcnn.rpn import RPN
from stages.boxes import decode, encode

SIZES, RATIOS = (16.0, 32.0), (0.5, 1.0, 2.0)
K = 6
CONFIG = RPNConfig(width=8, anchors=AnchorConfig(SIZES, RATIOS))


def rpn_of(
    config: RPNConfig = CONFIG,
    channels: int = 5,
    strides: Sequence[int] = (16,),
    sizes: Sequence[Sequence[float]] | None = None,
) -> RPN:
    """Answers that differ from anchor to anchor; the same every time."""
    torch.manual_seed(3)
    rpn = RPN(channels, config, strides, sizes)
    with torch.no_grad():
        rpn.conv.weight.normal_(std=0.3)
        rpn.scores.weight.normal_(std=0.5)
        rpn.offsets.weight.normal_(std=0.3)
        for layer in (rpn.conv, rpn.scores, rpn.offsets):
            layer.bias.normal_(std=0.1)  # type: ignore[union-attr]
    return rpn


# What it begins as ---------------------------------------------------------------------------


def test_it_begins_as_the_paper_says() -> None:
    # Section 3.1.3: "by drawing weights from a zero-mean Gaussian with standard deviation 0.01".
    torch.manual_seed(0)
    rpn = RPN(256, RPNConfig())
    assert rpn.conv.weight.shape == (512, 256, 3, 3)
    assert rpn.scores.weight.shape == (9, 512, 1, 1)
    assert rpn.offsets.weight.shape == (36, 512, 1, 1)
    for layer in (rpn.conv, rpn.scores, rpn.offsets):
        weight = layer.weight.detach()
        assert float(weight.std()) == pytest.approx(0.01, rel=0.05)
        assert abs(float(weight.mean())) < 0.0005
        # Normal, not uniform: a third lies beyond a deviation, one in twenty beyond two.
        beyond = [float((weight.abs() > n * 0.01).float().mean()) for n in (1, 2)]
        assert beyond == pytest.approx([0.317, 0.0455], abs=0.02)
        assert layer.bias is not None
        assert (layer.bias == 0).all()


def test_what_is_saved_of_it() -> None:
    # Anchors and statistics are of the configuration and of training: a file has the weights alone.
    assert rpn_of(strides=(8, 16)).state_dict().keys() == {
        f"{layer}.{kind}" for layer in ("conv", "scores", "offsets") for kind in ("weight", "bias")
    }


# Whose number is whose -----------------------------------------------------------------------


def hot(k: int, values: Sequence[float]) -> RPN:
    """Channel 0's value comes out as the score of each position's k-th anchor, `values` times it as its
    offsets; all else is 0."""
    rpn = RPN(2, CONFIG)
    with torch.no_grad():
        for layer in (rpn.conv, rpn.scores, rpn.offsets):
            layer.weight.zero_()
        rpn.conv.weight[0, 0, 1, 1] = 1
        rpn.scores.weight[k, 0] = 1
        for j, value in enumerate(values):
            rpn.offsets.weight[4 * k + j, 0] = value
    return rpn


@pytest.mark.parametrize("k", range(K))
@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 1), (1, 4), (2, 4)])
def test_one_spot_answers_for_its_own_anchor(k: int, row: int, column: int) -> None:
    rpn = hot(k, [2.0, 3.0, 5.0, 7.0])
    maps = torch.zeros(2, 2, 3, 5)
    maps[1, 0, row, column] = 1.5
    scores, offsets = rpn([maps])
    assert scores.shape == (2, 3 * 5 * K)
    assert offsets.shape == (2, 3 * 5 * K, 4)
    assert scores.nonzero().shape == (1, 2)
    image, anchor = scores.nonzero()[0].tolist()
    assert image == 1
    assert offsets.flatten(1)[0].abs().max() == 0
    assert offsets[1].abs().sum(dim=1).nonzero().tolist() == [[anchor]]
    assert offsets[1, anchor].tolist() == [3.0, 4.5, 7.5, 10.5]
    # That anchor lies where the spot is, and has the shape that was asked.
    (anchors,) = rpn.anchors([maps])
    x, y = 16 * (column + 0.5), 16 * (row + 0.5)
    expected = base_anchors(SIZES, RATIOS)[k] + torch.tensor([x, y, x, y])
    torch.testing.assert_close(anchors[anchor], expected)


def test_it_sees_three_cells_by_three() -> None:
    rpn = rpn_of()
    still = torch.zeros(1, 5, 7, 7)
    moved = still.clone()
    moved[0, :, 3, 3] = 4.0
    before, after = (rpn([maps])[0].unflatten(1, (7, 7, K)) for maps in (still, moved))
    differs = (before - after).abs().amax(dim=(0, 3)) > 1e-6
    assert differs[2:5, 2:5].all()
    assert int(differs.sum()) == 9


def test_positions_share_their_weights() -> None:
    rpn = rpn_of()
    maps = torch.zeros(1, 5, 6, 9)
    maps[0, :, 1:4, 1:4] = torch.randn(5, 3, 3)
    maps[0, :, 2:5, 5:8] = maps[0, :, 1:4, 1:4]
    scores = rpn([maps])[0].unflatten(1, (6, 9, K))
    torch.testing.assert_close(scores[0, 2, 2], scores[0, 3, 6])


def test_by_plain_convolutions() -> None:
    rpn = rpn_of()
    maps = torch.randn(2, 5, 4, 3)
    hidden = F.conv2d(maps, rpn.conv.weight, rpn.conv.bias, padding=1).clamp(min=0)
    assert rpn.scores.bias is not None
    assert rpn.offsets.bias is not None
    scores, offsets = rpn([maps])
    for image in range(2):
        for row in range(4):
            for column in range(3):
                features = hidden[image, :, row, column]
                own = rpn.scores.weight[:, :, 0, 0] @ features
                moves = rpn.offsets.weight[:, :, 0, 0] @ features
                start = (row * 3 + column) * K
                torch.testing.assert_close(
                    scores[image, start : start + K], own + rpn.scores.bias, rtol=1e-4, atol=1e-5
                )
                torch.testing.assert_close(
                    offsets[image, start : start + K],
                    (moves + rpn.offsets.bias).reshape(K, 4),
                    rtol=1e-4,
                    atol=1e-5,
                )


def test_several_maps_come_one_after_the_other() -> None:
    rpn = rpn_of(strides=(8, 16), sizes=((16.0, 20.0), (32.0, 40.0)))
    maps = [torch.randn(2, 5, 4, 6), torch.randn(2, 5, 2, 3)]
    scores, offsets = rpn(maps)
    alone = [rpn([of_map]) for of_map in maps]
    assert torch.equal(scores, torch.cat([one for one, _ in alone], dim=1))
    assert torch.equal(offsets, torch.cat([one for _, one in alone], dim=1))
    anchors = rpn.anchors(maps)
    assert [len(of_map) for of_map in anchors] == [4 * 6 * K, 2 * 3 * K]
    assert scores.shape == (2, sum(map(len, anchors)))
    for of_map, sizes, stride, shape in zip(
        anchors, ((16.0, 20.0), (32.0, 40.0)), (8, 16), ((4, 6), (2, 3)), strict=True
    ):
        expected = grid_anchors(base_anchors(sizes, RATIOS), *shape, stride, 0.5)
        assert torch.equal(of_map, expected)


def test_every_map_has_all_sizes_unless_it_is_told() -> None:
    rpn = rpn_of(strides=(8, 16))
    first, second = rpn.anchors([torch.zeros(1, 5, 2, 2), torch.zeros(1, 5, 1, 1)])
    torch.testing.assert_close(first[:K] - 4, second - 8)


def test_where_in_its_cell_an_anchor_is() -> None:
    for centre in (0.0, 0.5):
        config = replace(CONFIG, anchors=AnchorConfig(SIZES, RATIOS, centre))
        (anchors,) = rpn_of(config).anchors([torch.zeros(1, 5, 2, 2)])
        middle = (anchors[:, :2] + anchors[:, 2:]) / 2
        assert middle.unflatten(0, (4, K))[:, 0].tolist() == [
            [16 * (x + centre), 16 * (y + centre)] for y in (0, 1) for x in (0, 1)
        ]


def test_what_it_says_is_float32_after_a_bfloat16_convolution() -> None:
    rpn = rpn_of()
    maps = torch.randn(1, 5, 4, 4)
    expected, expected_offsets = rpn([maps])
    rpn.conv.to(torch.bfloat16)
    scores, offsets = rpn([maps.bfloat16()])
    assert scores.dtype == offsets.dtype == torch.float32
    torch.testing.assert_close(scores, expected, rtol=0, atol=0.1)
    torch.testing.assert_close(offsets, expected_offsets, rtol=0, atol=0.1)


# What it learns ------------------------------------------------------------------------------


OBJECTS = [
    torch.tensor([[10.0, 12, 30, 44], [40, 20, 80, 60]]),
    torch.zeros(0, 4),
    torch.tensor([[20.0, 5, 60, 40]]),
]
FRAMES = [(64, 96), (64, 96), (48, 80)]
EVERY_SCALE = ["paper", "matlab", "python"]


def slow_losses(
    rpn: RPN, scores: Tensor, offsets: Tensor, anchors: Tensor, positions: int
) -> dict[str, float]:
    """Equation 1 anchor by anchor, where chance has nothing to choose from: all are drawn."""
    logs, boxes, drawn = 0.0, 0.0, 0
    beta = 1 / 9 if rpn.config.loss.scale == "python" else 1.0
    for n, (objects, size) in enumerate(zip(OBJECTS, FRAMES, strict=True)):
        labels, nearest = label_anchors(anchors, objects, size, rpn.config.labels)
        for anchor in range(len(anchors)):
            label = int(labels[anchor])
            if label not in (POSITIVE, NEGATIVE):
                continue
            drawn += 1
            chance = torch.sigmoid(scores[n, anchor].double())
            logs -= float(torch.log(chance if label == POSITIVE else 1 - chance))
            if label == POSITIVE:
                target = encode(anchors[anchor][None], objects[nearest[anchor]][None])[0]
                target = (target - rpn.box_mean) / rpn.box_std
                for error in (offsets[n, anchor] - target).abs().tolist():
                    boxes += error**2 / beta / 2 if error < beta else error - beta / 2
    if rpn.config.loss.scale == "python":
        return {"objectness": logs / drawn, "rpn_boxes": boxes / drawn}
    images = len(OBJECTS)
    counted = images * rpn.config.labels.anchors if rpn.config.loss.scale == "paper" else drawn
    return {"objectness": logs / counted, "rpn_boxes": 10 * boxes / (images * positions)}


@pytest.mark.parametrize("scale", EVERY_SCALE)
@pytest.mark.parametrize("maps", [1, 2])
def test_its_losses_by_a_loop(scale: str, maps: int) -> None:
    config = replace(
        CONFIG,
        labels=LabelConfig(anchors=5000, inside=False),  # so many that none is left to chance
        loss=RPNLossConfig(scale=scale),  # type: ignore[arg-type]
    )
    rpn = rpn_of(config, strides=(16, 32)[:maps], sizes=[SIZES, (32.0, 64.0)][:maps])
    rpn.box_mean, rpn.box_std = torch.tensor([0.1, -0.1, 0.2, 0.0]), torch.tensor([0.5, 1, 2, 4])
    shapes = [(4, 6), (2, 3)][:maps]
    seen = [torch.randn(3, 5, *shape) for shape in shapes]
    with torch.no_grad():
        scores, offsets = rpn(seen)
        anchors = rpn.anchors(seen)
        losses = rpn.losses(scores, offsets, anchors, OBJECTS, FRAMES)
        positions = sum(high * wide for high, wide in shapes)
        expected = slow_losses(rpn, scores, offsets, torch.cat(anchors), positions)
    assert {key: value.item() for key, value in losses.items()} == pytest.approx(expected, rel=1e-4)
    assert all(value > 0.01 for value in expected.values())


@pytest.mark.parametrize("scale", EVERY_SCALE)
def test_the_gradient_reaches_every_layer(scale: str) -> None:
    rpn = rpn_of(replace(CONFIG, loss=RPNLossConfig(scale=scale)))  # type: ignore[arg-type]
    maps = torch.randn(3, 5, 4, 6, requires_grad=True)
    for kind, silent in (("objectness", "offsets"), ("rpn_boxes", "scores")):
        rpn.zero_grad(set_to_none=True)
        scores, offsets = rpn([maps])
        losses = rpn.losses(scores, offsets, rpn.anchors([maps]), OBJECTS, FRAMES)
        (of_maps,) = torch.autograd.grad(losses[kind], maps, retain_graph=True)
        assert (of_maps != 0).any()
        losses[kind].backward()  # type: ignore[no-untyped-call]
        for name, parameter in rpn.named_parameters():
            if name.startswith(silent):
                assert parameter.grad is None or (parameter.grad == 0).all()
            else:
                assert parameter.grad is not None, name
                assert torch.isfinite(parameter.grad).all()
                assert (parameter.grad != 0).any(), name


def test_a_weight_of_nought_teaches_nothing() -> None:
    for loss, layer in (
        (RPNLossConfig(box_weight=0.0), "offsets"),
        (RPNLossConfig(score_weight=0.0), "scores"),
    ):
        rpn = rpn_of(replace(CONFIG, loss=loss))
        maps = [torch.randn(3, 5, 4, 6)]
        scores, offsets = rpn(maps)
        losses = rpn.losses(scores, offsets, rpn.anchors(maps), OBJECTS, FRAMES)
        sum(losses.values(), torch.tensor(0.0)).backward()  # type: ignore[no-untyped-call]
        gradient = rpn.get_submodule(layer).weight.grad
        assert gradient is None or (gradient == 0).all()  # type: ignore[operator, union-attr]
        assert (rpn.conv.weight.grad != 0).any()  # type: ignore[union-attr]


@pytest.mark.parametrize("scale", EVERY_SCALE)
def test_without_objects_or_anchors_inside_its_gradient_is_finite(scale: str) -> None:
    rpn = rpn_of(replace(CONFIG, loss=RPNLossConfig(scale=scale)))  # type: ignore[arg-type]
    maps = [torch.randn(2, 5, 4, 4)]
    # The second image is smaller than any anchor.
    scores, offsets = rpn(maps)
    losses = rpn.losses(
        scores,
        offsets,
        rpn.anchors(maps),
        [torch.zeros(0, 4), torch.tensor([[1.0, 1, 6, 6]])],
        [(64, 64), (8, 8)],
    )
    assert losses["objectness"].item() > 0
    assert losses["rpn_boxes"].item() == 0
    sum(losses.values(), torch.tensor(0.0)).backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(p.grad).all() for p in rpn.parameters() if p.grad is not None)
    nothing = [torch.zeros(0, 4)] * 2
    scores, offsets = rpn(maps)
    alone = rpn.losses(scores, offsets, rpn.anchors(maps), nothing, [(8, 8), (8, 8)])
    assert [value.item() for value in alone.values()] == [0, 0]


def test_no_more_learn_than_are_drawn() -> None:
    # Half of 8 positive at most: with no gradient elsewhere, so many scores have one.
    config = replace(CONFIG, labels=LabelConfig(positive_iou=0.3, anchors=8, inside=False))
    rpn = rpn_of(config)
    maps = [torch.randn(3, 5, 4, 6)]
    scores, offsets = rpn(maps)
    scores.retain_grad(), offsets.retain_grad()
    torch.manual_seed(0)
    losses = rpn.losses(scores, offsets, rpn.anchors(maps), OBJECTS, FRAMES)
    sum(losses.values(), torch.tensor(0.0)).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert offsets.grad is not None
    assert (scores.grad != 0).sum(dim=1).tolist() == [8, 8, 8]
    # An object pushes the score up.
    assert (scores.grad < 0).sum(dim=1).tolist() == [4, 0, 4]
    assert (offsets.grad != 0).any(dim=2).sum(dim=1).tolist() == [4, 0, 4]


# Folding -------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_folded_it_says_what_it_learnt_in_the_boxes_own_terms(seed: int) -> None:
    rpn = rpn_of().double()
    torch.manual_seed(seed)
    mean, std = torch.randn(4).double(), torch.rand(4).double() + 0.01
    rpn.box_mean, rpn.box_std = mean.clone(), std.clone()
    maps = [torch.randn(1, 5, 3, 4).double()]
    scores, before = rpn(maps)
    rpn.fold()
    same, after = rpn(maps)
    torch.testing.assert_close(after, mean + std * before)
    assert torch.equal(same, scores)
    # Folded again it stays.
    rpn.fold()
    assert torch.equal(rpn(maps)[1], after)
    assert rpn.box_mean.tolist() == [0] * 4
    assert rpn.box_std.tolist() == [1] * 4


def test_what_it_learns_by_heart_moves_anchors_onto_the_object() -> None:
    # The whole way: standardised targets are met exactly, folded, decoded.
    rpn = rpn_of()
    rpn.box_mean, rpn.box_std = torch.tensor([0.1, -0.1, 0.2, 0.0]), torch.tensor([0.5, 1, 2, 4])
    maps = [torch.zeros(1, 5, 4, 4)]
    (anchors,) = rpn.anchors(maps)
    box = torch.tensor([[17.0, 9, 51, 40]])
    index = 5 * K + 3
    target = (encode(anchors[index : index + 1], box) - rpn.box_mean) / rpn.box_std
    with torch.no_grad():
        rpn.offsets.weight.zero_()
        rpn.offsets.bias[4 * 3 : 4 * 4] = target[0]  # type: ignore[index]
    rpn.fold()
    offsets = rpn(maps)[1][0, index]
    torch.testing.assert_close(decode(anchors[index], offsets), box[0], rtol=0, atol=1e-3)
