"""Which anchors learn what: by hand, against loops, and by counting what chance draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from faster_rcnn.config import LabelConfig
from faster_rcnn.labels import (
    IGNORED,
    NEGATIVE,
    POSITIVE,
    AnchorSample,
    label_anchors,
    sample_anchors,
)

PAPER = LabelConfig()
Box = Sequence[float]
OBJECT: Box = [20.0, 20, 40, 40]
SIZE = (100, 100)


def labelled(
    anchors: Sequence[Any],
    objects: Sequence[Any],
    config: LabelConfig = PAPER,
    size: tuple[int, int] = SIZE,
) -> tuple[list[int], list[int]]:
    labels, nearest = label_anchors(
        torch.tensor(anchors).reshape(-1, 4).float(),
        torch.tensor(objects).reshape(-1, 4).float(),
        size,
        config,
    )
    assert labels.dtype == torch.int8
    assert nearest.dtype == torch.int64
    assert len(labels) == len(nearest) == len(anchors)
    return labels.tolist(), nearest.tolist()


def of_object(part: float) -> list[float]:
    """So much of OBJECT, and nothing else: its overlap with it is `part`."""
    return [20, 20, 40, 20 + 20 * part]


def slow_iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def slow_label(
    anchors: Sequence[Box], objects: Sequence[Box], size: tuple[int, int], config: LabelConfig
) -> list[int]:
    """Section 3.1.2's sentences, one after the other."""
    high, wide = size
    labels = []
    allowed = [
        not config.inside or (x1 >= 0 and y1 >= 0 and x2 <= wide and y2 <= high)
        for x1, y1, x2, y2 in anchors
    ]
    # The best overlap that each object has among the anchors that may learn.
    best = [
        max(
            (slow_iou(anchor, box) for anchor, ok in zip(anchors, allowed, strict=True) if ok),
            default=0.0,
        )
        for box in objects
    ]
    for anchor, ok in zip(anchors, allowed, strict=True):
        overlaps = [slow_iou(anchor, box) for box in objects]
        if not ok:
            labels.append(IGNORED)
        elif any(o > 0 and abs(o - b) < 1e-9 for o, b in zip(overlaps, best, strict=True)) or any(
            o >= config.positive_iou - 1e-9 for o in overlaps
        ):
            labels.append(POSITIVE)
        elif all(o < config.negative_iou - 1e-9 for o in overlaps):
            labels.append(NEGATIVE)
        else:
            labels.append(IGNORED)
    return labels


# On whole numbers, where boxes touch, contain one another and tie. No two overlaps that differ do so
# by less than float32 tells apart: they are ratios of numbers under 2 * 30 * 30.
Place, Side = st.integers(-8, 40), st.integers(1, 30)
Boxes = st.lists(st.tuples(Place, Place, Side, Side), min_size=1, max_size=14)
Objects = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), Side, Side), min_size=0, max_size=5
)


def corners(boxes: list[tuple[int, ...]]) -> list[list[float]]:
    return [[float(x), float(y), float(x + w), float(y + h)] for x, y, w, h in boxes]


@settings(max_examples=300)
@given(Boxes, Objects, st.booleans(), st.sampled_from([(0.7, 0.3), (0.5, 0.5), (0.5, 0.1)]))
def test_as_the_papers_sentences(
    anchors: list[tuple[int, ...]],
    objects: list[tuple[int, ...]],
    inside: bool,
    lines: tuple[float, float],
) -> None:
    given_anchors, given_objects = corners(anchors), corners(objects)
    config = LabelConfig(*lines, inside=inside)
    labels, nearest = labelled(given_anchors, given_objects, config, (50, 60))
    assert labels == slow_label(given_anchors, given_objects, (50, 60), config)
    for anchor, label, which in zip(given_anchors, labels, nearest, strict=True):
        if label == POSITIVE:
            overlaps = [slow_iou(anchor, box) for box in given_objects]
            assert overlaps[which] == pytest.approx(max(overlaps))


