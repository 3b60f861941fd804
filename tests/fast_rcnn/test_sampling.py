"""Which RoIs a step learns from: by hand where it is odd, by property elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fast_rcnn.config import SamplingConfig
from fast_rcnn.sampling import Sample, candidates, hardest, sample
from stages.errors import InputError

PAPER = SamplingConfig()
OBJECT = [0.0, 0, 100, 100]
ELSEWHERE = [200.0, 200, 300, 300]
Box = Sequence[float]


def target_of(
    boxes: Sequence[Box], labels: Sequence[int], crowd: Sequence[bool] = ()
) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.zeros(len(boxes), dtype=torch.bool),
        "iscrowd": torch.tensor(list(crowd) or [False] * len(boxes), dtype=torch.bool),
    }


def overlapping(iou: float) -> list[float]:
    """A part of OBJECT that is so much of it."""
    return [0, 0, 100, 100 * iou]


def drawn(
    proposals: Sequence[Box],
    target: dict[str, Tensor],
    config: SamplingConfig = PAPER,
    seed: int = 0,
) -> Sample:
    torch.manual_seed(seed)
    return sample(torch.tensor(proposals).reshape(-1, 4), target, config)


def many(count: int, low: float, high: float) -> list[list[float]]:
    """Different parts of OBJECT."""
    return [overlapping(low + (high - low) * n / count) for n in range(count)]


# How many ------------------------------------------------------------------------------------


def test_a_quarter_is_positive_the_rest_is_background() -> None:
    found = drawn(many(200, 0.6, 0.95) + many(200, 0.15, 0.45), target_of([OBJECT], [3]))
    assert found.rois.shape == found.gt_boxes.shape == (64, 4)
    assert found.labels.tolist() == [3] * 16 + [0] * 48
    assert found.labels.dtype == torch.int64


def test_fewer_positives_leave_room_for_background() -> None:
    found = drawn(many(2, 0.6, 0.9) + many(200, 0.15, 0.45), target_of([OBJECT], [1]))
    # Two proposals and the object's own box.
    assert found.labels.tolist() == [1] * 3 + [0] * 61


def test_fewer_backgrounds_leave_no_room_for_positives() -> None:
    found = drawn(many(200, 0.6, 0.95) + many(5, 0.15, 0.45), target_of([OBJECT], [1]))
    assert found.labels.tolist() == [1] * 16 + [0] * 5


def test_none_comes_twice() -> None:
    for seed in range(5):
        found = drawn(
            many(14, 0.6, 0.95) + many(40, 0.15, 0.45), target_of([OBJECT], [1]), PAPER, seed
        )
        assert len(found.rois) == 15 + 40
        assert len(set(map(tuple, found.rois.tolist()))) == 15 + 40


def test_more_objects_than_rois() -> None:
    objects = [[110.0 * n, 0, 110 * n + 100, 100] for n in range(200)]
    labels = [1 + n % 20 for n in range(200)]
    found = drawn([], target_of(objects, labels))
    assert len(found.rois) == 16
    assert len(set(map(tuple, found.rois.tolist()))) == 16
    for roi, label, gt in zip(
        found.rois.tolist(), found.labels, found.gt_boxes.tolist(), strict=True
    ):
        assert roi == gt == objects[objects.index(roi)]
        assert label == labels[objects.index(roi)]


@pytest.mark.parametrize("rois", [4, 8, 128])
def test_the_numbers_are_the_configurations(rois: int) -> None:
    config = replace(PAPER, rois=rois, positive_fraction=0.5)
    found = drawn(many(200, 0.6, 0.95) + many(200, 0.15, 0.45), target_of([OBJECT], [1]), config)
    assert found.labels.tolist() == [1] * (rois // 2) + [0] * (rois // 2)


@pytest.mark.parametrize(
    ("rois", "fraction", "positives"),
    [
        *((64, 0.25, 16), (128, 0.25, 32), (512, 0.25, 128)),  # the papers'
        *((5, 0.25, 1), (6, 0.25, 2), (7, 0.25, 2), (3, 0.25, 1), (1, 0.25, 0)),
        # Halves to the even number, as NumPy has it: 0.5, 1.5, 2.5 and 3.5.
        *((2, 0.25, 0), (3, 0.5, 2), (5, 0.5, 2), (10, 0.25, 2), (14, 0.25, 4)),
        *((9, 0.0, 0), (9, 1.0, 9)),
    ],
)
def test_the_number_of_positives_is_rounded(rois: int, fraction: float, positives: int) -> None:
    assert positives == int(np.round(fraction * rois))  # py-faster-rcnn's and Detectron's words
    config = replace(PAPER, rois=rois, positive_fraction=fraction)
    found = drawn(many(600, 0.6, 0.95) + many(600, 0.15, 0.45), target_of([OBJECT], [1]), config)
    assert found.labels.tolist() == [1] * positives + [0] * (rois - positives)


# Which ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iou", "label"),
    [(1.0, 2), (0.51, 2), (0.5, 2), (0.49, 0), (0.11, 0), (0.1, 0), (0.09, None), (0.0, None)],
)
def test_where_the_lines_are(iou: float, label: int | None) -> None:
    proposal = overlapping(iou) if iou else ELSEWHERE
    found = drawn([proposal], target_of([OBJECT], [2]))
    others = [
        int(one)
        for one, roi in zip(found.labels, found.rois.tolist(), strict=True)
        if roi != OBJECT or iou == 1
    ]
    # The object's own box is a RoI too.
    assert found.labels[found.rois.eq(torch.tensor(OBJECT)).all(dim=1)].tolist()[0] == 2
    assert others == ([2, 2] if iou == 1 else [] if label is None else [label])


def test_between_background_and_positive_there_may_be_a_gap() -> None:
    config = replace(PAPER, positive_iou=0.7, background_iou=(0.0, 0.3))
    found = drawn([overlapping(0.6), overlapping(0.2), ELSEWHERE], target_of([OBJECT], [1]), config)
    assert found.labels.tolist() == [1, 0, 0]
    assert sorted(found.rois[1:].tolist()) == sorted([overlapping(0.2), ELSEWHERE])


def test_where_they_overlap_it_is_positive_alone() -> None:
    config = replace(PAPER, positive_iou=0.3)
    found = drawn([overlapping(0.4)], target_of([OBJECT], [1]), config)
    assert found.labels.tolist() == [1, 1]


def test_the_best_object_counts() -> None:
    # Both overlap it by half and more; the second by more.
    proposal, first, second = [0.0, 0, 100, 80], OBJECT, [0.0, 0, 100, 90]
    found = drawn([proposal], target_of([first, second], [5, 7]))
    row = found.rois.tolist().index(proposal)
    assert found.labels[row] == 7
    assert found.gt_boxes[row].tolist() == second


def test_background_between_two_objects() -> None:
    # A fifth of one and none of the other.
    found = drawn([overlapping(0.2)], target_of([ELSEWHERE, OBJECT], [5, 7]))
    row = found.rois.tolist().index(pytest.approx(overlapping(0.2)))
    assert found.labels[row] == 0


def test_every_roi_that_qualifies_is_drawn_some_time() -> None:
    proposals = many(30, 0.6, 0.95) + many(100, 0.15, 0.45)
    seen = {
        tuple(roi)
        for seed in range(60)
        for roi in drawn(proposals, target_of([OBJECT], [1]), PAPER, seed).rois.tolist()
    }
    assert len(seen) == 1 + len(proposals)


# Images that lack something ------------------------------------------------------------------


def test_no_proposal() -> None:
    found = drawn([], target_of([OBJECT, ELSEWHERE], [1, 2]))
    assert sorted(found.labels.tolist()) == [1, 2]
    assert torch.equal(found.rois, found.gt_boxes)


def test_no_object() -> None:
    found = drawn([OBJECT, ELSEWHERE], target_of([], []))
    assert found.rois.shape == found.gt_boxes.shape == (0, 4)
    assert found.labels.shape == (0,)
    assert found.labels.dtype == torch.int64


def test_no_object_where_all_is_background() -> None:
    config = replace(PAPER, background_iou=(0.0, 0.5))
    found = drawn([OBJECT, ELSEWHERE], target_of([], []), config)
    assert found.labels.tolist() == [0, 0]
    assert found.gt_boxes.tolist() == [[0] * 4] * 2
    assert sorted(found.rois.tolist()) == [OBJECT, ELSEWHERE]


def test_nothing_at_all() -> None:
    assert len(drawn([], target_of([], [])).rois) == 0


def test_a_crowd_is_no_object_and_no_roi() -> None:
    target = target_of([OBJECT, ELSEWHERE], [1, 2], crowd=[True, False])
    found = drawn([overlapping(0.9), overlapping(0.3)], target)
    # What lies on the crowd overlaps no object: it is neither.
    assert found.rois.tolist() == [ELSEWHERE]
    assert found.labels.tolist() == [2]


def test_only_a_crowd() -> None:
    assert len(drawn([overlapping(0.9)], target_of([OBJECT], [1], crowd=[True])).rois) == 0


def test_a_box_without_area_is_no_roi() -> None:
    found = drawn([[5.0, 5, 5, 50], [5.0, 5, 5, 5]], target_of([OBJECT], [1]))
    assert found.rois.tolist() == [OBJECT]


# Chance --------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same() -> None:
    proposals = many(60, 0.6, 0.95) + many(200, 0.15, 0.45)
    first, again, other = (drawn(proposals, target_of([OBJECT], [1]), PAPER, n) for n in (3, 3, 4))
    assert torch.equal(first.rois, again.rois)
    assert not torch.equal(first.rois, other.rois)
    assert set(map(tuple, first.rois.tolist())) != set(map(tuple, other.rois.tolist()))


def test_what_is_given_is_not_changed() -> None:
    target = target_of([OBJECT, ELSEWHERE], [1, 2], crowd=[False, True])
    before = {key: value.clone() for key, value in target.items()}
    proposals = torch.tensor(many(9, 0.2, 0.9))
    copy = proposals.clone()
    found = sample(proposals, target, PAPER)
    found.rois.zero_(), found.gt_boxes.zero_(), found.labels.zero_()
    assert torch.equal(proposals, copy)
    assert all(torch.equal(target[key], value) for key, value in before.items())


Place = st.integers(0, 60)
Side = st.integers(1, 40)
Boxes = st.lists(st.tuples(Place, Place, Side, Side), max_size=25)


def slow_iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@given(Boxes, Boxes, st.data())
def test_any_image(
    proposed: list[tuple[int, ...]], objects: list[tuple[int, ...]], data: st.DataObject
) -> None:
    proposals = [[float(x), y, x + w, y + h] for x, y, w, h in proposed]
    boxes = [[float(x), y, x + w, y + h] for x, y, w, h in objects]
    flags = st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes))
    crowd = data.draw(flags)
    labels = [1 + n for n in range(len(boxes))]
    config = SamplingConfig(rois=data.draw(st.sampled_from([4, 8, 16])))
    found = drawn(proposals, target_of(boxes, labels, crowd), config)

    real = [n for n in range(len(boxes)) if not crowd[n]]
    offered = [boxes[n] for n in real] + proposals
    best = [max((slow_iou(roi, boxes[n]) for n in real), default=0.0) for roi in offered]
    # Whole numbers under 100: no overlap but 0.5 and 0.1 themselves is nearer to them than this.
    positives = sum(iou >= 0.5 - 1e-6 for iou in best)
    backgrounds = sum(0.1 - 1e-6 <= iou < 0.5 - 1e-6 for iou in best)
    n_positive = min(positives, config.rois // 4)
    assert int((found.labels > 0).sum()) == n_positive
    assert len(found.rois) == n_positive + min(backgrounds, config.rois - n_positive)
    assert (found.labels[:n_positive] > 0).all()
    left = [tuple(roi) for roi in offered]
    for roi, label, gt in zip(
        found.rois.tolist(), found.labels.tolist(), found.gt_boxes.tolist(), strict=True
    ):
        left.remove(tuple(roi))  # each of those offered once at most
        iou = max(slow_iou(roi, boxes[n]) for n in real)
        assert slow_iou(roi, gt) == pytest.approx(iou)
        if label:
            assert boxes[label - 1] == gt
            assert not crowd[label - 1]
            assert iou >= 0.5 - 1e-6
        else:
            assert 0.1 - 1e-6 <= iou < 0.5 - 1e-6


# Hard ones -----------------------------------------------------------------------------------

HARD = SamplingConfig(hard=True)


def test_every_roi_is_a_candidate_background_from_nought() -> None:
    proposals = [ELSEWHERE, overlapping(0.05), overlapping(0.49), overlapping(0.6)]
    target = target_of([ELSEWHERE, OBJECT], [4, 2], crowd=[True, False])
    found = candidates(torch.tensor(proposals), target, HARD)
    # The object's own box, then what qualifies, in order, positives first.
    assert found.rois.tolist() == torch.tensor([OBJECT, proposals[3], *proposals[:3]]).tolist()
    assert found.labels.tolist() == [2, 2, 0, 0, 0]
    assert found.objects.tolist() == [1] * 5
    assert found.gt_boxes.tolist() == [OBJECT] * 5
    # A gap between background and positive stays one.
    gap = replace(HARD, positive_iou=0.7, background_iou=(0.1, 0.3))
    labels = candidates(torch.tensor(proposals), target, gap).labels
    assert labels.tolist() == [2, 0, 0]


def test_what_may_be_drawn_are_the_candidates() -> None:
    config = replace(PAPER, background_iou=(0.0, 0.5), rois=1000, positive_fraction=1.0)
    proposals, target = many(30, 0.02, 0.98), target_of([OBJECT], [3])
    by_chance, every = (
        drawn(proposals, target, config),
        candidates(torch.tensor(proposals), target, HARD),
    )
    assert sorted(by_chance.rois.tolist()) == sorted(every.rois.tolist())
    assert sorted(by_chance.labels.tolist()) == sorted(every.labels.tolist())


def test_the_hardest_by_hand() -> None:
    # Of one image: a pair that overlaps by 0.8, one by itself; of another the pair's first again.
    rois = torch.tensor([OBJECT, overlapping(0.8), ELSEWHERE, OBJECT])
    images = torch.tensor([0.0, 0, 0, 1])
    losses = torch.tensor([1.0, 3.0, 2.0, 0.5])
    assert hardest(losses, rois, images, 9).tolist() == [1, 2, 3]
    assert hardest(losses, rois, images, 2).tolist() == [1, 2]
    # All images together: none has a number of its own.
    assert hardest(torch.tensor([0.1, 0.2, 0.3, 9]), rois, images, 1).tolist() == [3]


@pytest.mark.parametrize(("iou", "kept"), [(0.69, [0, 1]), (0.71, [0])])
def test_duplicates_overlap_by_more_than_seven_tenths(iou: float, kept: list[int]) -> None:
    rois = torch.tensor([OBJECT, overlapping(iou)])
    assert hardest(torch.tensor([2.0, 1.0]), rois, torch.zeros(2), 5).tolist() == kept


def test_no_roi_none_hard() -> None:
    assert hardest(torch.zeros(0), torch.zeros(0, 4), torch.zeros(0), 5).tolist() == []


def test_who_draws_by_chance_refuses_hard_ones() -> None:
    with pytest.raises(InputError, match=r"sampling\.hard: Fast R-CNN's alone") as caught:
        drawn([OBJECT], target_of([OBJECT], [1]), HARD)
    assert "\n" not in str(caught.value)
