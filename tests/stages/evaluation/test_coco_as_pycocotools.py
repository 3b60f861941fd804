"""All twelve of COCO's numbers, of files, equal to pycocotools' own to the last bit."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.data.coco import COCOFolder
from stages.evaluation.coco_ap import coco_evaluation
from stages.evaluation.detections_io import load_detections, sizes_of
from stages.evaluation.masks import true_masks

SHARED = Path(__file__).parents[3] / "../shared/data"
WIDTH, HEIGHT = 200, 160
CATEGORIES = [33, 7, 12, 90]  # as a file may list them; no object is of the last
KINDS = ["bbox", "segm"]


def polygon(x: float, y: float, w: float, h: float) -> list[float]:
    """A diamond in a box, so that its area is not the box's."""
    return [x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h, x, y + h / 2]


def run_lengths(x: float, y: float, w: float, h: float) -> dict[str, Any]:
    """Of the diamond, or of the box where that is too flat, as results have them."""
    (runs,) = coco_mask.frPyObjects([polygon(x, y, w, h)], HEIGHT, WIDTH)
    return {"size": [HEIGHT, WIDTH], "counts": runs["counts"].decode()}


def instances(annotations: list[dict[str, Any]], images: list[int]) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in images
        ],
        "categories": [{"id": number, "name": f"class {number}"} for number in CATEGORIES],
        "annotations": [{"id": i, **one} for i, one in enumerate(annotations, start=1)],
    }


def annotation(image: int, category: int, box: list[float], **more: Any) -> dict[str, Any]:
    crowd = more.get("iscrowd", 0)
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "iscrowd": 0,
        "area": box[2] * box[3] / 2,
        "segmentation": run_lengths(*box) if crowd else [polygon(*box)],
        **more,
    }


def detection(image: int, category: int, box: list[float], score: float) -> dict[str, Any]:
    row = {"image_id": image, "category_id": category, "bbox": box, "score": score}
    return {**row, "segmentation": run_lengths(*box)}


