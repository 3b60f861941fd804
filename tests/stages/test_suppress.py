"""Suppression by hand, and against a loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stages.suppress import suppress

Found = list[tuple[list[float], int, float]]
A, HALF_A, FAR = [0.0, 0, 10, 10], [0.0, 0, 10, 5], [50.0, 50, 60, 60]
FLAT, UPRIGHT = [2.0, 5, 8, 5], [5.0, 2, 5, 8]  # without area, inside A


def found_by(
    scores: list[list[float]],
    boxes: list[list[list[float]]],
    per_class: int = 100,
    nms_iou: float = 0.3,
) -> Found:
    classes = len(scores[0]) if scores else 2
    found = suppress(
        torch.tensor(scores).reshape(-1, classes),
        torch.tensor(boxes).reshape(-1, classes, 4),
        per_class,
        nms_iou,
    )
    assert found.keys() == {"boxes", "labels", "scores"}
    assert found["labels"].dtype == torch.int64
    return list(
        zip(
            found["boxes"].tolist(),
            found["labels"].tolist(),
            found["scores"].tolist(),
            strict=True,
        )
    )


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union else 0.0


def slow_suppress(scores: Tensor, boxes: Tensor, per_class: int, nms_iou: float) -> Found:
    """As the papers say it: class by class, the best first, each against all that stay."""
    expected: Found = []
    for k in range(scores.shape[1]):
        kept: list[list[float]] = []
        for row in scores[:, k].argsort(descending=True).tolist()[:per_class]:
            box = boxes[row, k].tolist()
            if all(iou(box, other) <= nms_iou for other in kept):
                kept.append(box)
                if box[2] > box[0] and box[3] > box[1]:
                    expected.append((box, k + 1, float(scores[row, k])))
    return sorted(expected, key=lambda one: -one[2])


def test_by_hand() -> None:
    # HALF_A falls to A in class 1, A to HALF_A in class 2; class 3 has nothing that overlaps.
    scores = [[0.75, 0.25, 0.5], [0.625, 0.375, 0.125]]
    boxes = [[A, A, A], [HALF_A, HALF_A, FAR]]
    assert found_by(scores, boxes) == [
        (A, 1, 0.75),
        (A, 3, 0.5),
        (HALF_A, 2, 0.375),
        (FAR, 3, 0.125),
    ]


@pytest.mark.parametrize(("nms_iou", "stay"), [(0.49, 1), (0.5, 2), (0.51, 2)])
def test_what_overlaps_by_just_as_much_stays(nms_iou: float, stay: int) -> None:
    assert len(found_by([[0.75], [0.5]], [[A], [HALF_A]], nms_iou=nms_iou)) == stay


def test_no_score_is_too_low() -> None:
    assert found_by([[-3.0]], [[A]]) == [(A, 1, -3)]
    assert found_by([[0.0]], [[A]]) == [(A, 1, 0)]


def test_only_the_best_of_each_class_and_before_suppression() -> None:
    # The two best of class 1 are the same box: the third would have stayed, but is not looked at.
    scores = [[0.75, 0.25], [0.625, 0.5], [0.5, 0.75]]
    boxes = [[A, A], [A, FAR], [FAR, HALF_A]]
    assert found_by(scores, boxes, per_class=2) == [
        (A, 1, 0.75),
        (HALF_A, 2, 0.75),
        (FAR, 2, 0.5),
    ]


@pytest.mark.parametrize("thin", [FLAT, UPRIGHT, [5.0, 5, 5, 5]])
def test_without_area_it_is_no_detection_and_suppresses_none(thin: list[float]) -> None:
    assert found_by([[0.75], [0.5]], [[thin], [A]]) == [(A, 1, 0.5)]


def test_no_box() -> None:
    assert found_by([], []) == []


def test_what_is_given_is_not_changed() -> None:
    scores, boxes = torch.rand(9, 2), torch.rand(9, 2, 4).cumsum(dim=-1)
    before = scores.clone(), boxes.clone()
    suppress(scores, boxes, 3, 0.3)
    assert torch.equal(scores, before[0])
    assert torch.equal(boxes, before[1])


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 30),
    st.integers(1, 4),
    st.integers(1, 40),
    st.sampled_from([0.1001, 0.3001, 0.5, 0.9001]),  # but for a half, no two overlap by just that
)
def test_as_a_loop_does(
    seed: int, count: int, classes: int, per_class: int, nms_iou: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # On whole numbers, where boxes touch, contain one another and vanish; scores all differ.
    corner = torch.randint(0, 20, (count, classes, 2), generator=generator)
    sides = torch.randint(0, 12, (count, classes, 2), generator=generator)
    boxes = torch.cat([corner, corner + sides], dim=2).float()
    scores = torch.randperm(count * classes, generator=generator).reshape(count, classes) / 1024
    found = suppress(scores, boxes, per_class, nms_iou)
    expected = slow_suppress(scores, boxes, per_class, nms_iou)
    assert found["boxes"].tolist() == [box for box, _, _ in expected]
    assert found["labels"].tolist() == [label for _, label, _ in expected]
    assert found["scores"].tolist() == [score for _, _, score in expected]
