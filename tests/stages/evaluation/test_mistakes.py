"""Kinds of mistakes: by hand, against a plain loop, and what must hold of any detections."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.evaluation.mistakes import (
    BACKGROUND,
    CORRECT,
    KINDS,
    LOCALISATION,
    MISSED,
    OTHER,
    SIMILAR,
    find_mistakes,
    table_of,
)
from stages.evaluation.voc_ap import match

A, B, C = [0, 0, 10, 10], [100, 100, 110, 110], [200, 200, 210, 210]


def kinds(mistakes):
    return mistakes.detections.kind.tolist()


# By hand -------------------------------------------------------------------------------------


def test_each_kind_once(record, detected):
    # Class 1 at A, class 2 at B, class 3 at C; five detections of class 1, of falling scores.
    records = [record("a", [A, B, C], [1, 2, 3])]
    boxes = [
        [0, 0, 10, 9],  # 0.9 of A
        [0, 0, 10, 8],  # 0.8 of A, which is taken
        [0, 0, 10, 2],  # 0.2 of A
        [100, 100, 110, 110],  # B, of another class
        [200, 200, 210, 205],  # half of C, of a similar class
        [300, 300, 310, 310],  # nothing
        [200, 200, 210, 200.9],  # 0.09 of C: too little to be confused with it
    ]
    scores = [7, 6, 5, 4, 3, 2, 1]
    found = find_mistakes(records, {"a": detected(boxes, scores)}, 3, alike=[{1, 3}])
    expected = [CORRECT, LOCALISATION, LOCALISATION, OTHER, SIMILAR, BACKGROUND, BACKGROUND]
    assert kinds(found) == expected
    assert found.detections.gt.tolist() == [0, 0, 0, 1, 2, -1, 2]
    np.testing.assert_allclose(found.detections.iou, [0.9, 0.8, 0.2, 1, 0.5, 0, 0.09])
    assert found.detections.score.tolist() == scores
    assert found.false.kind.tolist() == expected[1:]
    assert found.detections.box.tolist() == boxes

    assert found.objects.tolist() == [1, 1, 1]
    assert found.missed.label.tolist() == [2, 3]
    assert found.missed.gt.tolist() == [1, 2]
    # No detection is of their classes, so that none came near.
    assert found.missed.iou.tolist() == [0, 0]
    assert np.isnan(found.missed.score).all()


def test_without_groups_nothing_is_similar(record, detected):
    records = [record("a", [A, B], [1, 2])]
    found = find_mistakes(records, {"a": detected([B], [1.0])}, 2)
    assert kinds(found) == [OTHER]


def test_the_first_kind_that_fits_is_taken(record, detected):
    # 0.2 with its own class, 0.6 with a similar one, 0.8 with another: bad localisation all the same.
    box = [0, 0, 10, 10]
    own, alike, other = [0, 0, 10, 2], [0, 4, 10, 10], [0, 2, 10, 10]
    records = [record("a", [other, alike, own], [3, 2, 1])]
    found = find_mistakes(records, {"a": detected([box], [1.0])}, 3, alike=[[1, 2]])
    assert kinds(found) == [LOCALISATION]
    assert found.detections.gt.tolist() == [2]
    records = [record("a", [other, alike], [3, 2])]
    found = find_mistakes(records, {"a": detected([box], [1.0])}, 3, alike=[[1, 2]])
    assert kinds(found) == [SIMILAR]
    assert found.detections.gt.tolist() == [1]
    np.testing.assert_allclose(found.detections.iou, [0.6])


def test_exactly_a_tenth_is_enough(record, detected):
    records = [record("a", [A])]
    boxes = [[0, 0, 10, 1], [0, 0, 10, 0.99]]
    assert kinds(find_mistakes(records, {"a": detected(boxes, [2, 1])}, 1)) == [
        LOCALISATION,
        BACKGROUND,
    ]


@pytest.mark.parametrize("flag", ["difficult", "iscrowd"])
def test_difficult_objects_are_not_missed_but_explain(record, detected, flag):
    records = [record("a", [A, B], [1, 2], **{flag: [True, True]})]
    # On A: ignored. On a third of A: it is badly located. On B, of another class: confused.
    boxes = [A, [0, 0, 10, 3], B]
    found = find_mistakes(records, {"a": detected(boxes, [3, 2, 1])}, 2)
    assert kinds(found) == [LOCALISATION, OTHER]
    assert found.objects.tolist() == [0, 0]
    assert len(found.missed) == 0


def test_a_missed_object_has_the_nearest_detection_of_its_class(record, detected):
    records = [record("a", []), record("b", [A, B])]
    boxes = [[0, 0, 10, 3], [0, 0, 10, 4], [0, 0, 10, 4.5]]
    found = find_mistakes(records, {"b": detected(boxes, [3, 2, 1], [1, 1, 2])}, 2)
    missed = found.missed
    assert missed.kind.tolist() == [MISSED, MISSED]
    assert missed.image.tolist() == [1, 1]
    assert missed.gt.tolist() == [0, 1]
    np.testing.assert_allclose(missed.iou, [0.4, 0])
    assert missed.score[0] == 2.0
    assert missed.box[0].tolist() == boxes[1]
    assert np.isnan(missed.box[1]).all()


def test_the_top_of_a_class_is_as_many_as_it_has_objects(record, detected):
    records = [record("a", [A, B], [1, 1]), record("b", [C], [2])]
    detections = {
        # The third of class 1 is correct, but one too many; class 2 reports nothing.
        "a": detected([A, [0, 0, 10, 8], B], [0.9, 0.8, 0.1]),
        # Class 3 has no object, so that its best 0 count.
        "b": detected([C, [50, 50, 60, 60]], [0.5, 0.7], [3, 1]),
    }
    found = find_mistakes(records, detections, 3)
    assert found.top().tolist() == [[1, 1, 0, 0, 0], [0] * 5, [0] * 5]
    assert table_of(found, ["x", "y", "z"]) == {
        "all": dict(zip(("objects", *KINDS), [3, 1, 1, 0, 0, 0, 1], strict=True)),
        "per_class": {
            "x": dict(zip(("objects", *KINDS), [2, 1, 1, 0, 0, 0, 0], strict=True)),
            "y": dict(zip(("objects", *KINDS), [1, 0, 0, 0, 0, 0, 1], strict=True)),
            "z": dict(zip(("objects", *KINDS), [0, 0, 0, 0, 0, 0, 0], strict=True)),
        },
    }


def test_nothing_at_all(record, detected):
    for records, detections in (
        ([], {}),
        ([record("a", [])], {}),
        ([record("a", [])], {"a": detected([], [])}),
    ):
        found = find_mistakes(records, detections, 2)
        assert len(found.detections) == len(found.missed) == len(found.false) == 0
        assert found.top().tolist() == [[0] * 5] * 2
    found = find_mistakes([record("a", [A])], {}, 1)
    assert found.missed.gt.tolist() == [0]
    found = find_mistakes([record("a", [])], {"a": detected([A], [1.0])}, 1)
    assert kinds(found) == [BACKGROUND]


@pytest.mark.parametrize("label", [0, 3])
def test_a_group_of_unknown_labels(record, label):
    with pytest.raises(ValueError, match=r"not in 1\.\.2"):
        find_mistakes([record("a", [A])], {}, 2, alike=[{1, label}])


def confused(made):
    """The scene, a third of its detections of any class."""
    rng = np.random.default_rng(0)
    for found in made.detections.values():
        wrong = rng.random(len(found["labels"])) < 1 / 3
        found["labels"][wrong] = rng.integers(1, 4, wrong.sum())
    return made


# Against a plain loop ------------------------------------------------------------------------


def iou_of(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def plainly(records, detections, label, alike):
    """(score, kind, object's index) of a class's counted detections, one by one, and the missed objects."""
    queue = sorted(
        (-found["scores"][i], index, i)
        for index, found in enumerate(detections[record.image_id] for record in records)
        for i in range(len(found["labels"]))
        if found["labels"][i] == label
    )
    group = {other for labels in alike if label in labels for other in labels} - {label}
    taken, judged = set(), []
    for score, index, i in queue:
        record = records[index]
        box = detections[record.image_id]["boxes"][i]

        def best(labels, box=box, record=record):
            found = (0.0, -1)
            for g, gt in enumerate(record.boxes):
                if record.labels[g] in labels and iou_of(box, gt) > found[0]:
                    found = (iou_of(box, gt), g)
            return found

        own, g = best({label})
        if own >= 0.5 and (record.difficult[g] or record.iscrowd[g]):
            continue
        if own >= 0.5 and (index, g) not in taken:
            taken.add((index, g))
            judged.append((-score, CORRECT, g))
            continue
        everything = set(record.labels.tolist())
        for kind, labels, enough in (
            (LOCALISATION, {label}, 0.1),
            (SIMILAR, group, 0.1),
            (OTHER, everything - group - {label}, 0.1),
            (BACKGROUND, everything, 0.0),
        ):
            overlap, g = best(labels)
            if overlap >= enough:
                judged.append((-score, kind, g))
                break
    missed = [
        (index, g)
        for index, record in enumerate(records)
        for g in range(len(record.boxes))
        if record.labels[g] == label
        and not (record.difficult[g] or record.iscrowd[g])
        and (index, g) not in taken
    ]
    return judged, missed


@pytest.mark.parametrize("alike", [[], [{1, 2}], [{1, 3}, {2, 3}]])
@pytest.mark.parametrize("ties", [False, True])
def test_as_one_by_one(scene, ties, alike):
    made = confused(scene(0, n_images=60, difficult=0.2, ties=ties))
    found = find_mistakes(made.records, made.detections, 3, alike)
    all_kinds: Counter[int] = Counter()
    for label in (1, 2, 3):
        judged, missed = plainly(made.records, made.detections, label, alike)
        mine = found.detections[found.detections.label == label]
        rows = zip(mine.score.tolist(), mine.kind.tolist(), mine.gt.tolist(), strict=True)
        assert list(rows) == judged
        ours = found.missed[found.missed.label == label]
        assert list(zip(ours.image.tolist(), ours.gt.tolist(), strict=True)) == missed
        all_kinds.update(mine.kind.tolist())
    assert all(all_kinds[kind] for kind in (CORRECT, LOCALISATION, OTHER, BACKGROUND)), all_kinds
    assert (all_kinds[SIMILAR] > 0) == (len(alike) > 0)


# Of any detections ---------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([0.0, 0.3]), st.booleans())
# `scene` only hands a function over, the same for each example.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kinds_partition_the_top_and_agree_with_voc(scene, seed, ties, difficult, grouped):
    made = confused(scene(seed, n_images=6, ties=ties, difficult=difficult))
    found = find_mistakes(made.records, made.detections, 3, [{1, 2}] if grouped else [])
    matches = match(made.records, made.detections, 3)
    for label, of_class in enumerate(matches, start=1):
        mine = found.detections[found.detections.label == label]
        assert np.array_equal(mine.kind == CORRECT, of_class.found)
        assert np.array_equal(mine.score, of_class.scores[of_class.outcome != -1])
        assert np.array_equal(mine.image, of_class.image[of_class.outcome != -1])
        n = of_class.n_positives
        assert found.objects[label - 1] == n
        # Each of the top N is of one kind, and as many are correct as VOC finds among them.
        top = found.top()[label - 1]
        assert top.sum() == min(n, len(mine))
        assert top[CORRECT] == of_class.found[:n].sum()
        # An object is found once or missed.
        assert of_class.found.sum() + (found.missed.label == label).sum() == n
        true = mine[mine.kind == CORRECT]
        assert len(set(zip(true.image.tolist(), true.gt.tolist(), strict=True))) == len(true)
        assert (true.iou >= 0.5).all()
    false = found.false
    assert ((false.iou >= 0.1) == (false.kind != BACKGROUND))[false.kind != BACKGROUND].all()
    assert (false.iou[false.kind == BACKGROUND] < 0.1).all()
    assert np.array_equal(false.gt == -1, false.iou == 0)
