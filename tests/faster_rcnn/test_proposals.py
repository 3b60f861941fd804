"""From the RPN's answers to proposals: by hand, and against the paper's steps in plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import faster_rcnn.proposals
from faster_rcnn.config import ProposalConfig
from faster_rcnn.proposals import select_proposals

Found = list[tuple[list[float], float]]
Box = Sequence[float]
ALL = ProposalConfig(before=None, nms_iou=1.0, after=10_000, least_side=0.0)  # nothing is dropped
EVEN = torch.ones(4)
SIZE = (96, 128)


def selected(
    scores: Sequence[float],
    anchors: Sequence[Sequence[Any]],
    config: ProposalConfig = ALL,
    offsets: Tensor | None = None,
    size: tuple[int, int] = SIZE,
    ratio: Tensor = EVEN,
) -> Found:
    """Of one image."""
    of_maps = [torch.tensor(of_map).reshape(-1, 4).float() for of_map in anchors]
    if offsets is None:
        offsets = torch.zeros(len(scores), 4)
    ((boxes, kept),) = select_proposals(
        torch.tensor([list(scores)]), offsets[None], of_maps, [size], ratio[None], config
    )
    assert boxes.dtype == kept.dtype == torch.float32
    return list(zip(boxes.tolist(), kept.tolist(), strict=True))


# The paper's steps ---------------------------------------------------------------------------


def slow_iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union else 0.0


def slow_select(
    scores: Sequence[float],
    offsets: Sequence[Sequence[float]],
    anchors: Sequence[Sequence[Box]],
    size: tuple[int, int],
    ratio: Sequence[float],
    config: ProposalConfig,
) -> Found:
    """One image: each map by itself, box by box, then the best of all."""
    together: Found = []
    start = 0
    for of_map in anchors:
        rows = sorted(range(len(of_map)), key=lambda row: -scores[start + row])
        if config.least_side == 0:  # otherwise small ones are no candidates
            rows = rows[: config.before]
        moved: Found = []
        for row in rows:
            x1, y1, x2, y2 = of_map[row]
            dx, dy, dw, dh = offsets[start + row]
            x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
            w, h = (x2 - x1) * math.exp(dw), (y2 - y1) * math.exp(dh)
            limits = [size[1], size[0]] * 2
            corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            box = [min(max(v, 0.0), limit) for v, limit in zip(corners, limits, strict=True)]
            own_width, own_height = (box[2] - box[0]) / ratio[0], (box[3] - box[1]) / ratio[1]
            least = max(config.least_side, 1e-3)  # one without area is no proposal
            if own_width >= least and own_height >= least:
                moved.append((box, scores[start + row]))
        kept: Found = []
        for box, score in moved[: config.before]:
            if config.nms_iou >= 1 or all(slow_iou(box, b) <= config.nms_iou for b, _ in kept):
                kept.append((box, score))
        together += kept
        start += len(of_map)
    return sorted(together, key=lambda one: -one[1])[: config.after]


# Anchors of whole eights of pixels, moved by eighths of their sides, halved or doubled: overlaps are
# ratios of numbers under 10,000, and none but 0.3, 0.5 and 0.7 themselves is as near to them as these.
LINES = (0.30002, 0.50002, 0.70002, 1.0)


def drawn_case(
    seed: int, images: int, counts: Sequence[int]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Scores that all differ, offsets, and anchors of maps of so many."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator).float()

    anchors = []
    for count in counts:
        corner = 8 * whole(-2, 14, count, 2)
        anchors.append(torch.cat([corner, corner + 8 * whole(1, 6, count, 2)], dim=1))
    every = sum(counts)
    scores = torch.stack(
        [torch.randperm(every, generator=generator) / 64 - 2 for _ in range(images)]
    )
    moves = whole(-4, 5, images, every, 2) / 8
    sides = math.log(2) * whole(-1, 2, images, every, 2)
    return scores, torch.cat([moves, sides], dim=2), anchors


def assert_as_slow(
    scores: Tensor,
    offsets: Tensor,
    anchors: list[Tensor],
    sizes: list[tuple[int, int]],
    ratios: Tensor,
    config: ProposalConfig,
) -> list[tuple[Tensor, Tensor]]:
    found = select_proposals(scores, offsets, anchors, sizes, ratios, config)
    assert len(found) == len(scores)
    for n, (boxes, kept) in enumerate(found):
        expected = slow_select(
            scores[n].tolist(),
            offsets[n].tolist(),
            [of_map.tolist() for of_map in anchors],
            sizes[n],
            ratios[n].tolist(),
            config,
        )
        assert kept.tolist() == [score for _, score in expected]
        wanted = torch.tensor([box for box, _ in expected]).reshape(-1, 4).float()
        torch.testing.assert_close(boxes, wanted, rtol=0, atol=1e-3)
    return found


@settings(max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.sampled_from(LINES),
    st.sampled_from([None, 1, 7, 25, 1000]),
    st.sampled_from([1, 3, 10, 300]),
    st.sampled_from([0.0, 9.1, 17.3]),
)
def test_as_the_papers_steps(
    seed: int,
    images: int,
    counts: list[int],
    nms_iou: float,
    before: int | None,
    after: int,
    least_side: float,
) -> None:
    scores, offsets, anchors = drawn_case(seed, images, counts)
    sizes = [(96, 128), (64, 96), (128, 48)][:images]
    ratios = torch.tensor([[1.0, 1, 1, 1], [2, 1.5, 2, 1.5], [0.5, 0.75, 0.5, 0.75]])[:images]
    config = ProposalConfig(before, nms_iou, after, least_side)
    assert_as_slow(scores, offsets, anchors, sizes, ratios, config)


def test_by_hand() -> None:
    # Two maps. The best of the first is moved; the second overlaps where it then is; the third is cut to
    # 4 pixels at the edge, and the fourth has its place. The second map's second is where the first's
    # best then is, and stays.
    small: Sequence[Box] = [
        [10.0, 10, 30, 30],
        [20, 10, 40, 32],
        [120, 10, 132, 22],
        [60, 60, 80, 80],
    ]
    large = [[20.0, 10, 40, 30], [60, 60, 100, 90]]
    offsets = torch.zeros(6, 4)
    offsets[0, 0] = 0.5  # half its width to the right
    offsets[2, 0] = 1 / 3
    offsets[5, 2:] = math.log(0.5)  # half the sides, about the same centre
    config = ProposalConfig(before=3, nms_iou=0.7, after=4, least_side=5.0)
    found = selected([4.0, 3, 2, 1, 0.5, 6], [small, large], config, offsets)
    assert [score for _, score in found] == [6, 4, 1, 0.5]
    assert found[0][0] == pytest.approx([70, 67.5, 90, 82.5])
    assert found[1][0] == pytest.approx([20, 10, 40, 30])
    assert found[2][0] == pytest.approx([60, 60, 80, 80])
    assert found[3][0] == pytest.approx([20, 10, 40, 30])


# Step by step --------------------------------------------------------------------------------

A, B, C, D = [0.0, 0, 20, 20], [30.0, 0, 60, 20], [0.0, 30, 20, 70], [50.0, 50, 100, 90]


def scores_of(found: Found) -> list[float]:
    return [score for _, score in found]


def test_best_first() -> None:
    found = selected([0.25, -3, 2, 0.5], [[A, B, C, D]])
    assert found == [(C, 2), (D, 0.5), (A, 0.25), (B, -3)]


def test_so_many_of_each_map_before() -> None:
    # The second map's are all worse than the first's, and yet two of them are looked at.
    anchors = [[A, B, C], [D, A, B]]
    scores = [9.0, 8, 7, 1, 2, 3]
    assert scores_of(selected(scores, anchors, replace(ALL, before=2))) == [9, 8, 3, 2]
    assert scores_of(selected(scores, anchors, replace(ALL, before=1))) == [9, 3]
    for before in (3, 4, None):
        assert scores_of(selected(scores, anchors, replace(ALL, before=before))) == [
            9,
            8,
            7,
            3,
            2,
            1,
        ]


def test_before_is_after_small_ones_are_dropped_and_before_suppression() -> None:
    # As in both released codes: the small one takes no place, and the suppressed one does.
    config = ProposalConfig(before=2, nms_iou=0.7, after=9, least_side=16)
    small = [0.0, 0, 10, 10]
    assert selected([9.0, 8, 7, 6], [[small, A, B, C]], config) == [(A, 8), (B, 7)]
    assert selected([9.0, 8, 7, 6], [[small, A, A, B]], config) == [(A, 8)]
    # Fewer than are asked for: the small one does not fill up.
    assert selected([9.0, 8], [[small, A]], config) == [(A, 8)]
    assert selected([9.0, 8], [[small, small]], config) == []
    # Of each map and image by itself.
    assert selected([9.0, 8, 7, 6, 5, 4], [[small, A, B], [C, small, D]], config) == [
        (A, 8),
        (B, 7),
        (C, 6),
        (D, 4),
    ]


def test_without_a_least_side_what_is_cut_to_nothing_has_taken_its_place() -> None:
    # As in Mask R-CNN's code and torchvision, which have none.
    beyond = [-30.0, 0, -10, 20]
    config = ProposalConfig(before=2, nms_iou=0.7, after=9, least_side=0.0)
    assert selected([9.0, 8, 7], [[beyond, A, B]], config) == [(A, 8)]
    assert selected([9.0, 8, 7], [[beyond, A, B]], replace(config, least_side=1e-3)) == [
        (A, 8),
        (B, 7),
    ]


def test_small_boxes_among_the_best_of_648() -> None:
    # 8 x 9 positions of nine anchors each, 64 pixels apart, in nine places of a position's own.
    corners = [
        (64.0 * column + 20 * x, 64.0 * row + 20 * y)
        for row in range(8)
        for column in range(9)
        for y in range(3)
        for x in range(3)
    ]
    assert len(corners) == 648
    # The best 260 are of 10 pixels. Of the others, of 20 each and side by side, the best six come twice.
    boxes = [[x, y, x + 10, y + 10] for x, y in corners[:260]]
    large = [[x, y, x + 20, y + 20] for x, y in corners[260:]]
    large[6:12] = large[:6]
    anchors = torch.tensor(boxes + large)
    scores = torch.arange(648, 0, -1).float()
    # As they come from a network, not sorted.
    order = torch.randperm(648, generator=torch.Generator().manual_seed(0))
    config = ProposalConfig(before=300, nms_iou=0.7, after=50, least_side=16.0)
    found = selected(scores[order].tolist(), [anchors[order].tolist()], config, size=(512, 576))
    # 50 are wanted and come: choosing 300 first would leave 40 large ones, of which six are twice there.
    expected = [260 + n for n in range(60) if not 6 <= n < 12][:50]
    assert scores_of(found) == scores[expected].tolist()
    assert [box for box, _ in found] == anchors[expected].tolist()
    # 300 large ones are looked at, the six that come twice among them: 294 are left.
    assert (
        len(
            selected(
                scores.tolist(), [anchors.tolist()], replace(config, after=400), size=(512, 576)
            )
        )
        == 294
    )


def test_so_many_of_all_maps_after() -> None:
    anchors = [[A, B, C], [D, A, B]]
    assert scores_of(selected([9.0, 8, 1, 7, 2, 3], anchors, replace(ALL, after=3))) == [9, 8, 7]
    config = replace(ALL, after=3, nms_iou=0.7)
    assert scores_of(selected([9.0, 8, 1, 7, 2, 3], anchors, config)) == [9, 8, 7]


def test_each_map_is_suppressed_by_itself() -> None:
    config = replace(ALL, nms_iou=0.7)
    assert selected([3.0, 2, 1], [[A, A], [A]], config) == [(A, 3), (A, 1)]
    assert selected([3.0, 2, 1], [[A], [A, A]], config) == [(A, 3), (A, 2)]
    assert selected([3.0, 2, 1], [[A, A, A]], config) == [(A, 3)]


@pytest.mark.parametrize(("nms_iou", "stay"), [(0.49, 1), (0.5, 2), (0.51, 2), (1.0, 2)])
def test_what_overlaps_by_just_as_much_stays(nms_iou: float, stay: int) -> None:
    half = [0.0, 0, 20, 10]
    assert len(selected([2.0, 1], [[A, half]], replace(ALL, nms_iou=nms_iou))) == stay


def test_without_suppression_even_the_same_box_stays() -> None:
    assert selected([1.0, 3, 2], [[A, A, A]]) == [(A, 3), (A, 2), (A, 1)]
    assert selected([1.0, 3, 2], [[A, A, A]], replace(ALL, after=2)) == [(A, 3), (A, 2)]


def test_what_is_cut_away_suppresses_nothing() -> None:
    # Overlaps are those of what lies in the image: outside it the two are the same, inside they differ.
    wide, high = [-100.0, -100, 20, 5], [-100.0, -100, 5, 20]
    found = selected([2.0, 1], [[wide, high]], replace(ALL, nms_iou=0.5))
    assert found == [([0, 0, 20, 5], 2), ([0, 0, 5, 20], 1)]


def test_boxes_are_cut_to_their_own_image() -> None:
    anchors = [torch.tensor([[-10.0, -10, 300, 300]])]
    found = select_proposals(
        torch.zeros(2, 1),
        torch.zeros(2, 1, 4),
        anchors,
        [(50, 70), (90, 40)],
        torch.ones(2, 4),
        ALL,
    )
    assert [boxes.tolist() for boxes, _ in found] == [[[0, 0, 70, 50]], [[0, 0, 40, 90]]]


def test_small_is_what_is_small_in_the_images_own_pixels() -> None:
    # Twice as wide and three times as high as it came: 16 pixels of its own are 32 across, 48 down.
    ratio = torch.tensor([2.0, 3.0, 2.0, 3.0])
    just, narrow, flat = [0.0, 0, 32, 48], [0.0, 0, 31.5, 60], [0.0, 0, 60, 47.5]
    config = replace(ALL, least_side=16.0)
    found = selected([3.0, 2, 1], [[narrow, just, flat]], config, ratio=ratio)
    assert found == [(just, 2)]
    # Shrunk to a half, 8 are enough.
    shrunk = [[0.0, 0, 8, 8], [0, 0, 7.5, 60], [0, 0, 60, 7.5]]
    found = selected([3.0, 2, 1], [shrunk], config, ratio=torch.full((4,), 0.5))
    assert found == [(shrunk[0], 3)]


def test_each_image_by_its_own_ratio() -> None:
    anchors = [torch.tensor([[0.0, 0, 20, 20]])]
    found = select_proposals(
        torch.zeros(2, 1),
        torch.zeros(2, 1, 4),
        anchors,
        [SIZE, SIZE],
        torch.tensor([[1.0] * 4, [2.0] * 4]),
        replace(ALL, least_side=16.0),
    )
    assert [len(boxes) for boxes, _ in found] == [1, 0]


def test_small_is_what_is_small_once_it_is_moved_and_cut() -> None:
    offsets = torch.zeros(3, 4)
    offsets[0, 2] = math.log(0.5)  # 10 wide
    offsets[2, 2:] = math.log(2.0)  # from 10 to 20
    anchors = [[A, [118.0, 0, 138, 20], [40, 40, 50, 50]]]
    found = selected([3.0, 2, 1], anchors, replace(ALL, least_side=16.0), offsets)
    assert scores_of(found) == [1]
    assert found[0][0] == pytest.approx([35, 35, 55, 55])


@pytest.mark.parametrize("nms_iou", [0.7, 1.0])
def test_all_small_none_proposed(nms_iou: float) -> None:
    config = replace(ALL, least_side=500.0, nms_iou=nms_iou)
    ((boxes, scores),) = select_proposals(
        torch.zeros(1, 2), torch.zeros(1, 2, 4), [torch.tensor([A, B])], [SIZE], EVEN[None], config
    )
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)


@pytest.mark.parametrize("offset", [1e6, -1e6])
def test_wild_offsets_stay_finite_and_in_the_image(offset: float) -> None:
    for column in range(4):
        offsets = torch.zeros(1, 4)
        offsets[0, column] = offset
        for box, _ in selected([1.0], [[D]], ALL, offsets):
            assert all(math.isfinite(v) for v in box)
            assert 0 <= box[0] <= box[2] <= SIZE[1]
            assert 0 <= box[1] <= box[3] <= SIZE[0]


# The ablations' ------------------------------------------------------------------------------


def test_without_the_reg_layer_anchors_are_proposed_as_they_are() -> None:
    offsets = torch.randn(4, 4)
    config = replace(ALL, boxes="none")
    assert selected([4.0, 3, 2, 1], [[A, B, C, [-5, 2, 9, 200]]], config, offsets) == [
        (A, 4),
        (B, 3),
        (C, 2),
        ([0, 2, 9, 96], 1),
    ]


def random_order(seed: int, config: ProposalConfig) -> tuple[list[int], list[float]]:
    """Places of 20 boxes, whose scores fall, in the order in which they come out."""
    torch.manual_seed(seed)
    boxes = [[float(n), 0, n + 20.0, 20] for n in range(20)]
    found = selected([20.0 - n for n in range(20)], [boxes], config)
    return [int(box[0]) for box, _ in found], scores_of(found)


def test_without_the_cls_layer_the_order_is_by_chance() -> None:
    config = replace(ALL, scores="none")
    order, scores = random_order(0, config)
    assert sorted(order) == list(range(20))
    assert order != list(range(20))
    assert scores == sorted(scores, reverse=True)
    assert random_order(0, config) == (order, scores)
    assert random_order(1, config)[0] != order
    # Which are looked at is by chance too.
    few = replace(config, before=5)
    times = torch.zeros(20)
    for seed in range(400):
        times[random_order(seed, few)[0]] += 1
    assert float(times.sum()) == 2000
    assert (times - 100).abs().max() < 45  # five deviations of nearly 9


def test_images_are_in_random_orders_of_their_own() -> None:
    boxes = torch.tensor([[float(n), 0, n + 20, 20] for n in range(20)])
    torch.manual_seed(0)
    (one, _), (other, _) = select_proposals(
        torch.zeros(2, 20),
        torch.zeros(2, 20, 4),
        [boxes],
        [SIZE, SIZE],
        torch.ones(2, 4),
        replace(ALL, scores="none"),
    )
    assert not torch.equal(one, other)


# Suppression little by little ----------------------------------------------------------------


def crowd(seed: int, count: int, maps: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Boxes most of which overlap the best ones: many have to be looked at to find a few."""
    generator = torch.Generator().manual_seed(seed)
    best = torch.tensor([40.0, 30, 80, 60]) + torch.randint(
        0, 3, (count * 3 // 4, 4), generator=generator
    )
    corner = 8 * torch.randint(0, 10, (count - len(best), 2), generator=generator).float()
    rest = torch.cat([corner, corner + 24], dim=1)
    boxes = torch.cat([best, rest])
    scores = torch.arange(count, 0, -1)[None] / 64
    order = torch.randperm(count, generator=generator)
    split = list(torch.tensor_split(boxes[order], maps))
    return scores[:, order], torch.zeros(1, count, 4), split


@given(
    st.integers(0, 2**32 - 1),
    st.integers(4, 250),
    st.integers(1, 3),
    st.integers(1, 40),
    st.sampled_from(LINES),
)
def test_the_first_few_do_not_depend_on_how_many_are_wanted(
    seed: int, count: int, maps: int, after: int, nms_iou: float
) -> None:
    scores, offsets, anchors = crowd(seed, count, maps)
    config = replace(ALL, nms_iou=nms_iou)
    arguments = (scores, offsets, anchors, [SIZE], EVEN[None])
    ((every, every_score),) = select_proposals(*arguments, config)
    ((first, first_score),) = select_proposals(*arguments, replace(config, after=after))
    assert torch.equal(first, every[:after])
    assert torch.equal(first_score, every_score[:after])


def test_where_the_first_look_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, offsets, anchors = crowd(3, 200, 1)
    looks: list[int] = []
    plain = faster_rcnn.proposals.nms

    def note(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
        looks.append(len(boxes))
        return plain(boxes, scores, iou)

    monkeypatch.setattr(faster_rcnn.proposals, "nms", note)
    config = ProposalConfig(None, 0.50002, 4, 0.0)
    assert_as_slow(scores, offsets, anchors, [SIZE], EVEN[None], config)
    assert len(looks) > 1, "the case must need a second look"
    assert looks == sorted(looks)
    looks.clear()
    # And where it is, there is one.
    assert_as_slow(scores, offsets, anchors, [SIZE], EVEN[None], replace(config, after=1))
    assert len(looks) == 1
    assert looks[0] < 200


# What it leaves alone ------------------------------------------------------------------------


def test_no_gradient_passes() -> None:
    scores, offsets, anchors = drawn_case(0, 2, [20])
    scores.requires_grad_(), offsets.requires_grad_()
    config = ProposalConfig(least_side=0.0)
    for boxes, kept in select_proposals(
        scores, offsets, anchors, [SIZE, SIZE], torch.ones(2, 4), config
    ):
        assert not boxes.requires_grad
        assert not kept.requires_grad
        assert boxes.grad_fn is None


def test_what_is_given_is_not_changed() -> None:
    scores, offsets, anchors = drawn_case(0, 2, [20, 7])
    before = [scores.clone(), offsets.clone(), *(of_map.clone() for of_map in anchors)]
    for config in (ALL, ProposalConfig(scores="none", boxes="none", least_side=0.0)):
        found = select_proposals(scores, offsets, anchors, [SIZE, SIZE], torch.ones(2, 4), config)
        for boxes, kept in found:
            boxes.zero_(), kept.zero_()
    for now, then in zip([scores, offsets, *anchors], before, strict=True):
        assert torch.equal(now, then)


@given(st.integers(0, 2**32 - 1), st.sampled_from(LINES))
def test_an_image_of_a_batch_gets_what_it_gets_alone(seed: int, nms_iou: float) -> None:
    scores, offsets, anchors = drawn_case(seed, 3, [25, 9])
    sizes = [(96, 128), (64, 96), (128, 48)]
    ratios = torch.tensor([[1.0] * 4, [2, 1.5, 2, 1.5], [0.5, 0.75, 0.5, 0.75]])
    config = ProposalConfig(15, nms_iou, 8, 9.1)
    together = select_proposals(scores, offsets, anchors, sizes, ratios, config)
    for n, (boxes, kept) in enumerate(together):
        part = slice(n, n + 1)
        ((alone, alone_score),) = select_proposals(
            scores[part], offsets[part], anchors, sizes[part], ratios[part], config
        )
        assert torch.equal(boxes, alone)
        assert torch.equal(kept, alone_score)


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("detecting", [False, True])
def test_on_several_threads_each_image_gets_its_own(detecting: bool) -> None:
    # More images than threads, and of each another number of boxes.
    scores, offsets, anchors = drawn_case(4, 7, [25, 9])
    sizes = [(96, 128), (64, 96), (128, 48), (30, 30), (96, 20), (8, 8), (60, 128)]
    config = ProposalConfig(20, 0.50002, 12, 9.1)
    with torch.inference_mode(detecting):
        # As the network gives them: inference tensors, or ones that learn.
        given = scores.clone().requires_grad_(not detecting), offsets + 0
        found = assert_as_slow(*given, anchors, sizes, torch.ones(7, 4), config)
        assert len({len(boxes) for boxes, _ in found}) > 3
        for boxes, kept in found:
            assert not boxes.requires_grad
            assert not kept.requires_grad
            assert boxes.is_inference() == kept.is_inference() == detecting


@pytest.mark.usefixtures("three_threads")
def test_what_fails_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, offsets, anchors = drawn_case(4, 3, [25])
    plain, called = faster_rcnn.proposals.nms, itertools.count()

    def fails(*given: Any) -> Tensor:
        if next(called) == 1:
            raise ZeroDivisionError
        return plain(*given)

    monkeypatch.setattr(faster_rcnn.proposals, "nms", fails)
    config = replace(ALL, nms_iou=0.7)
    with pytest.raises(ZeroDivisionError):
        select_proposals(scores, offsets, anchors, [SIZE] * 3, torch.ones(3, 4), config)


def test_one_size_for_three_images_is_refused() -> None:
    scores, offsets, anchors = drawn_case(4, 3, [25])
    with pytest.raises(RuntimeError, match="shape"):
        select_proposals(scores, offsets, anchors, [SIZE], torch.ones(3, 4), ALL)


def test_exact_anchors_give_exact_proposals() -> None:
    scores, offsets, anchors = drawn_case(0, 1, [20])
    exact = [of_map.double() for of_map in anchors]
    ((boxes, kept),) = select_proposals(scores, offsets, exact, [SIZE], EVEN[None], ALL)
    assert boxes.dtype == kept.dtype == torch.float64
    ((rough, _),) = select_proposals(scores, offsets, anchors, [SIZE], EVEN[None], ALL)
    torch.testing.assert_close(boxes.float(), rough)


def test_bfloat16_answers_give_float32_boxes() -> None:
    scores, offsets, anchors = drawn_case(0, 1, [20])
    scores, offsets = scores.bfloat16(), offsets.bfloat16()
    arguments = (anchors, [SIZE], EVEN[None], ProposalConfig(least_side=0.0))
    ((boxes, kept),) = select_proposals(scores, offsets, *arguments)
    ((wide, wide_kept),) = select_proposals(scores.float(), offsets.float(), *arguments)
    assert boxes.dtype == kept.dtype == torch.float32
    assert torch.equal(boxes, wide)
    assert torch.equal(kept, wide_kept)
