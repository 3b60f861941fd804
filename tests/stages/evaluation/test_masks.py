"""Masks to compare: read from any record, and overlapping as their pixels do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools import mask as coco

from stages.errors import InputError
from stages.evaluation.masks import are_of_masks, overlaps_of_masks, true_masks

MASKS = st.integers(0, 3).flatmap(lambda n: arrays.arrays(bool, (n, 5, 7)))


def encoded(masks):
    """Of bool [N, H, W]."""
    return [coco.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]


def plain_overlaps(masks, true):
    result = np.zeros((len(masks), len(true)))
    for i, a in enumerate(masks):
        for j, b in enumerate(true):
            union = int((a | b).sum())
            result[i, j] = (a & b).sum() / union if union else 0.0
    return result


@settings(max_examples=100)
@given(MASKS, MASKS)
def test_overlaps_are_those_of_the_pixels(masks, true):
    overlaps = overlaps_of_masks(encoded(masks), encoded(true))
    assert overlaps.dtype == np.float64
    assert np.array_equal(overlaps, plain_overlaps(masks, true))


def test_masks_of_outlines_and_of_files(tmp_path, record, masked, filled):
    boxes = [[3, 1, 6, 9], [0, 0, 2, 400]]
    outlines = masked(record("a", boxes), [filled(box) for box in boxes])
    drawn = np.zeros((400, 400), np.uint8)
    for value, (x1, y1, x2, y2) in zip((5, 2), boxes, strict=True):
        drawn[y1:y2, x1:x2] = value
    Image.fromarray(drawn).save(tmp_path / "b.png")
    of_file = replace(
        record("b", [*boxes, [0, 0, 9, 9]]),
        mask_path=tmp_path / "b.png",
        mask_ids=np.array([5, 2, 9]),
    )
    nothing = record("c", [])  # has no masks, and needs none
    masks = true_masks([outlines, of_file, nothing])
    assert [mask["counts"] for mask in masks["a"]] == list(outlines.segmentations)
    assert masks["b"][:2] == masks["a"]
    assert coco.area(masks["b"]).tolist() == [24, 800, 0]  # nobody has the value 9
    assert masks["c"] == []


def test_an_object_without_a_mask_has_none(record, masked, filled, capsys):
    boxes = [[3, 1, 6, 9], [0, 0, 2, 4]]
    some = masked(record("a", boxes), [None, filled(boxes[1])])
    masks = true_masks([some, record("b", boxes)])
    assert masks["a"][0] is None and masks["b"] == [None, None]
    assert masks["a"][1]["counts"] == filled(boxes[1])
    assert capsys.readouterr().err == ""
    gone = replace(record("d", boxes), mask_path=some.path, mask_ids=np.array([1, 2]))
    with pytest.raises(InputError, match="not readable"):
        true_masks([gone])


def test_masks_that_nothing_can_match_are_named(record, masked, filled, capsys):
    boxes = [[3, 1, 6, 9], [3, 1, 6, 9], [3, 1, 6, 9], [0, 0, 2, 2]]
    drawn = [filled([3, 1, 6, 9]), filled([6, 1, 8, 9]), filled([5, 8, 9, 9]), filled([0, 0, 0, 0])]
    made = masked(record("a", boxes), drawn)
    true_masks([made])
    assert capsys.readouterr().err == (
        f"masks to be found that are empty: 1: object 4 of {made.path}\n"
        f"masks to be found that lie outside their object's box: 1: object 2 of {made.path}\n"
    )
    true_masks([masked(record("b", boxes[:1]), drawn[:1])])
    assert capsys.readouterr().err == ""


def test_where_objects_masks_are_missing_it_is_said(record, detected, masked, filled, capsys):
    box = [[0, 0, 9, 9]]
    records = [record(name, box) for name in "abcde"]
    records[1] = masked(records[1], [filled(box[0])])
    plain = detected(box, [0.5])
    assert not are_of_masks(records, {"a": plain})
    assert capsys.readouterr().err == ""
    with_mask = {"a": {**plain, "segmentation": np.array([filled(box[0])])}}
    assert are_of_masks(records, with_mask)
    first = ", ".join(f"object 1 of {records[i].path}" for i in (0, 2, 3))
    assert capsys.readouterr().err == (
        f"objects without a mask, neither found nor missed as masks: 4: {first}, ..\n"
    )
    records[1] = record("b", box)
    assert not are_of_masks(records, with_mask)
    first = ", ".join(f"object 1 of {records[i].path}" for i in (0, 1, 2))
    assert capsys.readouterr().err == (
        f"masks are not evaluated, since objects have none: 5: {first}, ..\n"
    )


def test_masks_are_compared_only_where_all_are_known(record, detected, masked, filled):
    box = [[0, 0, 9, 9]]
    known, unknown, nothing = masked(record("a", box), [filled(box[0])]), record("a", box), []
    plain = detected(box, [0.5])
    with_mask = {**plain, "segmentation": np.array([filled(box[0])])}
    assert are_of_masks([known, record("b", nothing)], {"a": with_mask})
    assert are_of_masks([record("a", nothing)], {"a": with_mask})
    assert are_of_masks([known], {"a": with_mask, "b": detected([], [])})
    assert not are_of_masks([unknown], {"a": with_mask})
    assert not are_of_masks([known], {"a": plain})
    assert not are_of_masks([known], {"a": with_mask, "b": plain})
    assert not are_of_masks([known], {})
    assert not are_of_masks([known], {"a": detected([], [])})
