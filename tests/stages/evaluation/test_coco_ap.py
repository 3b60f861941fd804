"""pycocotools on records: odd ids, nothing found, nothing there, and what it ignores."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.evaluation.coco_ap import coco_ap
from stages.evaluation.detections_io import save_detections, sizes_of
from stages.evaluation.masks import true_masks


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_as_pycocotools_on_files(scene, rectangles, tmp_path, capsys, kind):
    """The long way: annotations and results written, read by COCO's own loaders."""
    made = rectangles(scene(1, n_images=20))
    masks = true_masks(made.records) if kind == "segm" else None
    numbers = {record.image_id: 100 + i for i, record in enumerate(made.records)}
    annotations = []
    for record in made.records:
        for (x1, y1, x2, y2), label, counts in zip(
            record.boxes.tolist(), record.labels, record.segmentations, strict=True
        ):
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": numbers[record.image_id],
                    "category_id": int(label) + 10,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "segmentation": {"size": [400, 400], "counts": counts.decode()},
                }
            )
    truth = {
        "info": {},
        "images": [{"id": number, "width": 400, "height": 400} for number in numbers.values()],
        "annotations": annotations,
        "categories": [{"id": k} for k in (11, 12, 13)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    renamed = {numbers[name]: found for name, found in made.detections.items()}
    sizes = {numbers[image_id]: size for image_id, size in sizes_of(made.records).items()}
    save_detections(tmp_path / "found.json", renamed, [11, 12, 13], sizes)

    coco = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()

    values = coco_ap(made.records, made.detections, 3, masks)
    assert capsys.readouterr().out == ""
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    expected = {**dict(zip(names, evaluation.stats, strict=False)), "AR100": evaluation.stats[8]}
    expected = {name: math.nan if v < 0 else v for name, v in expected.items()}
    assert values == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert 0 < values["AP"] < values["AP50"] < 1


def test_the_first_object_and_detection_count(record, detected):
    # An id of 0 would read as "matched with nothing".
    records = [record("a", [[0, 0, 10, 10]])]
    values = coco_ap(records, {"a": detected([[0, 0, 10, 10]], [0.9])}, 1)
    assert values["AP"] == pytest.approx(1.0)
    assert values["APs"] == pytest.approx(1.0)
    assert math.isnan(values["APl"])


def test_a_hundred_detections_count_for_recall(record, detected):
    # 20 objects, all found: AR10 is a half, AR100 is 1.
    boxes = [[20.0 * i, 0.0, 20.0 * i + 10, 10.0] for i in range(20)]
    found = detected(boxes, np.linspace(1, 0.5, 20).tolist())
    assert coco_ap([record("a", boxes)], {"a": found}, 1)["AR100"] == pytest.approx(1.0)


def test_nothing_reported_and_nothing_there(record, detected):
    objects = [record("a", [[0, 0, 10, 10]]), record("b", [])]
    assert coco_ap(objects, {}, 2)["AP"] == 0.0
    assert coco_ap(objects, {"a": detected([], [])}, 2)["AR100"] == 0.0
    for records in ([record("b", [])], []):
        assert all(math.isnan(value) for value in coco_ap(records, {}, 2).values())


def test_false_positives_in_images_without_objects_count(record, detected):
    box = [[0.0, 0.0, 10.0, 10.0]]
    records = [record("a", box), record("b", [])]
    alone = coco_ap(records, {"a": detected(box, [0.5])}, 1)
    with_false = coco_ap(records, {"a": detected(box, [0.5]), "b": detected(box, [0.9])}, 1)
    assert alone["AP50"] == pytest.approx(1.0)
    assert with_false["AP50"] == pytest.approx(0.5)


@pytest.mark.parametrize("flag", ["difficult", "iscrowd"])
def test_difficult_objects_are_ignored(record, detected, flag):
    boxes = [[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]]
    records = [record("a", boxes, **{flag: [False, True]})]
    missed = coco_ap(records, {"a": detected(boxes[:1], [0.5])}, 1)
    on_it = [boxes[0], boxes[1], boxes[1]]  # any number of them
    found = coco_ap(records, {"a": detected(on_it, [0.5, 0.9, 0.8])}, 1)
    assert missed["AP"] == found["AP"] == pytest.approx(1.0)
    # A small box inside a crowd is excused, as in COCO; inside a difficult object it is
    # false, as in VOC: the object comes second, after a false positive.
    inside = detected([boxes[0], [51.0, 51.0, 54.0, 54.0]], [0.5, 0.7])
    expected = 1.0 if flag == "iscrowd" else 0.5
    assert coco_ap(records, {"a": inside}, 1)["AP"] == pytest.approx(expected)


def test_numpy_of_any_float_does(record, detected):
    records = [record(7, [[0, 0, 10, 10]])]
    found = {
        key: value.astype(np.float32) for key, value in detected([[0, 0, 10, 10]], [1]).items()
    }
    assert coco_ap(records, {7: found}, 1)["AP"] == pytest.approx(1.0)


def ellipses(boxes, size=400):
    """bool [N, H, W], the ellipse in each box."""
    y, x = np.mgrid[:size, :size] + 0.5
    x1, y1, x2, y2 = np.asarray(boxes, float).reshape(-1, 4).T[:, :, None, None]
    across, down = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)
    return across**2 + down**2 <= 1


def test_areas_are_those_of_what_is_compared(record, detected, masked, rle):
    # 35 x 35 is no small box (1225 pixels, from 1024 on), its ellipse is small (about 962).
    box = [[0, 0, 35, 35]]
    mask = rle(ellipses(box)[0])
    records = [masked(record("a", box), [mask])]
    found = {**detected(box, [0.9]), "segmentation": np.array([mask])}
    of_boxes = coco_ap(records, {"a": found}, 1)
    of_masks = coco_ap(records, {"a": found}, 1, true_masks(records))
    assert of_boxes["APm"] == of_masks["APs"] == pytest.approx(1.0)
    assert math.isnan(of_boxes["APs"]) and math.isnan(of_masks["APm"])


@pytest.mark.parametrize("flag", ["difficult", "iscrowd"])
def test_difficult_masks_are_ignored(record, detected, masked, filled, flag):
    # As of boxes: a small mask inside is excused by a crowd, not by a difficult object.
    boxes = [[0, 0, 10, 10], [50, 50, 60, 60], [51, 51, 54, 54]]
    masks = [filled(box) for box in boxes]
    records = [masked(record("a", boxes[:2], **{flag: [False, True]}), masks[:2])]
    true = true_masks(records)
    for which, expected in (([0, 1, 1], 1.0), ([0, 2], 1.0 if flag == "iscrowd" else 0.5)):
        found = detected([boxes[i] for i in which], [0.5, 0.9, 0.8][: len(which)])
        found["segmentation"] = np.array([masks[i] for i in which])
        assert coco_ap(records, {"a": found}, 1, true)["AP"] == pytest.approx(expected)


def test_empty_masks_are_neither_found_nor_find(record, detected, masked, filled):
    box, nothing = [[0, 0, 9, 9]], filled([0, 0, 0, 0])
    records = [masked(record("a", box * 2), [nothing, filled(box[0])])]
    found = {**detected(box * 2, [0.8, 0.9])}
    found["segmentation"] = np.array([filled(box[0]), nothing])
    # One of two found, after a false one: 51 recalls of 101 at a precision of 1/2.
    values = coco_ap(records, {"a": found}, 1, true_masks(records))
    assert values["AP"] == pytest.approx(51 / 101 / 2)


def test_masks_keep_what_they_were_given(record, detected, masked, filled):
    box = [[0, 0, 9, 9]]
    records = [masked(record("a", box), [filled(box[0])])]
    true = true_masks(records)
    found = {**detected(box, [0.8]), "segmentation": np.array([filled(box[0])])}
    coco_ap(records, {"a": found}, 1, true)
    assert coco_mask.area(true["a"]).tolist() == [81]
    assert true == true_masks(records)
