"""Reading the COCO layout: ids kept, masks drawn when asked for, every fault named by file and id."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO

from stages.data.coco import COCOFolder
from stages.data.coco_file import read_coco
from stages.data.decode import image_of
from stages.data.faults import Faults
from stages.data.images import masks_of
from stages.errors import InputError

SHARED = Path(__file__).parents[3] / "../shared/data"
Make = Callable[..., Path]
Change = Callable[..., None]
CAT, DOG = ("cat", 2, 3, 20, 30), ("dog", 9.5, 1, 40, 33.25)


@pytest.fixture
def made(make_coco: Make) -> Path:
    return make_coco({"one": [CAT, DOG], "two": [], "three": [CAT]})


@pytest.fixture
def train(made: Path) -> Path:
    return made / "annotations" / "instances_train.json"


def opened(root: Path, *splits: str) -> COCOFolder:
    return COCOFolder(root, "made", *splits)


def fault_of(path: Path) -> str:
    faults = Faults("made")
    with faults.caught():
        read_coco(path, faults)
    message = faults.lines[0]
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 400
    return message.removeprefix(f"{path}: ")


# ------------------------------------------------------------------ records


def test_a_record(made: Path) -> None:
    data = opened(made)
    one, two = data.train
    assert one.path == made / "train" / "one.jpg"
    assert (one.width, one.height) == (48, 40)
    assert one.boxes.tolist() == [[2, 3, 20, 30], [9.5, 1, 40, 33.25]]
    assert one.boxes.dtype == np.float32
    assert one.labels.tolist() == [2, 1]
    assert one.labels.dtype == np.int64
    assert one.difficult.tolist() == one.iscrowd.tolist() == [False, False]
    assert two.boxes.shape == (0, 4)
    assert two.labels.shape == two.iscrowd.shape == (0,)
    assert masks_of(two).shape == (0, 40, 48)
    assert image_of(two).shape == (40, 48, 3)
    assert [record.path.stem for record in data.test] == ["three"]


def test_classes_are_those_of_the_training_split_with_the_datas_own_ids(
    made: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    assert opened(made).classes == ("dog", "cat")  # emu is named, but none is seen
    assert opened(made).category_ids == (5, 17)
    change(train, lambda data: data["annotations"].pop(1))
    data = opened(made, "val", "train")
    change(train, lambda data: data["annotations"][0].update(category_id=30))
    assert opened(made, "val", "train").classes == data.classes == ("cat",)
    assert opened(made, "val", "train").test[0].labels.tolist() == []
    assert "dropped 1 objects of class 'emu', not in instances_val.json" in capsys.readouterr().err


def test_a_class_that_is_only_seen_in_crowds_cannot_be_learnt(
    made: Path, train: Path, change: Change
) -> None:
    change(train, lambda data: data["annotations"][1].update(iscrowd=1))
    data = opened(made)
    assert data.classes == ("cat",)
    assert data.train[0].labels.tolist() == [1]


def test_crowds_are_kept(made: Path, train: Path, change: Change) -> None:
    mask = np.zeros((40, 48), np.uint8)
    mask[10:20, 5:40] = 1
    compressed = coco.encode(np.asfortranarray(mask))
    lengths = [5 * 40 + 10, *[10, 30] * 34, 10, 8 * 40 + 20]
    crowd = {"image_id": 1, "iscrowd": 1, "category_id": 17, "bbox": [5, 10, 35, 10]}

    def add(data: Any) -> None:
        for i, counts in enumerate((compressed["counts"].decode(), lengths)):
            segmentation = {"size": [40, 48], "counts": counts}
            data["annotations"].append({**crowd, "id": i, "segmentation": segmentation})

    change(train, add)
    record = opened(made).train[0]
    assert record.iscrowd.tolist() == [False, False, True, True]
    assert record.labels.tolist() == [2, 1, 2, 2]
    masks = masks_of(record).numpy()
    assert (masks[2] == mask).all()
    assert (masks[3] == mask).all()
    rows, columns = np.nonzero(masks[0])
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [2, 3, 20, 30]


def test_without_outlines_there_are_no_masks(
    made: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    for none in (None, []):

        def bare(data: Any, none: Any = none) -> None:
            for annotation in data["annotations"]:
                annotation.update(segmentation=none)

        change(train, bare)
        record = opened(made).train[0]
        assert not record.has_masks
        assert record.with_mask.tolist() == [False, False]
        with pytest.raises(InputError, match=r"one\.jpg: has no masks"):
            masks_of(record)
    assert capsys.readouterr().err == ""
    assert opened(made).test[0].has_masks


@pytest.mark.parametrize("none", [None, [], ...])
def test_an_object_without_an_outline_leaves_the_others_theirs(
    made: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str], none: Any
) -> None:
    def bare(data: Any) -> None:
        data["annotations"][1]["segmentation"] = none
        if none is ...:
            del data["annotations"][1]["segmentation"]

    change(train, bare)
    record = opened(made).train[0]
    assert record.has_masks
    assert record.with_mask.tolist() == [True, False]
    assert masks_of(record).any(dim=2).any(dim=1).tolist() == [True, False]
    assert capsys.readouterr().err == (
        f"{train}: objects without a mask beside others that have one: 1: annotation 101 of 'one.jpg'\n"
    )


def test_a_crowd_without_an_outline_is_all_of_its_box(
    made: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd = {"id": 7, "image_id": 1, "iscrowd": 1, "category_id": 17, "bbox": [5, 10, 35, 20]}
    change(train, lambda data: data["annotations"].append(crowd))
    record = opened(made).train[0]
    masks = masks_of(record).numpy()
    assert masks[:2].any(axis=(1, 2)).all()  # the others' are used
    expected = np.zeros((40, 48), bool)
    expected[10:30, 5:40] = True
    assert (masks[2] == expected).all()
    assert capsys.readouterr().err == ""
    # But an object without one does not become its box.
    change(train, lambda data: data["annotations"][1].pop("segmentation"))
    record = opened(made).train[0]
    assert record.with_mask.tolist() == [True, False, True]
    assert "annotation 101 of 'one.jpg'" in capsys.readouterr().err
    # Nor do crowds alone make an image one of masks.
    change(train, lambda data: data["annotations"][0].pop("segmentation"))
    assert not opened(made).train[0].has_masks


def test_images_without_any_outline_are_no_oddity(
    made: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    def bare(data: Any) -> None:
        for thing in data["annotations"]:
            thing.pop("segmentation", None)

    change(train, bare)
    assert not opened(made).train[0].has_masks
    assert capsys.readouterr().err == ""


def test_an_outline_of_two_points_is_an_empty_mask(
    made: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    change(train, lambda data: data["annotations"][1].update(segmentation=[[1, 1, 5, 5]]))
    masks = masks_of(opened(made).train[0])
    assert masks.any(dim=2).any(dim=1).tolist() == [True, False]
    said = capsys.readouterr().err
    assert said == (
        f"{train}: outlines of less than three points, so empty masks: 1: annotation 101 of 'one.jpg'\n"
    )


def test_boxes_are_cut_to_the_image_and_dropped_without_area(
    made: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = [
        *([-5, -5, 100, 100], [47, 39, 1, 1], [46.5, 0, 3, 40]),
        *([10, 10, 0, 5], [10, 10, 5, 0], [10, 10, -3, 5], [48, 0, 5, 5], [-5, 0, 5, 5]),
    ]

    def replace(data: Any) -> None:
        one = data["annotations"][0]
        polygon = [[i, 0, i + 1, 0, i + 1, 1] for i in range(len(boxes))]
        data["annotations"] = [
            {**one, "id": i, "bbox": box, "segmentation": [polygon[i]]}
            for i, box in reversed(list(enumerate(boxes)))
        ]

    change(train, replace)
    record = opened(made).train[0]
    assert record.boxes.tolist() == [[46.5, 0, 48, 40], [47, 39, 48, 40], [0, 0, 48, 40]]
    assert record.evaluated_boxes.tolist() == [
        [46.5, 0, 49.5, 40],
        [47, 39, 48, 40],
        [-5, -5, 95, 95],
    ]
    assert record.segmentations is not None
    assert [outline[0][0] for outline in record.segmentations] == [2, 1, 0]  # masks stay with boxes
    assert capsys.readouterr().err == f"{train}: dropped 5 boxes without area\n"


def test_what_is_evaluated_is_what_the_file_says_to_the_last_bit(
    made: Path, train: Path, change: Change
) -> None:
    boxes, areas = [[0.1, 0.7, 20.2, 30.3], [40.1, 1, 9.7, 33]], [123.4, 0]

    def replace(data: Any) -> None:
        for one, box, area in zip(data["annotations"], boxes, areas, strict=True):
            one.update(bbox=box, area=area)

    change(train, replace)
    record = opened(made).train[0]
    assert record.xywh is not None and record.areas is not None and record.true_boxes is not None
    assert record.xywh.tolist() == boxes
    assert record.areas.tolist() == areas
    expected = [[0.1, 0.7, 0.1 + 20.2, 0.7 + 30.3], [40.1, 1, 40.1 + 9.7, 34]]
    assert record.true_boxes.tolist() == record.evaluated_boxes.tolist() == expected
    assert record.boxes.dtype == np.float32 and record.boxes[1, 2] == 48


@pytest.mark.parametrize("area", [None, "12", True, -1, float("nan"), float("inf"), 10**400])
def test_an_area_that_is_none_is_not_known(
    made: Path, train: Path, change: Change, area: Any
) -> None:
    change(train, lambda data: data["annotations"][0].update(area=area))
    areas = opened(made).train[0].areas
    assert areas is not None
    assert np.isnan(areas).tolist() == [True, False]


def test_records_are_light(made: Path) -> None:
    record = opened(made).train[0]
    assert len(pickle.dumps(record)) < 3000
    again = pickle.loads(pickle.dumps(record))
    assert (masks_of(again) == masks_of(record)).all()


def test_reading_needs_no_torch(made: Path) -> None:
    """Records travel to selective search's workers, which must not load it."""
    code = (
        "import sys; from pathlib import Path; from stages.data.coco import COCOFolder;"
        "COCOFolder(Path(sys.argv[1]), 'made').train; print('torch' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", code, str(made)]
    assert subprocess.run(command, capture_output=True, text=True, cwd=root).stdout == "False\n"


