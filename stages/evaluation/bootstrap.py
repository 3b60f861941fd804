"""How far mAP would move with other test images: the percentile bootstrap, and its paired form.

I images, B draws, K classes; n detections of one class by descending score, T of them true.
AP and mAP are fractions, 0..1.

A draw takes I images with replacement. Matching happens within an image, so a draw changes
no outcome: an image drawn w times counts its detections and objects w times. With weights
1, 2, 3 .. in place of copies the result is exact: copies of a true positive raise precision
step by step, so only the last step counts; copies of a false one lower it, so only what was
before counts.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from stages.evaluation.voc_ap import (
    IGNORED,
    TRUE,
    ClassMatches,
    ap_11_point,
    ap_11_point_devkit,
    ap_area,
    mean_over_classes,
)

Metric: TypeAlias = Literal["voc07", "area"]

# Detections times draws that are in memory at once.
BLOCK = 4_000_000


@dataclass(frozen=True)
class Difference:
    """mAP of one system less that of another, on the same images.

    Attributes:
        difference: over all images, once each; -1..1.
        low, high: the 95 % interval; nan if no draw has an object to be found.
        excludes_zero: whether the systems may be said to differ.
    """

    difference: float
    low: float
    high: float
    excludes_zero: bool


def resampled_map(
    matches: Sequence[ClassMatches], draws: int = 1000, seed: int = 0
) -> dict[Metric, np.ndarray]:
    """mAP on each draw of the test images, with both APs.

    A class of which a draw has no object to be found is left out of that draw's mean.

    Returns:
        float64 [B], 0..1, nan where a draw has nothing to be found at all. Equal seeds
        and numbers of images draw the same images.
    """
    n_images = len(matches[0].positives) if matches else 0
    weights = draw_images(n_images, draws, seed)
    per_class = [_weighted_ap(of_class, weights) for of_class in matches]
    return {
        "voc07": mean_known([voc07 for voc07, _ in per_class], draws),
        "area": mean_known([area for _, area in per_class], draws),
    }


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of float [B]; draws that are nan do not count."""
    known = samples[~np.isnan(samples)]
    if len(known) == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def paired_difference(
    matches_a: Sequence[ClassMatches],
    matches_b: Sequence[ClassMatches],
    draws: int = 1000,
    seed: int = 0,
) -> dict[Metric, Difference]:
    """mAP of a less that of b, with the interval over draws that both share.

    What makes an image easy makes it easy for both, so this interval is usually narrower
    than the two systems' own suggest.

    Raises:
        ValueError: the two were not matched with the same records.
    """
    same = len(matches_a) == len(matches_b) and all(
        np.array_equal(a.positives, b.positives) for a, b in zip(matches_a, matches_b, strict=True)
    )
    if not same:
        raise ValueError("a paired difference needs the same images, objects and classes")
    samples_a = resampled_map(matches_a, draws, seed)
    samples_b = resampled_map(matches_b, draws, seed)
    result: dict[Metric, Difference] = {}
    for metric in samples_a:
        low, high = interval(samples_a[metric] - samples_b[metric])
        difference = mean_ap(matches_a, metric) - mean_ap(matches_b, metric)
        result[metric] = Difference(difference, low, high, low > 0 or high < 0)
    return result


def mean_ap(
    matches: Sequence[ClassMatches], metric: Literal["voc07", "voc07_devkit", "area"]
) -> float:
    """mAP over all images, once each, 0..1; nan if no class has an object to be found."""
    aps = {"voc07": ap_11_point, "voc07_devkit": ap_11_point_devkit, "area": ap_area}
    ap = aps[metric]
    return mean_over_classes([ap(of_class.found, of_class.n_positives) for of_class in matches])


def draw_images(n_images: int, draws: int, seed: int) -> np.ndarray:
    """int32 [I, B]: how often each draw has each image. Columns sum to I."""
    weights = np.zeros((n_images, draws), np.int32)
    generator = np.random.default_rng(seed)
    for b in range(draws):
        if n_images:
            drawn = generator.integers(n_images, size=n_images)
            weights[:, b] = np.bincount(drawn, minlength=n_images)
    return weights


def _weighted_ap(matches: ClassMatches, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One class's 11-point and area AP, float64 [B] each, where image i counts weights[i, b] times.

    nan where no object to be found has a weight.
    """
    draws = weights.shape[1]
    positives = matches.positives @ weights
    counted = matches.outcome != IGNORED
    image = matches.image[counted]
    true = np.flatnonzero(matches.outcome[counted] == TRUE)
    voc07, area = np.zeros(draws), np.zeros(draws)
    if len(true):
        # The best precision at a recall is had at a true positive, so the curve is kept at
        # those alone, and whatever comes after the last of them is of no consequence.
        image = image[: true[-1] + 1]
        after_last_true = np.concatenate([[0], true[:-1] + 1])
        block = max(1, BLOCK // len(image))
        for first in range(0, draws, block):
            b = slice(first, first + block)
            gained = weights[image[true], b]  # [T, block], as are all below
            tp = gained.cumsum(axis=0, dtype=np.int64)
            reported = np.add.reduceat(weights[image, b], after_last_true, axis=0)
            reported = reported.cumsum(axis=0, dtype=np.int64)
            precision = tp / np.maximum(reported, 1)  # nothing reported, nothing found: 0
            best_from_here = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            area[b] = (gained * best_from_here).sum(axis=0) / np.maximum(positives[b], 1)
            for k in range(11):
                reached = 10 * tp >= k * positives[b]
                at = reached.argmax(axis=0)[None]
                best = np.take_along_axis(best_from_here, at, axis=0)[0]
                voc07[b] += np.where(reached[-1], best, 0.0)
    voc07 /= 11  # once, at the end: eleven times 1 / 11 is more than 1
    voc07[positives == 0] = np.nan
    area[positives == 0] = np.nan
    return voc07, area


def mean_known(per_class: list[np.ndarray], draws: int) -> np.ndarray:
    """The mean [B] of K arrays [B] over what is not nan; nan where all are."""
    values = np.array(per_class).reshape(len(per_class), draws)
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
