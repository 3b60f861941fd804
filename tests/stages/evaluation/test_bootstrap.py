"""The bootstrap: a weight is as good as a copy, and a system does not differ from itself."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from stages.evaluation import bootstrap
from stages.evaluation.bootstrap import interval, mean_ap, paired_difference, resampled_map
from stages.evaluation.voc_ap import match


def thinned(detections, keep):
    """The detections without those that a coin of `keep` rejects."""
    r = np.random.default_rng(0)
    result = {}
    for image_id, found in detections.items():
        kept = r.random(len(found["scores"])) < keep
        result[image_id] = {key: values[kept] for key, values in found.items()}
    return result


@pytest.mark.parametrize("n_images", [4, 25])
def test_a_draw_is_a_literal_evaluation_of_copies(scene, n_images):
    made = scene(1, n_images=n_images, difficult=0.2)
    samples = resampled_map(match(made.records, made.detections, 3), draws=20, seed=7)
    weights = bootstrap.draw_images(n_images, 20, 7)
    assert (weights.sum(axis=0) == n_images).all()
    assert weights.max() > 2
    for b in range(20):
        records, detections = [], {}
        for record, weight in zip(made.records, weights[:, b], strict=True):
            for copy in range(weight):
                name = f"{record.image_id}, {copy}"
                records.append(dataclasses.replace(record, image_id=name))
                detections[name] = made.detections[record.image_id]
        matches = match(records, detections, 3)
        for metric in ("voc07", "area"):
            literal = mean_ap(matches, metric)
            assert samples[metric][b] <= 1.0
            assert samples[metric][b] == pytest.approx(literal, abs=1e-12, nan_ok=True)


def test_weights_of_one_are_the_plain_ap(scene):
    made = scene(2, difficult=0.2, ties=True)
    for found in match(made.records, made.detections, 3):
        voc07, area = bootstrap._weighted_ap(found, np.ones((len(made.records), 1), np.int32))
        assert voc07[0] == pytest.approx(mean_ap([found], "voc07"), abs=1e-12)
        assert area[0] == pytest.approx(mean_ap([found], "area"), abs=1e-12)


def test_the_interval_holds_the_estimate(scene):
    made = scene(3, n_images=60)
    matches = match(made.records, made.detections, 3)
    samples = resampled_map(matches)
    for metric in ("voc07", "area"):
        low, high = interval(samples[metric])
        assert low < mean_ap(matches, metric) < high
        assert 0.02 < high - low < 0.3


def test_the_interval_is_between_the_right_percentiles():
    assert interval(np.append(np.arange(1001.0), math.nan)) == pytest.approx((25.0, 975.0))
    assert all(math.isnan(end) for end in interval(np.array([math.nan])))


def test_the_seed_and_nothing_else_decides(scene, monkeypatch):
    made = scene(4)
    matches = match(made.records, made.detections, 3)
    once = resampled_map(matches, 50, seed=1)
    other = resampled_map(matches, 50, seed=2)
    again = resampled_map(matches, 50, seed=1)
    monkeypatch.setattr(bootstrap, "BLOCK", 300)  # a few draws at a time
    by_blocks = resampled_map(matches, 50, seed=1)
    for metric in once:
        assert np.array_equal(once[metric], again[metric])
        assert once[metric] == pytest.approx(by_blocks[metric], abs=1e-12)
        assert not np.array_equal(once[metric], other[metric])


def test_a_system_does_not_differ_from_itself(scene):
    made = scene(5)
    matches = match(made.records, made.detections, 3)
    for result in paired_difference(matches, matches, draws=100).values():
        assert (result.difference, result.low, result.high) == (0.0, 0.0, 0.0)
        assert not result.excludes_zero


def test_a_clearly_worse_system_differs_and_pairing_narrows(scene):
    made = scene(6, n_images=60)
    a = match(made.records, made.detections, 3)
    b = match(made.records, thinned(made.detections, 0.7), 3)
    forth, back = paired_difference(a, b)["area"], paired_difference(b, a)["area"]
    assert 0 < forth.low < forth.difference < forth.high
    assert forth.excludes_zero and back.excludes_zero
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low), abs=1e-12)
    unpaired = resampled_map(a, seed=1)["area"] - resampled_map(b, seed=2)["area"]
    low, high = interval(unpaired)
    assert forth.high - forth.low < high - low


def test_other_records_cannot_be_paired(scene):
    one, other = scene(7), scene(8)
    with pytest.raises(ValueError, match="same images"):
        paired_difference(
            match(one.records, one.detections, 3), match(other.records, other.detections, 3)
        )
    with pytest.raises(ValueError, match="same images"):
        paired_difference(
            match(one.records, one.detections, 3), match(one.records, one.detections, 4)
        )


def test_a_class_absent_from_a_draw_is_left_out_of_its_mean(record, detected):
    # Class 1, in the first image, is found; class 2, in the second, is not. A draw of both
    # images has a mean of 1/2; of the first twice 1, of the second twice 0.
    box = [[0.0, 0.0, 10.0, 10.0]]
    records = [record("a", box, [1]), record("b", box, [2])]
    matches = match(records, {"a": detected(box, [0.9])}, 3)
    samples = resampled_map(matches, draws=200)["area"]
    weights = bootstrap.draw_images(2, 200, 0)
    assert np.array_equal(samples, weights[0] / 2)
    assert set(samples) == {0.0, 0.5, 1.0}


def test_nothing_to_be_found_is_nan(record):
    for records in ([record("a", [])], []):
        matches = match(records, {}, 2)
        samples = resampled_map(matches, draws=5)
        assert np.isnan(samples["voc07"]).all() and np.isnan(samples["area"]).all()
        result = paired_difference(matches, matches, draws=5)["voc07"]
        assert math.isnan(result.low) and not result.excludes_zero