# ------------------------------------------------------------------ where images are


def moved(root: Path, splits: dict[str, str]) -> Path:
    for split, folder in splits.items():
        images = list((root / split).iterdir())
        (root / folder).mkdir(parents=True, exist_ok=True)
        for image in images:
            image.rename(root / folder / image.name)
    return root


@pytest.mark.parametrize(
    "folders",
    [
        {"train": "images/train", "val": "images/val"},
        {"train": "images", "val": "images"},
        {"train": "JPEGImages", "val": "JPEGImages"},
        {"train": ".", "val": "."},
        {"train": "annotations", "val": "annotations"},
    ],
)
def test_images_are_found(made: Path, folders: dict[str, str]) -> None:
    data = opened(moved(made, folders))
    assert [r.path.parent.resolve() for r in data.train] == [
        (made / folders["train"]).resolve()
    ] * 2
    assert data.test[0].path.is_file()


def test_images_of_a_split_with_a_year(made: Path) -> None:
    (made / "annotations/instances_train.json").rename(made / "annotations/train2017.json")
    assert opened(made).train[0].path == made / "train" / "one.jpg"
    (made / "train").rename(made / "train2017")
    assert opened(made).train[0].path == made / "train2017" / "one.jpg"


@pytest.mark.parametrize("prefix", ["photos/a", "images/b", "train"])
def test_file_names_with_folders(made: Path, train: Path, change: Change, prefix: str) -> None:
    moved(made, {"train": f"{prefix}/new"})

    def rename(data: Any) -> None:
        for image in data["images"]:
            image["file_name"] = f"{prefix}/new/{image['file_name']}"

    change(train, rename)
    assert opened(made).train[1].path == made / prefix / "new" / "two.jpg"


