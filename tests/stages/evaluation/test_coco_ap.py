"""pycocotools on records: odd ids, nothing found, nothing there, and what it ignores."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.evaluation.coco_ap import coco_ap
from stages.evaluation.detections_io import save_detections


def test_as_pycocotools_on_files(scene, tmp_path, capsys):
    """The long way: annotations and results written, read by COCO's own loaders."""
    made = scene(1, n_images=20)
    numbers = {record.image_id: 100 + i for i, record in enumerate(made.records)}
    annotations = []
    for record in made.records:
        for (x1, y1, x2, y2), label in zip(record.boxes.tolist(), record.labels, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": numbers[record.image_id],
                    "category_id": int(label) + 10,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    truth = {
        "info": {},
        "images": [{"id": number} for number in numbers.values()],
        "annotations": annotations,
        "categories": [{"id": k} for k in (11, 12, 13)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    renamed = {numbers[name]: found for name, found in made.detections.items()}
    save_detections(tmp_path / "found.json", renamed, [11, 12, 13])

    coco = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()

    values = coco_ap(made.records, made.detections, 3)
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
