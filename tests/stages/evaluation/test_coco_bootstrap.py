"""The bootstrap of COCO's AP: each draw is COCO's own evaluation of copied images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from stages.evaluation import bootstrap
from stages.evaluation.bootstrap import draw_images, interval
from stages.evaluation.coco_ap import coco_ap, coco_evaluation
from stages.evaluation.coco_bootstrap import resampled_coco_ap
from stages.evaluation.masks import true_masks


def copied(made, weights):
    """The records and detections with each image as often as its weight, under new names."""
    records, detections = [], {}
    for record, weight in zip(made.records, weights, strict=True):
        for copy in range(weight):
            name = f"{record.image_id}, {copy}"
            records.append(dataclasses.replace(record, image_id=name))
            detections[name] = made.detections[record.image_id]
    return records, detections


@pytest.mark.parametrize("n_images", [3, 20])
@pytest.mark.parametrize("of_masks", [False, True])
def test_a_draw_is_a_literal_evaluation_of_copies(scene, rectangles, n_images, of_masks):
    made = rectangles(scene(1, n_images=n_images, difficult=0.2))
    masks = true_masks(made.records) if of_masks else None
    evaluation = coco_evaluation(made.records, made.detections, 3, masks)
    samples = resampled_coco_ap(evaluation, draws=6, seed=7)
    weights = draw_images(n_images, 6, 7)
    assert weights.max() > 1
    for b in range(6):
        records, detections = copied(made, weights[:, b])
        literal = coco_ap(records, detections, 3, true_masks(records) if of_masks else None)
        assert samples[b] == pytest.approx(literal["AP"], abs=1e-12, nan_ok=True)
    assert len(set(samples)) > 2


def test_a_draw_has_the_same_images_whatever_their_numbers(scene):
    """COCO evaluates images by their ids; draws go by the records, as those of VOC's mAP do."""
    made = scene(6, n_images=8)
    numbers = [7, 3, 11, 2, 5, 1, 8, 6]
    records = [
        dataclasses.replace(record, image_id=number)
        for record, number in zip(made.records, numbers, strict=True)
    ]
    found = {
        number: made.detections[record.image_id]
        for record, number in zip(made.records, numbers, strict=True)
    }
    evaluation = coco_evaluation(records, found, 3)
    assert evaluation.order.tolist() == np.argsort(numbers).tolist()
    samples = resampled_coco_ap(evaluation, draws=8)
    weights = draw_images(8, 8, 0)
    for b in range(8):
        drawn = np.flatnonzero(weights[:, b])
        copies, of_copies = [], {}
        for i in drawn:
            for copy in range(weights[i, b]):
                copies.append(dataclasses.replace(records[i], image_id=100 * numbers[i] + copy))
                of_copies[100 * numbers[i] + copy] = found[numbers[i]]
        literal = coco_ap(copies, of_copies, 3)["AP"]
        assert samples[b] == pytest.approx(literal, abs=1e-12)


def test_crowds_excuse_in_every_draw(scene):
    # Some detections hit a crowd at low thresholds only, so these ignore others than high ones.
    made = scene(2, n_images=12)
    records = []
    for one in made.records:
        crowd = np.arange(len(one.labels)) % 3 == 0
        records.append(dataclasses.replace(one, iscrowd=crowd))
    made = dataclasses.replace(made, records=records)
    evaluation = coco_evaluation(records, made.detections, 3)
    ignored = [e["dtIgnore"] for e in evaluation.evalImgs if e is not None]
    assert any((of_image[0] != of_image[-1]).any() for of_image in ignored)
    samples = resampled_coco_ap(evaluation, draws=5)
    weights = draw_images(12, 5, 0)
    for b in range(5):
        literal = coco_ap(*copied(made, weights[:, b]), 3)["AP"]
        assert samples[b] == pytest.approx(literal, abs=1e-12)


def test_all_images_once_is_cocos_ap(scene, monkeypatch):
    monkeypatch.setattr(
        "stages.evaluation.coco_bootstrap.draw_images",
        lambda images, draws, seed: np.ones((images, draws), np.int32),
    )
    made = scene(3, difficult=0.2, ties=True)
    evaluation = coco_evaluation(made.records, made.detections, 3)
    samples = resampled_coco_ap(evaluation, draws=2)
    assert samples == pytest.approx([evaluation.stats[0]] * 2, abs=1e-12)


def test_the_interval_holds_the_estimate(scene):
    made = scene(4, n_images=60)
    evaluation = coco_evaluation(made.records, made.detections, 3)
    low, high = interval(resampled_coco_ap(evaluation))
    assert low < evaluation.stats[0] < high
    assert 0.02 < high - low < 0.3


def test_the_seed_and_nothing_else_decides(scene, monkeypatch):
    made = scene(5)
    evaluation = coco_evaluation(made.records, made.detections, 3)
    once = resampled_coco_ap(evaluation, 50, seed=1)
    assert not np.array_equal(once, resampled_coco_ap(evaluation, 50, seed=2))
    assert np.array_equal(once, resampled_coco_ap(evaluation, 50, seed=1))
    monkeypatch.setattr(bootstrap, "BLOCK", 300)  # a few draws at a time
    assert resampled_coco_ap(evaluation, 50, seed=1) == pytest.approx(once, abs=1e-12)


def test_recalls_are_reached_as_coco_reaches_them(record, detected):
    # 14 of 20 are a recall of 0.7, but COCO's list has 0.7000000000000001 there: 0 .. 0.69 are
    # reached. In integers 0.7 would be too.
    boxes = [[20.0 * i, 0.0, 20.0 * i + 10, 10.0] for i in range(20)]
    for n, reached in ((13, 66), (14, 70), (15, 76)):
        found = detected(boxes[:n], np.linspace(0.9, 0.5, n).tolist())
        evaluation = coco_evaluation([record("a", boxes)], {"a": found}, 1)
        assert evaluation.stats[0] == pytest.approx(reached / 101, abs=1e-12)
        assert resampled_coco_ap(evaluation, draws=1) == pytest.approx(reached / 101, abs=1e-12)


def test_a_class_absent_from_a_draw_is_left_out_of_its_mean(record, detected):
    # Class 1, in the first image, is found; class 2, in the second, is not; class 3 is nowhere.
    box = [[0.0, 0.0, 10.0, 10.0]]
    records = [record("a", box, [1]), record("b", box, [2])]
    evaluation = coco_evaluation(records, {"a": detected(box, [0.9])}, 3)
    samples = resampled_coco_ap(evaluation, draws=50)
    assert samples == pytest.approx(draw_images(2, 50, 0)[0] / 2)
    assert len(set(samples.round(6))) == 3


def test_nothing_to_be_found_is_nan_and_nothing_found_is_0(record, detected):
    box = [[0.0, 0.0, 10.0, 10.0]]
    for records in ([record("a", [])], []):
        samples = resampled_coco_ap(coco_evaluation(records, {}, 2), draws=5)
        assert samples.shape == (5,) and np.isnan(samples).all()
    for found in ({}, {"a": detected([[50.0, 50.0, 60.0, 60.0]], [0.9])}):
        samples = resampled_coco_ap(coco_evaluation([record("a", box)], found, 2), draws=5)
        assert samples.tolist() == [0.0] * 5