def test_an_image_that_is_not_there_is_named(made: Path) -> None:
    (made / "train" / "two.jpg").unlink()
    with pytest.raises(
        InputError, match=r"instances_train\.json: image 2: 'two\.jpg' is in none of"
    ):
        _ = opened(made).train
    (made / "train" / "two.jpg").symlink_to(made / "not fetched.jpg")
    with pytest.raises(InputError, match=r"two\.jpg"):
        _ = opened(made).fingerprint, opened(made).train


def test_ids_that_both_files_count_from_1_are_told_apart(made: Path) -> None:
    data = opened(made)
    assert [record.image_id for record in data.test] == [1]
    assert [record.image_id for record in data.train] == ["train/1", "train/2"]


def test_coco_s_own_ids_are_kept(made: Path, change: Change) -> None:
    def renumber(data: Any) -> None:
        data["images"][0]["id"] = data["annotations"][0]["image_id"] = 397133

    change(made / "annotations" / "instances_val.json", renumber)
    data = opened(made)
    assert [record.image_id for record in [*data.train, *data.test]] == [1, 2, 397133]


# ------------------------------------------------------------------ splits


def test_cocos_other_annotations_are_left_alone(made: Path) -> None:
    for kind in ("captions", "person_keypoints", "image_info"):
        for split in ("train", "val", "test"):
            (made / "annotations" / f"{kind}_{split}.json").write_text("none of ours")
    data = opened(made)
    assert (len(data.train), len(data.test)) == (2, 1)


