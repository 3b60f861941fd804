"""VOC's AP: by hand, against the devkit's own loop, against pycocotools, and its properties."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.evaluation.coco_ap import coco_ap
from stages.evaluation.masks import true_masks
from stages.evaluation.mistakes import find_mistakes
from stages.evaluation.voc_ap import (
    ap_11_point,
    ap_11_point_devkit,
    ap_area,
    ap_sampled,
    match,
    mean_over_classes,
    recall,
)

FLAGS = st.lists(st.booleans(), max_size=40).map(lambda flags: np.array(flags, bool))


def both(found, n_positives):
    return ap_11_point(found, n_positives), ap_area(found, n_positives)


# By hand -------------------------------------------------------------------------------------


def test_true_false_true_of_two():
    # precision 1/1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    # 11 points: 0 .. 0.5 (six of them) see 1, 0.6 .. 1 (five) see 2/3.
    # Area: 1/2 * 1 + 1/2 * 2/3.
    found = np.array([True, False, True])
    assert ap_11_point(found, 2) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11, abs=1e-12)
    assert ap_area(found, 2) == pytest.approx(1 / 2 + 1 / 3, abs=1e-12)
    assert recall(found, 2) == 1.0


def test_precision_is_made_monotone():
    # false, true, true, missed: precision 0, 1/2, 2/3 at recall 0, 1/3, 2/3; the best from
    # either true positive on is 2/3. 11 points: 0 .. 0.6 (seven) see 2/3, the rest 0.
    found = np.array([False, True, True])
    assert ap_11_point(found, 3) == pytest.approx(7 * (2 / 3) / 11, abs=1e-12)
    assert ap_area(found, 3) == pytest.approx(2 * (1 / 3) * (2 / 3), abs=1e-12)


def test_recall_of_three_tenths_is_reached():
    # 0.1 * 3 is 0.30000000000000004 as a float: a comparison in floats would miss the fourth point.
    assert ap_11_point(np.array([True] * 3), 10) == pytest.approx(4 / 11, abs=1e-12)


@pytest.mark.parametrize(
    ("found", "exactly", "devkit"),
    [
        (1, 2, 2),  # 0.1 is 0.1
        (3, 4, 3),  # 0.3 is less than 0.30000000000000004
        (5, 6, 6),
        (6, 7, 6),  # 0.6 is less than 0.6000000000000001
        (7, 8, 7),  # 0.7 is less than 0.7000000000000001
        (8, 9, 9),
        (10, 11, 11),
    ],
)
def test_points_of_ten_that_the_devkit_rounds(found, exactly, devkit):
    """So many of ten objects found, nothing false: as many of the eleven points are 1."""
    flags = np.ones(found, bool)
    assert ap_11_point(flags, 10) == pytest.approx(exactly / 11)
    assert ap_11_point_devkit(flags, 10) == pytest.approx(devkit / 11)


def test_the_devkits_rounding_takes_the_next_precision():
    # Three of ten, a false one, a fourth: at 0.3 the paper has 1, the devkit 4/5.
    flags = np.array([True, True, True, False, True])
    assert ap_11_point(flags, 10) == pytest.approx((4 + 4 / 5) / 11)
    assert ap_11_point_devkit(flags, 10) == pytest.approx((3 + 2 * 4 / 5) / 11)
    assert math.isnan(ap_11_point_devkit(flags, 0))
    assert ap_11_point_devkit(flags[:0], 3) == 0.0


@pytest.mark.parametrize("n_positives", range(1, 60))
def test_eleven_points_are_compared_exactly(n_positives):
    for tp in range(n_positives + 1):
        points = sum(10 * tp >= k * n_positives for k in range(11)) if tp else 0
        assert ap_11_point(np.array([True] * tp, bool), n_positives) == pytest.approx(points / 11)


def test_nothing_found_and_nothing_to_find():
    nothing = np.zeros(0, bool)
    assert both(nothing, 3) == (0.0, 0.0)
    assert both(np.array([False, False]), 3) == (0.0, 0.0)
    assert all(math.isnan(ap) for ap in both(nothing, 0))
    assert math.isnan(recall(nothing, 0))
    assert mean_over_classes([0.5, math.nan, 1.0]) == 0.75
    assert math.isnan(mean_over_classes([math.nan]))


def test_exactly_one_half_is_enough(record, detected):
    # 10 x 10 against 10 x 20: 100 / 200.
    records = [record("a", [[0, 0, 10, 20]])]
    half = match(records, {"a": detected([[0, 0, 10, 10]], [1.0])}, 1)[0]
    less = match(records, {"a": detected([[0, 0, 10, 9.99]], [1.0])}, 1)[0]
    assert half.outcome.tolist() == [1]
    assert less.outcome.tolist() == [0]


def test_second_detection_of_an_object_is_false(record, detected):
    records = [record("a", [[0, 0, 10, 10]])]
    found = match(records, {"a": detected([[0, 0, 10, 9], [0, 0, 10, 10]], [0.9, 0.8])}, 1)[0]
    assert found.outcome.tolist() == [1, 0]


def test_only_the_best_overlapping_object_is_looked_at(record, detected):
    # Both detections lie on the first object best; the second overlaps the other by 0.6, and is
    # false all the same (COCO would give it that one).
    records = [record("a", [[0, 0, 10, 10], [2, 0, 12, 10]])]
    boxes = [[0, 0, 10, 10], [0.5, 0, 10.5, 10]]
    assert match(records, {"a": detected(boxes, [0.9, 0.8])}, 1)[0].outcome.tolist() == [1, 0]
    assert coco_ap(records, {"a": detected(boxes, [0.9, 0.8])}, 1)["AP50"] == pytest.approx(1.0)


@pytest.mark.parametrize("flag", ["difficult", "iscrowd"])
def test_difficult_objects_are_neither_found_nor_missed(record, detected, flag):
    # Two detections on the difficult object, one beside it that it "steals" from the plain one.
    plain, hard = [0, 0, 10, 10], [2, 0, 12, 10]
    records = [record("a", [plain, hard], **{flag: [False, True]})]
    boxes = [hard, hard, [1.5, 0, 11.5, 10], plain]
    found = match(records, {"a": detected(boxes, [0.9, 0.8, 0.7, 0.6])}, 1)[0]
    assert found.outcome.tolist() == [-1, -1, -1, 1]
    assert found.positives.tolist() == [1]
    assert both(found.found, found.n_positives) == (1.0, 1.0)


def test_only_difficult_objects_is_nan(record, detected):
    records = [record("a", [[0, 0, 10, 10]], difficult=[True])]
    found = match(records, {"a": detected([[0, 0, 10, 10]], [0.9])}, 1)[0]
    assert all(math.isnan(ap) for ap in both(found.found, found.n_positives))


def test_an_object_past_the_edge_is_compared_whole(record, detected):
    # The image is 400 wide; the object has 20 pixels in it and 20 outside.
    whole = dataclasses.replace(
        record("a", [[380, 0, 400, 40]]), true_boxes=np.array([[380.0, 0, 420, 40]])
    )
    for right, outcome in ((400, True), (399, False), (420, True)):
        found = {"a": detected([[380, 0, right, 40]], [0.9])}
        assert match([whole], found, 1)[0].found.tolist() == [outcome]
    (mistake,) = find_mistakes([whole], {"a": detected([[380, 0, 399, 40]], [0.9])}, 1).false.iou
    assert mistake == pytest.approx(19 / 40)


def test_ties_go_by_image_then_by_detection(record, detected):
    records = [record("b", [[0, 0, 10, 10]]), record("a", [])]
    boxes = [[0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60]]
    detections = {
        "a": detected([[0, 0, 5, 5]], [0.5]),
        "b": detected(boxes, [0.5, 0.5, 0.9]),
    }
    found = match(records, detections, 1)[0]
    assert found.image.tolist() == [0, 0, 0, 1]
    assert found.outcome.tolist() == [0, 1, 0, 0]


def test_empty_boxes_overlap_nothing(record, detected):
    records = [record("a", [[5, 5, 5, 5]])]
    boxes = [[5, 5, 5, 5], [6, 6, 4, 4]]
    assert match(records, {"a": detected(boxes, [0.9, 0.8])}, 1)[0].outcome.tolist() == [0, 0]


def test_what_cannot_be_matched_is_refused(record, detected):
    box = [[0.0, 0.0, 1.0, 1.0]]
    records = [record("a", box)]
    with pytest.raises(ValueError, match="not evaluated"):
        match(records, {"b": detected(box, [1.0])}, 1)
    with pytest.raises(ValueError, match="same image id"):
        match(records * 2, {}, 1)
    for label in (0, 2):
        with pytest.raises(ValueError, match="label"):
            match(records, {"a": detected(box, [1.0], [label])}, 1)
        with pytest.raises(ValueError, match="label"):
            match([record("a", box, [label])], {}, 1)
    with pytest.raises(ValueError, match="not finite"):
        match(records, {"a": detected(box, [math.nan])}, 1)
    with pytest.raises(ValueError, match="differ in number"):
        match(records, {"a": {**detected(box, [1.0]), "scores": np.zeros(2)}}, 1)


# Masks ---------------------------------------------------------------------------------------


def test_masks_are_compared_where_boxes_would_mislead(record, detected, masked, filled):
    # Two objects in one box, a left and a right half; all detections have the whole box.
    box = [0, 0, 20, 10]
    left, right, middle = filled([0, 0, 10, 10]), filled([10, 0, 20, 10]), filled([5, 0, 15, 10])
    records = [masked(record("a", [box, box]), [left, right])]
    found = detected([box] * 4, [0.9, 0.8, 0.7, 0.6])
    found = {**found, "segmentation": np.array([right, right, middle, left])}
    assert match(records, {"a": found}, 1)[0].outcome.tolist() == [1, 0, 0, 0]
    by_masks = match(records, {"a": found}, 1, masks=true_masks(records))[0]
    assert by_masks.outcome.tolist() == [1, 0, 0, 1]
    assert by_masks.positives.tolist() == [2]


def test_one_half_of_the_pixels_is_enough(record, detected, masked, filled):
    records = [masked(record("a", [[0, 0, 10, 20]]), [filled([0, 0, 10, 20])])]
    for height, outcome in ((10, 1), (9, 0)):
        found = detected([[0, 0, 10, 20]], [1.0])
        found = {**found, "segmentation": np.array([filled([0, 0, 10, height])])}
        by_masks = match(records, {"a": found}, 1, masks=true_masks(records))[0]
        assert by_masks.outcome.tolist() == [outcome]


@pytest.mark.parametrize("seed", range(4))
def test_masks_of_whole_boxes_match_as_the_boxes(scene, rectangles, seed):
    made = rectangles(scene(seed, difficult=0.2, ties=seed % 2 == 0))
    by_boxes = match(made.records, made.detections, 3)
    by_masks = match(made.records, made.detections, 3, masks=true_masks(made.records))
    for a, b in zip(by_boxes, by_masks, strict=True):
        for name in ("scores", "image", "outcome", "positives"):
            assert np.array_equal(getattr(a, name), getattr(b, name))
    assert set(np.concatenate([found.outcome for found in by_masks])) == {-1, 0, 1}


def test_empty_masks_overlap_nothing(record, detected, masked, filled):
    nothing = filled([0, 0, 0, 0])
    records = [masked(record("a", [[0, 0, 9, 9]]), [nothing]), record("b", [])]
    found = {**detected([[0, 0, 9, 9]] * 2, [0.9, 0.8])}
    found["segmentation"] = np.array([nothing, filled([0, 0, 9, 9])])
    result = match(records, {"a": found, "b": found}, 1, masks=true_masks(records))[0]
    assert result.outcome.tolist() == [0] * 4
    assert result.n_positives == 1


def test_masks_that_cannot_be_compared_are_refused(record, detected, masked, filled):
    box = [[0, 0, 9, 9]]
    records = [masked(record("a", box), [filled(box[0])])]
    true = true_masks(records)
    nothing = {"a": detected([], [])}
    assert match(records, nothing, 1, masks=true)[0].n_positives == 1
    for masks, complaint in (
        ([], "differ in number"),
        ([filled(box[0])] * 2, "differ in number"),
        ([filled(box[0], width=399)], "160000"),
        ([b"damaged?"], "damaged"),
    ):
        found = {**detected(box, [0.9]), "segmentation": np.array(masks, np.bytes_)}
        with pytest.raises(ValueError, match=complaint):
            match(records, {"a": found}, 1, masks=true)
        with pytest.raises(ValueError, match=complaint):
            coco_ap(records, {"a": found}, 1, true)
    with pytest.raises(ValueError, match="differ in number"):
        match(records, {"a": detected(box, [0.9])}, 1, masks=true)


# Against the devkit --------------------------------------------------------------------------


def devkit(records, detections, label):
    """VOCevaldet.m (2007) and VOCap.m (2012), line by line, in inclusive pixels.

    Returns AP by 11 points, AP by area, recall, and AP by 11 points that are counted up in floats.
    """
    # What the devkit's XML and its results file would say.
    gt, results = {}, []
    for record in records:
        mine = record.labels == label
        boxes = record.evaluated_boxes[mine].tolist()
        bbox = [[x1 + 1, y1 + 1, x2, y2] for x1, y1, x2, y2 in boxes]
        gt[record.image_id] = {
            "bbox": bbox,
            "difficult": record.difficult[mine].tolist(),
            "det": [False] * len(bbox),
        }
        found = detections.get(record.image_id, {"boxes": [], "labels": [], "scores": []})
        for (x1, y1, x2, y2), k, score in zip(
            np.asarray(found["boxes"]).tolist(), found["labels"], found["scores"], strict=True
        ):
            if k == label:
                results.append((record.image_id, score, [x1 + 1, y1 + 1, x2, y2]))
    npos = sum(not d for image in gt.values() for d in image["difficult"])

    results.sort(key=lambda result: -result[1])  # stable, as MATLAB's
    tp, fp = [0] * len(results), [0] * len(results)
    for d, (image_id, _, bb) in enumerate(results):
        image = gt[image_id]
        ovmax, jmax = -math.inf, None
        for j, bbgt in enumerate(image["bbox"]):
            bi = [
                max(bb[0], bbgt[0]),
                max(bb[1], bbgt[1]),
                min(bb[2], bbgt[2]),
                min(bb[3], bbgt[3]),
            ]
            iw = bi[2] - bi[0] + 1
            ih = bi[3] - bi[1] + 1
            if iw > 0 and ih > 0:
                ua = (
                    (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1)
                    + (bbgt[2] - bbgt[0] + 1) * (bbgt[3] - bbgt[1] + 1)
                    - iw * ih
                )
                ov = iw * ih / ua
                if ov > ovmax:
                    ovmax, jmax = ov, j
        if ovmax >= 0.5:
            if not image["difficult"][jmax]:
                if not image["det"][jmax]:
                    tp[d] = 1
                    image["det"][jmax] = True
                else:
                    fp[d] = 1
        else:
            fp[d] = 1
    if npos == 0:
        return math.nan, math.nan, math.nan, math.nan

    tp_sum, fp_sum = np.cumsum(tp), np.cumsum(fp)
    rec = [t / npos for t in tp_sum]
    prec = [t / (t + f) if t + f else 0.0 for t, f in zip(tp_sum, fp_sum, strict=True)]

    ap07 = counted_up = 0.0
    for k in range(11):
        t = k / 10  # the double nearest to it, so rec >= t is exact
        ap07 += max((p for r, p in zip(rec, prec, strict=True) if r >= t), default=0.0) / 11
    for t in np.arange(0.0, 1.1, 0.1):
        counted_up += max((p for r, p in zip(rec, prec, strict=True) if r >= t), default=0.0) / 11

    mrec, mpre = [0.0, *rec, 1.0], [0.0, *prec, 0.0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    area = sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec)))
    return ap07, area, rec[-1] if rec else 0.0, counted_up


@pytest.mark.parametrize("seed", range(12))
def test_as_the_devkit_in_inclusive_pixels(scene, seed):
    made = scene(seed, difficult=0.2, ties=seed % 2 == 0)
    all_matches = match(made.records, made.detections, 3)
    for label, found in enumerate(all_matches, start=1):
        measures = (ap_11_point, ap_area, recall, ap_11_point_devkit)
        ours = [measure(found.found, found.n_positives) for measure in measures]
        assert ours == pytest.approx(
            devkit(made.records, made.detections, label), abs=1e-12, nan_ok=True
        )
    # The scenes do try the rule: something of each kind.
    assert set(np.concatenate([found.outcome for found in all_matches])) == {-1, 0, 1}


# Against pycocotools -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("difficult", [0.0, 0.2])
def test_area_is_cocos_ap50_where_objects_are_apart(scene, seed, difficult):
    made = scene(seed, n_images=60, apart=True, difficult=difficult)
    matches = match(made.records, made.detections, 3)
    coco = coco_ap(made.records, made.detections, 3)
    sampled = np.mean([ap_sampled(m.found, m.n_positives, 101) for m in matches])
    area = np.mean([ap_area(m.found, m.n_positives) for m in matches])
    assert 0.2 < coco["AP50"] < 0.98
    assert sampled == pytest.approx(coco["AP50"], abs=1e-3)
    # A falling curve's area lies between the sums of its samples without the first and without
    # the last, and a sample is at most 1.
    assert 101 * coco["AP50"] - 1 - 0.1 <= 100 * area <= 101 * coco["AP50"] + 0.1


@pytest.mark.parametrize("difficult", [0.0, 0.2])
def test_area_is_near_cocos_ap50_where_objects_crowd(scene, difficult):
    # COCO lets a detection take the best object still free: a little kinder, never much.
    more = []
    for seed in range(6):
        made = scene(seed, n_images=60, difficult=difficult)
        matches = match(made.records, made.detections, 3)
        sampled = np.mean([ap_sampled(m.found, m.n_positives, 101) for m in matches])
        more.append(coco_ap(made.records, made.detections, 3)["AP50"] - sampled)
    assert np.abs(more).max() < 0.02
    assert -0.001 < np.mean(more) < 0.01


# Properties ----------------------------------------------------------------------------------


@settings(max_examples=200)
@given(FLAGS, st.integers(0, 10))
def test_ap_is_a_fraction_and_a_late_false_positive_never_helps(found, missed):
    n_positives = int(found.sum()) + missed
    if n_positives == 0:
        return
    later = np.append(found, False)
    for ap in (ap_11_point, ap_area):
        assert 0.0 <= ap(found, n_positives) <= 1.0
        assert ap(later, n_positives) == ap(found, n_positives)


@settings(max_examples=200)
@given(FLAGS, st.data())
def test_a_false_positive_anywhere_never_helps(found, data):
    if found.sum() == 0:
        return
    where = data.draw(st.integers(0, len(found)))
    for ap in (ap_11_point, ap_area):
        assert ap(np.insert(found, where, False), int(found.sum())) <= ap(found, int(found.sum()))


def test_a_low_false_positive_never_raises_ap(scene):
    made = scene(3)
    before = [both(m.found, m.n_positives) for m in match(made.records, made.detections, 3)]
    worse = {
        image_id: {
            "boxes": np.concatenate([found["boxes"], [[390.0, 390.0, 400.0, 400.0]]]),
            "labels": np.append(found["labels"], 1 + i % 3),
            "scores": np.append(found["scores"], -1.0 - i),
        }
        for i, (image_id, found) in enumerate(made.detections.items())
    }
    after = [both(m.found, m.n_positives) for m in match(made.records, worse, 3)]
    assert (np.array(after) <= np.array(before)).all()
    assert np.all(np.array(before) > 0)


def test_order_of_images_and_detections_does_not_matter(scene):
    made = scene(4, difficult=0.2)
    flipped = {
        image_id: {key: values[::-1] for key, values in found.items()}
        for image_id, found in reversed(made.detections.items())
    }
    one = match(made.records, made.detections, 3)
    other = match(made.records[::-1], flipped, 3)
    for a, b in zip(one, other, strict=True):
        assert a.outcome.tolist() == b.outcome.tolist()
        assert a.scores.tolist() == b.scores.tolist()
        assert a.positives.tolist() == b.positives[::-1].tolist()


def test_perfect_detections_have_all_of_it(scene):
    made = scene(5, apart=True, difficult=0.2)
    perfect = {
        record.image_id: {
            "boxes": record.boxes,
            "labels": record.labels,
            "scores": np.linspace(1, 0.5, len(record.labels)),
        }
        for record in made.records
    }
    for found in match(made.records, perfect, 3):
        assert both(found.found, found.n_positives) == pytest.approx((1.0, 1.0))


def test_records_are_left_as_they_were(scene):
    made = scene(6)
    before = [dataclasses.replace(r, boxes=r.boxes.copy()) for r in made.records]
    match(made.records, made.detections, 3)
    for old, new in zip(before, made.records, strict=True):
        assert np.array_equal(old.boxes, new.boxes)