def both(
    folder: Path, truth: dict[str, Any], found: list[dict[str, Any]], kind: str
) -> tuple[list[float], list[float]]:
    """Our twelve numbers and pycocotools', of the same two files."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    file = folder / "annotations" / "instances_val.json"
    file.write_text(json.dumps(truth))
    for image in truth["images"]:
        (folder / image["file_name"]).touch()
    results = folder / "results.json"
    results.write_text(json.dumps(found))
    return ours(COCOFolder(folder, "made", "val", "val"), results, kind), theirs(
        file, results, kind
    )


def ours(data: COCOFolder, results: Path, kind: str) -> list[float]:
    detections = load_detections(results, data.category_ids, sizes_of(data.test))
    masks = true_masks(data.test) if kind == "segm" else None
    stats = coco_evaluation(data.test, detections, len(data.classes), masks).stats
    return [float(value) for value in stats]


def theirs(file: Path, results: Path, kind: str) -> list[float]:
    rows = json.loads(results.read_text())
    if kind == "segm":  # beside a box, pycocotools would take that one's area for the mask's
        rows = [{key: row[key] for key in row if key != "bbox"} for row in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        evaluation = COCOeval(truth, truth.loadRes(rows), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


# Numbers that no float holds exactly, and whole ones.
PLACES = st.integers(-300, 1900).map(lambda tenths: tenths / 10) | st.integers(0, 190)
SIDES = st.sampled_from([20, 20.0, 33.3, 7.7, 40.1, 100, 0.3, 64])
# Of a side, so that overlaps lie on COCO's thresholds, as nearly as floats may.
SHARES = st.sampled_from([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1, 0.49, 1 / 0.9])
SCORES = st.sampled_from([0.9, 0.5, 0.5, 0.25, 0.1, 1 / 3])
IMAGES = [70, 9, 100, 8, 71]  # neither by number nor by name


@st.composite
def files(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    objects = draw(
        st.lists(
            st.tuples(
                st.sampled_from(IMAGES), st.sampled_from(CATEGORIES[:3]), PLACES, PLACES,
                SIDES, SIDES, st.integers(0, 5).map(lambda n: int(n == 0)),
                st.sampled_from([None, 0, 1023.9, 1024, 9216, 1e4]),
            ),
            min_size=1,
            max_size=12,
        )
    )  # fmt: skip
    annotations, found, seen = [], [], set()
    for image, category, x, y, w, h, crowd, area in objects:
        more = {} if area is None else {"area": area}
        # Some of it is in the image, or it is not there at all; nor is it there twice.
        x, y = max(x, 1 - w), min(max(y, 1 - h), 150)
        if (image, category, x, y, w, h) in seen:
            continue
        seen.add((image, category, x, y, w, h))
        annotations.append(annotation(image, category, [x, y, w, h], iscrowd=crowd, **more))
        for share, score in draw(st.lists(st.tuples(SHARES, SCORES), max_size=3)):
            found.append(detection(image, category, [x, y, w * share, h], score))
    for image, category in draw(
        st.lists(st.tuples(st.sampled_from(IMAGES), st.sampled_from(CATEGORIES[:3])), max_size=3)
    ):
        found.append(detection(image, category, [150, 120, 20, 20], draw(SCORES)))
    # A class that is seen in crowds alone is none of ours.
    for category in {row["category_id"] for row in [*annotations, *found]}:
        annotations.append(annotation(9, category, [3.3, 4.4, 20, 20]))
    found.append(detection(9, annotations[-1]["category_id"], [3.3, 4.4, 20, 16], 0.5))
    return instances(annotations, draw(st.permutations(IMAGES))), draw(st.permutations(found))


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(made=files())
def test_all_twelve_numbers(tmp_path: Path, kind: str, made: Any) -> None:
    mine, cocos = both(tmp_path, *made, kind)
    assert mine == cocos


@pytest.mark.parametrize(
    ("box", "width", "thresholds"),
    [
        ([73.07, 95.93, 10, 10], 8, 7),  # 0.5 to 0.8, in float32 0.79999984
        # As corners other sums, whichever of the two is made one: 53.7 + 40.1 - 53.7 is more than 40.1.
        ([53.7, 85.7, 40.1, 20], 24.06, 3),  # the object: less than 0.6
        ([82.9, 89.1, 10.0, 40.1], 9.0, 8),  # the detection: 0.9, which it is not
    ],
)
def test_an_overlap_on_a_threshold(
    tmp_path: Path, box: list[float], width: float, thresholds: int
) -> None:
    truth = instances([annotation(9, 7, box)], [9])
    found = [detection(9, 7, [*box[:2], width, box[3]], 0.5)]
    mine, cocos = both(tmp_path, truth, found, "bbox")
    assert mine == cocos
    assert mine[0] == pytest.approx(thresholds / 10)


def test_equal_scores_in_two_images_go_by_the_images_numbers(tmp_path: Path) -> None:
    # The true one is in image 9, which the file and the results list after 70.
    truth = instances([annotation(9, 7, [10, 10, 20, 20])], [70, 9])
    false, true = (detection(image, 7, [10, 10, 20, 20], 0.5) for image in (70, 9))
    mine, cocos = both(tmp_path, truth, [false, true], "bbox")
    assert mine == cocos
    assert mine[0] == pytest.approx(1.0)


def test_an_object_past_the_edge_is_compared_whole(tmp_path: Path) -> None:
    box = [190, 40, 20, 20]  # of which half is in the image
    truth = instances([annotation(9, 7, box)], [9])
    for found, expected in ((box, 1.0), ([190, 40, 10, 20], 0.1)):
        mine, cocos = both(tmp_path, truth, [detection(9, 7, found, 0.5)], "bbox")
        assert mine == cocos
        assert mine[0] == pytest.approx(expected)


def test_small_and_large_go_by_the_files_area(tmp_path: Path) -> None:
    # 35 by 35 is medium; the file says that the object covers 900 of its 1225 pixels.
    box = [10, 10, 35, 35]
    truth = instances([annotation(9, 7, box, area=900)], [9])
    mine, cocos = both(tmp_path, truth, [detection(9, 7, box, 0.5)], "bbox")
    assert mine == cocos
    assert mine[3:6] == [pytest.approx(1.0), -1.0, -1.0]


def test_names_for_numbers(tmp_path: Path) -> None:
    boxes = [annotation(9, 7, [10, 10, 20, 20])]
    truth = instances(boxes, [70, 9])
    found = [detection(image, 7, [10, 10, 20, 20], 0.5) for image in (70, 9)]
    for row in (*truth["images"], *truth["annotations"], *found):
        key = "image_id" if "image_id" in row else "id"
        row[key] = {70: "z", 9: "a"}[row[key]]
    mine, cocos = both(tmp_path, truth, found, "bbox")
    assert mine == cocos
    assert mine[0] == pytest.approx(1.0)


def test_an_annotation_numbered_0_can_be_found(tmp_path: Path) -> None:
    """The one departure: pycocotools reads its own 0 as "matched with nothing"."""
    truth = instances([annotation(9, 7, [10, 10, 20, 20])], [9])
    truth["annotations"][0]["id"] = 0
    mine, cocos = both(tmp_path, truth, [detection(9, 7, [10, 10, 20, 20], 0.5)], "bbox")
    assert mine[0] == pytest.approx(1.0)
    assert cocos[0] == 0


@pytest.mark.skipif(not (SHARED / "coco128").is_dir(), reason="no coco128 beside the checkout")
@pytest.mark.parametrize("kind", KINDS)
def test_part_of_coco_itself(tmp_path: Path, kind: str) -> None:
    file = SHARED / "coco128" / "annotations" / "instances_train2017.json"
    rng = np.random.default_rng(0)
    truth = json.loads(file.read_text())
    size = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    found = []
    for one in truth["annotations"]:
        x, y, w, h = one["bbox"]
        for _ in range(rng.integers(0, 3)):
            share = rng.choice([0.5, 0.75, 0.8, 0.9, 0.95, 1.0])
            box = [x, y, round(w * share, 2), h]
            right, lower = x + box[2], y + h
            outline = [x, y, right, y, right, lower, x, lower]
            (runs,) = coco_mask.frPyObjects([outline], *size[one["image_id"]])
            runs = {"size": list(size[one["image_id"]]), "counts": runs["counts"].decode()}
            row = {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": box}
            score = float(rng.choice([0.9, 0.8, 0.7, 0.3]))
            found.append({**row, "score": score, "segmentation": runs})
    results = tmp_path / "results.json"
    results.write_text(json.dumps(found))
    data = COCOFolder(SHARED / "coco128", "coco128", "train2017", "train2017")
    mine = ours(data, results, kind)
    assert mine == theirs(file, results, kind)
    assert 0.05 < mine[0] < 0.95