def test_splits_by_name(made: Path, train: Path) -> None:
    shutil.copy(train, made / "annotations" / "few.json")
    assert len(opened(made, "few", "train").train) == 2
    assert len(opened(made, "few", "instances_train").test) == 2


def test_a_part_of_a_split_finds_its_images_there(made: Path, train: Path) -> None:
    shutil.copy(train, made / "annotations" / "few.json")
    assert opened(made, "few").train[1].path == made / "train" / "two.jpg"
    shutil.copy(made / "train" / "two.jpg", made / "val" / "two.jpg")
    with pytest.raises(InputError, match=r"few\.json: image 2: 'two\.jpg' could be .* or "):
        _ = opened(made, "few").train
    assert opened(made).train[1].path == made / "train" / "two.jpg"


def test_a_file_that_was_not_fetched_is_no_split(made: Path, train: Path) -> None:
    train.unlink()
    train.symlink_to(made / "not fetched.json")
    shutil.copy(made / "annotations/instances_val.json", made / "annotations/other.json")
    with pytest.raises(
        InputError, match="has val, other; none of them is the usual one to train on"
    ):
        opened(made)


def test_a_single_file_is_both_splits_until_a_part_is_held_out(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not opened(made).one_split
    (made / "annotations" / "instances_val.json").unlink()
    data = opened(made)
    assert data.one_split
    assert [r.image_id for r in data.train] == [r.image_id for r in data.test] == [1, 2]
    assert "same images" not in capsys.readouterr().err
    data = opened(made, "train", "train")
    assert "same images" in capsys.readouterr().err
    assert [r.image_id for r in data.train] == [r.image_id for r in data.test] == [1, 2]


# ------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"not json", b"\xff\xfe\x00", b"[" * 100_000, b'{"images": [}', b"1" * 5000),
    ],
)
def test_broken_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert "not readable as JSON" in fault_of(tmp_path / "a.json")