@pytest.mark.parametrize(
    ("part", "label"),
    [
        (0.95, POSITIVE),
        (0.75, POSITIVE),
        (0.65, IGNORED),
        (0.5, IGNORED),
        (0.35, IGNORED),
        (0.25, NEGATIVE),
        (0.0, NEGATIVE),
    ],
)
def test_where_the_lines_are(part: float, label: int) -> None:
    anchor = of_object(part) if part else [60, 60, 80, 80]
    # The object's own box as an anchor: it is the best, the other has to make its way by itself.
    assert labelled([OBJECT, anchor], [OBJECT])[0] == [POSITIVE, label]


@pytest.mark.parametrize(
    ("positive_iou", "negative_iou", "label"),
    [
        (0.5, 0.25, POSITIVE),  # just as much is enough
        (0.50001, 0.25, IGNORED),
        (0.75, 0.5, IGNORED),  # just as much is too much
        (0.75, 0.50001, NEGATIVE),
    ],
)
def test_just_as_much(positive_iou: float, negative_iou: float, label: int) -> None:
    config = LabelConfig(positive_iou, negative_iou)
    assert labelled([OBJECT, of_object(0.5)], [OBJECT], config)[0] == [POSITIVE, label]


def test_an_objects_best_anchor_is_positive_however_little_it_overlaps() -> None:
    # (i): overlaps of 0.05 and 0.1; the paper's line for background is 0.3.
    assert labelled([of_object(0.05), of_object(0.1)], [OBJECT])[0] == [NEGATIVE, POSITIVE]


def test_all_that_tie_for_the_best_are_positive() -> None:
    # Four quarters of the object, and one of an eighth.
    quarters = [[20, 20, 30, 30], [30, 20, 40, 30], [20, 30, 30, 40], [30, 30, 40, 40]]
    labels, _ = labelled([*quarters, [20, 20, 30, 25]], [OBJECT])
    assert labels == [POSITIVE] * 4 + [NEGATIVE]


def test_an_anchor_may_be_the_best_of_one_object_and_learn_another() -> None:
    # Wholly in the large object, and the only one that meets the small one at all.
    small, large = [38.0, 20, 48, 40], OBJECT
    labels, nearest = labelled([[20, 20, 40, 40], [39, 60, 41, 80]], [small, large])
    assert labels == [POSITIVE, NEGATIVE]
    assert nearest[0] == 1


def test_anchors_across_the_edge_do_not_learn() -> None:
    across = [[-1, 20, 19, 40], [20, -1, 40, 19], [81, 20, 101, 40], [20, 81, 40, 101]]
    just_in = [[0, 20, 20, 40], [20, 0, 40, 20], [80, 20, 100, 40], [20, 80, 40, 100]]
    labels, _ = labelled([*across, *just_in], [])
    assert labels == [IGNORED] * 4 + [NEGATIVE] * 4
    everywhere = replace(PAPER, inside=False)
    assert labelled([*across, *just_in], [], everywhere)[0] == [NEGATIVE] * 8


def test_the_edge_is_the_images_own() -> None:
    # Its height and width in this order; in the frame of a batch there may be more beside it.
    anchor = [60, 20, 80, 40]
    assert labelled([anchor], [], size=(60, 80))[0] == [NEGATIVE]
    assert labelled([anchor], [], size=(80, 60))[0] == [IGNORED]


def test_across_the_edge_it_is_no_objects_best() -> None:
    # The first covers the object wholly, but crosses the edge: the second is the best that may learn.
    edge = [0.0, 20, 20, 40]
    anchors = [[-1.0, 20, 20, 40], [10, 20, 30, 40]]
    assert labelled(anchors, [edge])[0] == [IGNORED, POSITIVE]
    assert labelled(anchors, [edge], replace(PAPER, inside=False))[0] == [POSITIVE, IGNORED]