def test_a_folder_named_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    fault_of(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content",
    [
        *([], 1, None, "text", {}, {"images": []}, {"images": {}, "categories": []}),
        [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}],  # results
        {"images": [], "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}]},
    ],
)
def test_json_of_other_things(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert "not COCO's instances: has no list of " in fault_of(tmp_path / "a.json")


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("where", "key", "value", "fault"),
    [
        ("images", "id", None, "images[0] has no id"),
        ("images", "id", [1], "images[0] has no id"),
        ("images", "id", 1.5, "images[0] has no id"),
        ("images", "id", True, "images[0] has no id"),
        ("images", "id", 2, "two images have the id 2"),
        ("images", "id", "2", "two images have the id 2, as a number and as a name"),
        ("images", "id", "a\0", "images[0]: no file can hold its id, 'a\\x00'"),
        ("images", "id", "\ud800", "images[0]: no file can hold its id, '\\ud800'"),
        ("images", "id", "x" * 5000, "images[0]: no file can hold its id, 'xxx"),
        ("images", "file_name", "\udcff.jpg", "no file can hold its file_name, '\\udcff.jpg'"),
        ("categories", "name", "t\ud800", "category 17: no file can hold its name, 't\\ud800'"),
        ("images", "id", 7, "annotation 100: there is no image 1"),
        ("images", "file_name", None, "image 1: its file_name is None"),
        ("images", "file_name", "", "image 1: its file_name is ''"),
        ("images", "file_name", 5, "image 1: its file_name is 5"),
        ("images", "file_name", "../secret.jpg", "image 1: '../secret.jpg' is not a path below"),
        ("images", "file_name", "a/../../b.jpg", "is not a path below"),
        ("images", "file_name", "/etc/passwd", "image 1: '/etc/passwd' is not a path below"),
        ("images", "file_name", "..\\b.jpg", "is not a path below"),
        ("images", "file_name", "C:\\b.jpg", "is not a path below"),
        ("images", "file_name", "a\0b.jpg", "no file can hold its file_name"),
        ("images", "width", None, "image 1: size Nonex40"),
        ("images", "width", 0, "image 1: size 0x40"),
        ("images", "height", -4, "image 1: size 48x-4"),
        ("images", "height", NAN, "image 1: size 48xnan"),
        ("images", "height", INF, "image 1: size 48xinf"),
        ("images", "height", 40.5, "image 1: size 48x40.5"),
        ("images", "height", "40", "image 1: size 48x'40'"),
        ("images", "height", 10**9, "image 1: size 48x1000000000"),
        ("images", "height", [0] * 1000, "image 1: size"),
        ("categories", "id", 5, "two categories have the id 5"),
        ("categories", "id", "cat", "category 'cat': the id is not a number"),
        ("categories", "id", 10**30, "categories[0] has no id"),
        ("categories", "id", 18, "annotation 100 of 'one.jpg': there is no category 17"),
        ("categories", "name", None, "category 17: its name is None"),
        ("categories", "name", " ", "category 17: its name is ' '"),
        ("annotations", "id", None, "annotations[0] has no id"),
        ("annotations", "id", 101, "two annotations have the id 101"),
        ("annotations", "image_id", 99, "annotation 100: there is no image 99"),
        ("annotations", "image_id", None, "annotation 100: there is no image None"),
        ("annotations", "image_id", [1], "annotation 100: there is no image [1]"),
        ("annotations", "image_id", "1", "annotation 100: there is no image '1'"),
        ("annotations", "category_id", 99, "annotation 100 of 'one.jpg': there is no category 99"),
        (
            "annotations",
            "category_id",
            None,
            "annotation 100 of 'one.jpg': there is no category None",
        ),
        ("annotations", "category_id", {}, "annotation 100 of 'one.jpg': there is no category {}"),
        ("annotations", "iscrowd", 2, "annotation 100 of 'one.jpg': iscrowd is 2"),
        ("annotations", "iscrowd", "0", "annotation 100 of 'one.jpg': iscrowd is '0'"),
        ("annotations", "bbox", None, "annotation 100 of 'one.jpg': bbox None is not four numbers"),
        ("annotations", "bbox", [1, 2, 3], "bbox [1, 2, 3] is not four numbers"),
        ("annotations", "bbox", [0] * 10_000, "is not four numbers"),
        ("annotations", "bbox", [1, 2, 3, "4"], "is not four numbers"),
        ("annotations", "bbox", [1, 2, 3, NAN], "is not four numbers"),
        ("annotations", "bbox", [1, 2, INF, 3], "is not four numbers"),
        ("annotations", "bbox", [1, 2, 10**400, 3], "is not four numbers"),
        ("annotations", "bbox", {"x": 1}, "is not four numbers"),
        (
            "annotations",
            "segmentation",
            "x",
            "annotation 100 of 'one.jpg': segmentation 'x' is neither",
        ),
        (
            "annotations",
            "segmentation",
            [[1, 2, 3, 4, 5, NAN]],
            "annotation 100 of 'one.jpg': a polygon's point",
        ),
        (
            "annotations",
            "segmentation",
            {"size": [48, 40], "counts": [1920]},
            "annotation 100 of 'one.jpg': run lengths of size [48, 40] (H, W), but its image has [40, 48]",
        ),
        (
            "annotations",
            "segmentation",
            {"size": [40, 48], "counts": [0, 9999999]},
            "annotation 100 of 'one.jpg': run lengths of 9999999 pixels",
        ),
    ],
)
def test_a_fault_is_named(
    train: Path, change: Change, where: str, key: str, value: Any, fault: str
) -> None:
    change(train, lambda data: data[where][0].update({key: value}))
    assert fault in fault_of(train)


@pytest.mark.parametrize("where", ["images", "categories", "annotations"])
@pytest.mark.parametrize("entry", [None, 1, "a", [1]])
def test_an_entry_that_is_none(train: Path, change: Change, where: str, entry: Any) -> None:
    change(train, lambda data: data[where].append(entry))
    assert f"{where}[" in fault_of(train)


STRANGE: list[Any] = [
    *(None, True, 0, -1, 1, 2, 10**30, 0.5, NAN, INF, "", "1", "..", "\ud800", "a" * 999),
    *([], [None], [[]], [1, 2], [[1, 2, 3, 4, 5, 6]], {}, {"size": [40, 48]}, {"id": 1}),
]


def test_anything_anywhere_is_refused_or_read(
    tmp_path: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every value of the file in turn replaced by every strange one, and taken out."""
    change(train, lambda data: data["annotations"][1].update(iscrowd=1))
    lengths = {"size": [40, 48], "counts": [1000, 920]}
    change(train, lambda data: data["annotations"][1].update(segmentation=lengths))
    whole = json.loads(train.read_text())

    def places(value: Any, path: tuple) -> Any:
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in inner:
            yield (*path, key)
            if isinstance(below, dict | list):
                yield from places(below, (*path, key))

    read = refused = 0
    for place in list(places(whole, ())):
        for strange in [*STRANGE, "taken out"]:
            data = json.loads(json.dumps(whole))
            inner = data
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = strange
            if strange == "taken out":
                del inner[place[-1]]
            (tmp_path / "a.json").write_text(json.dumps(data))
            faults = Faults("made")
            with faults.caught():
                images = read_coco(tmp_path / "a.json", faults).images
            if faults.lines:
                refused += 1
                for line in faults.lines:
                    assert line.startswith(f"{tmp_path / 'a.json'}: ")
                    assert "\n" not in line
            else:
                read += 1
                assert all(np.isfinite(image.boxes).all() for image in images)
    assert read > 100
    assert refused > 100


def test_an_image_that_nobody_could_read_is_refused_before_its_masks_are_drawn(
    train: Path, change: Change
) -> None:
    def widen(data: Any) -> None:
        data["images"][0] |= {"width": 2**16, "height": 2**16}
        runs = {"size": [2**16, 2**16], "counts": [2**32]}
        data["annotations"][0]["segmentation"] = runs

    change(train, widen)
    assert fault_of(train) == "image 1: size 65536x65536"


def test_no_image(train: Path, change: Change) -> None:
    change(train, lambda data: data.update(images=[], annotations=[]))
    assert fault_of(train) == "lists no image"


def test_no_object_to_learn_from(made: Path, train: Path, change: Change) -> None:
    change(train, lambda data: data.update(annotations=[]))
    with pytest.raises(InputError, match=r"instances_train\.json: no object in any"):
        _ = opened(made).classes
    data = opened(made, "val", "train")  # nothing to be found is no fault
    assert [len(record.boxes) for record in data.test] == [0, 0]


def test_two_classes_of_one_name(made: Path, train: Path, change: Change) -> None:
    change(train, lambda data: data["categories"][2].update(name="dog"))
    assert opened(made).classes == ("dog", "cat")  # nothing is of the second
    change(train, lambda data: data["categories"][0].update(name="dog"))
    with pytest.raises(InputError, match=r"categories \[5, 17\] are all named 'dog'"):
        _ = opened(made).classes


def test_files_that_number_their_classes_differently(made: Path, change: Change) -> None:
    val = made / "annotations" / "instances_val.json"
    change(val, lambda data: data["categories"][0].update(name="tiger"))
    with pytest.raises(InputError, match=r"val\.json: category 17 is 'tiger', but 'cat' in"):
        _ = opened(made).classes


def test_an_image_of_another_size_than_the_file_says(made: Path) -> None:
    Image.new("RGB", (40, 48)).save(made / "train" / "two.jpg")
    with pytest.raises(InputError, match=r"two\.jpg: 40x48 pixels, but .* 48x40"):
        image_of(opened(made).train[1])


# ------------------------------------------------------------------ the fingerprint


def test_the_fingerprint_changes_with_what_is_read(made: Path, train: Path) -> None:
    seen = {opened(made).fingerprint}
    assert opened(made).fingerprint in seen
    for file in (train, made / "train" / "two.jpg", made / "val" / "three.jpg"):
        os.utime(file, ns=(1, 1))
        seen.add(opened(made).fingerprint)
    (made / "images").mkdir()
    Image.new("RGB", (8, 8)).save(made / "images" / "new.png")
    seen.add(opened(made).fingerprint)
    assert len(seen) == 5
    assert opened(made, "val", "train").fingerprint not in seen
    same = made.rename(made.parent / "moved")
    assert opened(same).fingerprint in seen


def test_the_fingerprint_does_not_change_with_what_is_not_read(made: Path) -> None:
    before = opened(made).fingerprint
    (made / "README.md").write_text("words")
    (made / "annotations" / "captions_train.json").write_text("{}")
    for folder in (".cache", "runs", "runs/store/locks"):  # runs leave pictures
        (made / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(made / folder / "a.png")
    assert opened(made).fingerprint == before


def test_a_circle_of_links_ends(made: Path) -> None:
    (made / "images").mkdir()
    (made / "images" / "round").symlink_to(made)
    (made / "images" / "again").symlink_to(made / "images")
    assert opened(made).fingerprint
    assert len(opened(made).train) == 2


# ------------------------------------------------------------------ real photographs


@pytest.mark.skipif(not (SHARED / "coco128").is_dir(), reason="no coco128 beside the checkout")
def test_part_of_coco_itself() -> None:
    data = COCOFolder(SHARED / "coco128", "coco128", "train2017", "train2017")
    assert len(data.train) == 128
    assert len(data.classes) == len(data.category_ids) == 71
    assert dict(zip(data.category_ids, data.classes, strict=True))[90] == "toothbrush"
    assert sum(len(record.boxes) for record in data.train) == 939
    assert sum(int(record.iscrowd.sum()) for record in data.train) == 10
    assert sum(len(record.boxes) == 0 for record in data.train) == 2
    cocos_own = COCO(SHARED / "coco128" / "annotations" / "instances_train2017.json")
    for record in data.train:
        assert image_of(record).shape == (record.height, record.width, 3)
        things = cocos_own.imgToAnns[record.image_id]
        for mask, thing in zip(masks_of(record).numpy(), things, strict=True):
            assert (mask == cocos_own.annToMask(thing)).all()


# ------------------------------------------------------------------ what other tools write


def test_roboflow_s_folders(made: Path) -> None:
    """Annotations beside the images, a super-category that no object has, images without objects."""
    for split, folder in (("train", "train"), ("val", "valid")):
        (made / split).rename(made / folder)
        data = json.loads((made / f"annotations/instances_{split}.json").read_text())
        data["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
        (made / folder / "_annotations.coco.json").write_text(json.dumps(data))
    shutil.rmtree(made / "annotations")
    data = opened(made)
    assert not data.one_split
    assert data.classes == ("dog", "cat") and data.category_ids == (5, 17)
    assert [r.path for r in data.train] == [made / "train/one.jpg", made / "train/two.jpg"]
    assert [r.path for r in data.test] == [made / "valid/three.jpg"]


def test_a_result_beside_its_images(made: Path, train: Path) -> None:
    """Label Studio's."""
    (made / "result.json").write_text(train.read_text().replace('"one.jpg"', '"images\\\\one.jpg"'))
    shutil.rmtree(made / "annotations")
    (made / "train").rename(made / "images")
    data = opened(made)
    assert data.one_split
    assert [r.path for r in data.train] == [made / "images/one.jpg", made / "images/two.jpg"]


def test_the_only_file_by_its_path(made: Path, train: Path) -> None:
    data = COCOFolder(train.parent, "made", file=train)
    assert data.one_split
    assert [r.path.name for r in data.train] == [r.path.name for r in data.test]
    assert [r.path for r in data.train] == [made / "train/one.jpg", made / "train/two.jpg"]


@pytest.mark.parametrize("content", ["[]", '{"shapes": [], "images": 1}', "x", '{"a": 1}'])
def test_other_json_beside_images_is_no_data_set(made: Path, content: str) -> None:
    shutil.rmtree(made / "annotations")
    (made / "notes.json").write_text(content)
    assert not COCOFolder.fits(made)


def test_endings_tell_a_split(made: Path, train: Path) -> None:
    train.rename(train.with_name("lvis_v1_train.json"))
    (made / "annotations/instances_val.json").rename(made / "annotations/lvis_v1_val.json")
    (made / "train").rename(made / "images")
    shutil.copy(made / "val/three.jpg", made / "images")
    data = opened(made)
    assert (len(data.train), len(data.test)) == (2, 1)


def test_lvis_names_images_by_their_address(made: Path, train: Path, change: Change) -> None:
    def address(data: Any) -> None:
        for image in data["images"]:
            image["coco_url"] = f"http://images.cocodataset.org/train/{image.pop('file_name')}"

    change(train, address)
    assert opened(made).train[0].path == made / "train/one.jpg"


def test_a_flat_list_is_one_outline(
    made: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = masks_of(opened(made).train[0])
    change(
        train,
        lambda data: [a.update(segmentation=a["segmentation"][0]) for a in data["annotations"]],
    )
    assert masks_of(opened(made).train[0]).equal(whole)
    assert (
        "outlines without brackets of their own, taken for one polygon: " in capsys.readouterr().err
    )


def test_an_outline_of_an_odd_number_is_left_out_and_its_box_stays(
    made: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    before = opened(made).train[0]
    change(train, lambda data: data["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, 6, 7]]))
    record = opened(made).train[0]
    assert record.boxes.tolist() == before.boxes.tolist()
    assert record.with_mask.tolist() == [False, *[True] * (len(record.boxes) - 1)]
    said = capsys.readouterr().err
    assert (
        "outlines that are no x y pairs, left out; their boxes stay: 1: annotation 100 of" in said
    )


def test_what_a_brush_drew_is_no_crowd(
    made: Path, train: Path, change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [record.labels.tolist() for record in opened(made).train]
    change(train, lambda data: [a.update(iscrowd=1) for a in data["annotations"]])
    data = opened(made)
    assert [record.labels.tolist() for record in data.train] == before
    assert not any(record.iscrowd.any() for record in data.train)
    assert "annotations are crowds: taken for objects" in capsys.readouterr().err


def test_every_fault_of_both_files_at_once(made: Path, train: Path, change: Change) -> None:
    change(train, lambda data: data["annotations"][0].update(category_id=99))
    change(train, lambda data: data["annotations"][1].update(bbox=None))
    (made / "train/two.jpg").unlink()
    (made / "val/three.jpg").unlink()
    faults = Faults("made")
    train_records, test_records = opened(made).read(faults)
    assert len(faults.lines) == 4
    assert [r.path.name for r in train_records] == ["one.jpg"]
    assert test_records == []


def test_a_test_split_that_nobody_filled_is_none(made: Path) -> None:
    empty = '{"images": [], "annotations": [], "categories": []}'
    (made / "annotations/instances_test.json").write_text(empty)
    assert [r.path.name for r in opened(made).test] == ["three.jpg"]  # of val
    (made / "annotations/instances_test.json").unlink()
    (made / "annotations/instances_val.json").write_text(empty)
    assert opened(made).one_split


CASES = Path(__file__).parents[3] / "../shared/cases"


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the exports beside the checkout")
@pytest.mark.parametrize(
    ("case", "images", "objects", "classes", "one_split"),
    [
        ("07-roboflow-coco", (8, 4), (24, 12), 2, False),
        ("09b-cvat-coco-default", (12, 12), (36, 36), 2, True),
        ("17-duplicates/coco", (8, 4), (24, 12), 2, False),
        ("24b-coco-polygons/flat", (8, 4), (24, 12), 2, False),
        ("24b-coco-polygons/odd", (8, 4), (24, 12), 2, False),
        ("24b-coco-polygons/none", (8, 4), (24, 12), 2, False),
        ("24b-coco-polygons/emptyinner", (8, 4), (24, 12), 2, False),
        ("26-lvis-classes", (24, 6), (1248, 312), 1203, False),
    ],
)
def test_exports_as_tools_write_them(
    case: str, images: tuple[int, int], objects: tuple[int, int], classes: int, one_split: bool
) -> None:
    data = opened(CASES / case)
    splits = (data.train, data.test)
    assert tuple(map(len, splits)) == images
    assert tuple(sum(len(r.boxes) for r in records) for records in splits) == objects
    assert len(data.classes) == classes
    assert data.one_split == one_split