def test_an_object_that_meets_no_anchor_has_none() -> None:
    # As the released codes had it, every anchor of overlap 0 would be its best.
    anchors = [[60.0, 60, 80, 80], [0, 0, 10, 10]]
    assert labelled(anchors, [OBJECT])[0] == [NEGATIVE, NEGATIVE]
    # Nor does one that meets only anchors across the edge.
    anchors = [[-1.0, 20, 30, 40], [60, 60, 80, 80]]
    assert labelled(anchors, [OBJECT])[0] == [IGNORED, NEGATIVE]


def test_beside_another_object_that_meets_one() -> None:
    anchors = [[60.0, 60, 80, 80], OBJECT]
    labels, nearest = labelled(anchors, [[0, 0, 10, 10], OBJECT])
    assert labels == [NEGATIVE, POSITIVE]
    assert nearest[1] == 1


def test_no_object() -> None:
    labels, nearest = labelled([OBJECT, [-5, 0, 10, 10], [0, 0, 100, 100]], [])
    assert labels == [NEGATIVE, IGNORED, NEGATIVE]
    assert nearest == [0, 0, 0]


def test_no_anchor_inside() -> None:
    anchors = [[-50.0, -50, 150, 150], [-50, 0, 150, 100]]
    assert labelled(anchors, [OBJECT])[0] == [IGNORED, IGNORED]
    assert labelled(anchors, [])[0] == [IGNORED, IGNORED]


@settings(max_examples=200)
@given(Boxes, Objects, st.booleans(), st.integers(1, 40))
def test_a_few_objects_at_a_time_make_no_difference(
    anchors: list[tuple[int, ...]], objects: list[tuple[int, ...]], inside: bool, at_once: int
) -> None:
    boxes, things = torch.tensor(corners(anchors)), torch.tensor(corners(objects)).reshape(-1, 4)
    config = LabelConfig(inside=inside)
    whole = label_anchors(boxes, things, (50, 60), config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faster_rcnn.labels.AT_ONCE", at_once)
        parts = label_anchors(boxes, things, (50, 60), config)
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype


# What is drawn -------------------------------------------------------------------------------


def labels_of(positives: int, negatives: int, ignored: int = 0, seed: int = 0) -> Tensor:
    """So many of each, in no order. int8 [A]."""
    labels = torch.tensor(
        [POSITIVE] * positives + [NEGATIVE] * negatives + [IGNORED] * ignored, dtype=torch.int8
    )
    generator = torch.Generator().manual_seed(seed)
    return labels[torch.randperm(len(labels), generator=generator)]


def drawn(labels: Tensor, config: LabelConfig = PAPER, seed: int = 0) -> AnchorSample:
    torch.manual_seed(seed)
    return sample_anchors(labels, config)


def rows_of(found: AnchorSample, image: int = 0) -> tuple[list[int], list[int]]:
    """Anchors drawn of an image: positives, negatives."""
    index, positive, used = found.index[image], found.positive[image], found.used[image]
    return index[positive & used].tolist(), index[~positive & used].tolist()


def counted(labels: Tensor, config: LabelConfig = PAPER) -> tuple[int, int]:
    positives, negatives = rows_of(drawn(labels[None], config))
    return len(positives), len(negatives)


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        pytest.param(500, 5000, (128, 128), id="enough of both"),
        pytest.param(128, 128, (128, 128), id="just enough"),
        pytest.param(20, 5000, (20, 236), id="negatives take the places"),
        pytest.param(0, 5000, (0, 256), id="no object"),
        pytest.param(500, 100, (128, 100), id="positives take none but their own"),
        pytest.param(500, 0, (128, 0), id="no background"),
        pytest.param(3, 7, (3, 7), id="few anchors"),
        pytest.param(0, 0, (0, 0), id="none"),
        pytest.param(1, 0, (1, 0), id="one"),
        pytest.param(200, 129, (128, 128), id="one too many"),
    ],
)
def test_how_many(positives: int, negatives: int, expected: tuple[int, int]) -> None:
    assert counted(labels_of(positives, negatives, ignored=40)) == expected


@pytest.mark.parametrize(("anchors", "fraction"), [(64, 0.25), (256, 1.0), (10, 0.0), (7, 0.5)])
def test_the_numbers_are_the_configurations(anchors: int, fraction: float) -> None:
    config = replace(PAPER, anchors=anchors, positive_fraction=fraction)
    most = int(anchors * fraction)
    assert counted(labels_of(400, 400), config) == (most, anchors - most)
    assert counted(labels_of(2, 400), config) == (min(2, most), anchors - min(2, most))


@given(
    st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=12, max_size=12), min_size=1),
    st.integers(1, 14),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.integers(0, 2**31),
)
def test_any_images_are_drawn_from_each_by_itself(
    labels: list[list[int]], anchors: int, fraction: float, seed: int
) -> None:
    config = replace(PAPER, anchors=anchors, positive_fraction=fraction)
    found = drawn(torch.tensor(labels, dtype=torch.int8), config, seed)
    assert found.index.shape == found.positive.shape == found.used.shape
    assert not (found.positive & ~found.used).any()
    for number, of_image in enumerate(labels):
        positives, negatives = rows_of(found, number)
        wanted = min(of_image.count(1), int(anchors * fraction))
        assert len(positives) == wanted
        assert len(negatives) == min(of_image.count(0), anchors - wanted)
        # None twice, and each as it is labelled.
        assert len(set(positives)) == len(positives)
        assert len(set(negatives)) == len(negatives)
        assert {of_image[row] for row in positives} <= {POSITIVE}
        assert {of_image[row] for row in negatives} <= {NEGATIVE}


def test_images_that_have_nothing_in_common() -> None:
    labels = torch.stack([labels_of(500, 500), labels_of(0, 1000), labels_of(2, 10, 988)])
    found = drawn(labels)
    assert [tuple(map(len, rows_of(found, n))) for n in range(3)] == [(128, 128), (0, 256), (2, 10)]


def test_images_alike_are_drawn_from_differently() -> None:
    labels = labels_of(500, 500)
    found = drawn(torch.stack([labels, labels]))
    one, other = (set(rows_of(found, n)[0]) for n in range(2))
    # Of 500, 128 each: if nothing binds them, 33 are drawn by both.
    assert 10 < len(one & other) < 60


def test_chance_draws_each_about_equally_often() -> None:
    # 40 positives, 20 of them drawn; 100 negatives, 20 of them drawn: 800 times over.
    config = replace(PAPER, anchors=40)
    labels = labels_of(40, 100, 20)
    found = drawn(labels.expand(800, -1), config)
    times = torch.zeros(len(labels))
    pairs = 0
    first, second = (labels == POSITIVE).nonzero()[:2, 0].tolist()
    for number in range(800):
        positives, negatives = rows_of(found, number)
        times[positives] += 1
        times[negatives] += 1
        pairs += first in positives and second in positives
    # Binomial deviations of 14 and 11 of 400 and 160: five of them.
    assert (times[labels == POSITIVE] - 400).abs().max() < 75
    assert (times[labels == NEGATIVE] - 160).abs().max() < 60
    assert (times[labels == IGNORED] == 0).all()
    # And nearly independently of each other: 20/40 * 19/39 of 800 are 195.
    assert 130 < pairs < 260


def test_the_same_seed_draws_the_same() -> None:
    labels = labels_of(500, 500)[None]
    first, again, other = (drawn(labels, seed=n) for n in (3, 3, 4))
    assert torch.equal(first.index, again.index)
    assert set(rows_of(first)[0]) != set(rows_of(other)[0])
    assert set(rows_of(first)[1]) != set(rows_of(other)[1])


def test_what_is_given_is_not_changed() -> None:
    anchors, objects = torch.tensor([OBJECT, of_object(0.5)]), torch.tensor([OBJECT])
    labels, nearest = label_anchors(anchors, objects, SIZE, PAPER)
    before = labels.clone()
    sample_anchors(labels[None], PAPER)
    nearest.zero_()
    assert torch.equal(labels, before)
    assert anchors.tolist() == [OBJECT, of_object(0.5)]
    assert objects.tolist() == [OBJECT]
