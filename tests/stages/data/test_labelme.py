"""LabelMe's JSON: shapes of many kinds, which are boxes, outlines, or no region at all."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.data.faults import Faults
from stages.data.images import masks_of
from stages.data.labelme import LabelMeFolder
from stages.data.labelme_file import LabelMeFile, objects_of, read_labelme
from stages.data.layouts import open_folder
from stages.errors import InputError

WIDTH, HEIGHT = 48, 40
Shapes = list[dict[str, Any]]


def shape(
    label: str, kind: str | None, *points: tuple[float, float], **more: Any
) -> dict[str, Any]:
    return {
        "label": label,
        "points": [list(point) for point in points],
        "group_id": None,
        "shape_type": kind,
        "flags": {},
        **more,
    }


CAT = shape("cat", "polygon", (2, 3), (20, 3), (20, 30), (2, 30))
DOG = shape("dog", "rectangle", (40, 33), (9, 1))  # drawn from the lower right


def write(path: Path, shapes: Shapes, image: bool = True, **more: Any) -> Path:
    """A JSON and, beside it, its image; returns the JSON's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if image:
        Image.new("RGB", (WIDTH, HEIGHT)).save(path.with_suffix(".jpg"))
    data = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": path.with_suffix(".jpg").name,
        "imageData": "no base64 at all",
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **more,
    }
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
    return path


def read(tmp_path: Path, *shapes: Any) -> Any:
    return objects_of(read_labelme(write(tmp_path / "a.json", list(shapes))), WIDTH, HEIGHT)


def area_of(outline: Any) -> float:
    (corners,) = (part.reshape(-1, 2) for part in outline)
    x, y = corners.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


# ------------------------------------------------------------------ shapes


@pytest.mark.parametrize(
    ("given", "box", "area"),
    [
        (CAT, (2, 3, 20, 30), 18 * 27),
        (shape("x", None, (0, 0), (10, 0), (0, 10)), (0, 0, 10, 10), 50),  # as old files have it
        (shape("x", "rotation", (5, 0), (10, 5), (5, 10), (0, 5)), (0, 0, 10, 10), 50),
        (shape("x", "circle", (20, 15), (23, 19)), (15, 10, 25, 20), np.pi * 25),
        (DOG, (9, 1, 40, 33), None),
        (shape("x", "rectangle", (1, 2), (5, 2), (5, 8), (1, 8)), (1, 2, 5, 8), None),
    ],
)
def test_a_shape(tmp_path: Path, given: Any, box: tuple[float, ...], area: float | None) -> None:
    objects = read(tmp_path, given)
    assert np.abs(np.array(objects.boxes) - [box]).max() < 1e-9
    (outline,) = objects.outlines
    if area is None:
        assert outline is None  # a rectangle is a box
    else:
        assert area_of(outline) == pytest.approx(area, rel=2e-3)
    assert objects.left_out == objects.odd == []


@given(
    st.lists(st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT)), min_size=3, max_size=9),
)
def test_the_box_is_the_points_extent(points: list[tuple[float, float]]) -> None:
    file = LabelMeFile(Path("a.json"), None, "", [shape("x", "polygon", *points)])
    objects = objects_of(file, WIDTH, HEIGHT)
    corners = np.array(points)
    assert objects.boxes == [(*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())]
    (outline,) = objects.outlines
    assert (outline[0] == corners.ravel()).all()


def png(mask: np.ndarray) -> str:
    file = BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_a_mask(tmp_path: Path) -> None:
    part = np.zeros((4, 6), bool)
    part[1:, 2:] = True
    write(tmp_path / "a.json", [shape("x", "mask", (10, 20), (15, 23), mask=png(part))])
    record = LabelMeFolder(tmp_path, "mine").train[0]
    assert record.boxes.tolist() == [[10, 20, 16, 24]]  # the corners are pixels of it
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[21:24, 12:16] = True
    assert (masks_of(record).numpy() == expected[None]).all()


@pytest.mark.parametrize(
    ("corners", "mask", "why"),
    [
        (((10, 20), (16, 23)), png(np.ones((4, 6), bool)), "another size"),
        (((10, 20), (15, 23)), "AAAA", "unreadable"),
        (((10, 20), (15, 23)), "no base64", "unreadable"),
        (((10, 20), (15, 23)), None, "without its pixels"),
        (((44, 20), (49, 23)), png(np.ones((4, 6), bool)), "does not lie in the image"),
    ],
)
def test_a_mask_that_is_none_leaves_the_box(
    tmp_path: Path, corners: Any, mask: str | None, why: str
) -> None:
    objects = read(tmp_path, shape("x", "mask", *corners, mask=mask))
    assert objects.outlines == [None]
    assert len(objects.boxes) == 1
    (said,) = objects.odd
    assert why in said


def test_an_outline_far_outside_leaves_the_box(tmp_path: Path) -> None:
    objects = read(tmp_path, shape("x", "polygon", (0, 0), (1e6, 0), (0, 10)), CAT)
    assert objects.boxes[0] == (0, 0, 1e6, 10)
    assert objects.outlines[0] is None
    assert objects.outlines[1] is not None
    assert "far outside" in objects.odd[0]


def test_what_is_no_region_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        tmp_path / "a.json",
        [
            shape("eye", "point", (3, 4)),
            shape("edge", "line", (3, 4), (9, 9)),
            shape("edge", "linestrip", (3, 4), (9, 9), (12, 3)),
            CAT,
            shape("half", "polygon", (3, 4), (9, 9)),
            shape("new", "cuboid\x1b[2J", (3, 4), (9, 9), (12, 3)),
        ],
    )
    data = LabelMeFolder(tmp_path, "mine")
    assert data.classes == ("cat",)
    (said,) = capsys.readouterr().err.splitlines()
    kinds = "'point' in a.json, 'line' in a.json, 'linestrip' in a.json, .."
    assert said == f"{tmp_path}: left out shapes that are no regions: 5: {kinds}"


def test_a_group_is_one_object(tmp_path: Path) -> None:
    left = shape("cat", "polygon", (2, 3), (8, 3), (8, 9), group_id=1)
    right = shape("cat", "polygon", (20, 10), (30, 10), (30, 20), group_id=1)
    bag = shape("bag", "polygon", (0, 0), (5, 0), (5, 5), group_id=1)  # belongs to it, is not it
    other = shape("cat", "circle", (40, 30), (42, 30), group_id="1")
    objects = read(tmp_path, left, bag, DOG, right, other, CAT)
    assert objects.names == ["cat", "bag", "dog", "cat", "cat"]
    assert objects.boxes[0] == (2, 3, 30, 20)
    assert [len(outline or ()) for outline in objects.outlines] == [2, 1, 0, 1, 1]


def test_a_group_of_a_mask_and_a_polygon(tmp_path: Path) -> None:
    mask = shape("cat", "mask", (0, 0), (3, 3), mask=png(np.ones((4, 4), bool)), group_id=7)
    write(
        tmp_path / "a.json",
        [mask, shape("cat", "polygon", (10, 10), (20, 10), (20, 20), (10, 20), group_id=7)],
    )
    (record,) = LabelMeFolder(tmp_path, "mine").train
    assert record.boxes.tolist() == [[0, 0, 20, 20]]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:4, :4] = expected[10:20, 10:20] = True
    assert (masks_of(record).numpy() == expected[None]).all()


def test_a_group_one_of_whose_shapes_is_a_rectangle_has_no_outline(tmp_path: Path) -> None:
    box = shape("cat", "rectangle", (0, 0), (3, 3), group_id=7)
    objects = read(tmp_path, {**CAT, "group_id": 7}, box)
    assert objects.boxes == [(0, 0, 20, 30)]
    assert objects.outlines == [None]


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"label": ""}, "its label is ''"),
        ({"label": None}, "its label is None"),
        ({"label": "\ud800"}, "no file can hold its label"),
        ({"shape_type": 3}, "its shape_type is 3"),
        ({"points": None}, "its points are None"),
        ({"points": [[1, 2, 3]]}, "a point is [1, 2, 3]"),
        ({"points": [[1, "2"]]}, "a point is [1, '2']"),
        ({"points": [[1, float("nan")]]}, "a point is [1, nan]"),
        ({"points": [[1, 10**400]]}, "a point is [1, 1"),
        ({"points": [1, 2, 3, 4]}, "a point is 1"),
    ],
)
def test_a_shape_that_is_none(tmp_path: Path, wrong: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path, CAT, {**CAT, **wrong})
    assert raised.value.line.startswith(f"{tmp_path}/a.json: shapes[1]: ")
    assert fault in raised.value.line


def test_a_shape_that_is_no_object(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json: shapes\[0\]: is 'cat'"):
        read(tmp_path, "cat")


# ------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "not readable as JSON"),
        (b"{", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"\xff\xfe\xfa", "not readable as JSON"),
        (b"[]", "not LabelMe's"),
        (b'{"shapes": {}}', "not LabelMe's"),
        (b'{"images": [], "annotations": []}', "not LabelMe's"),
        (b'{"shapes": [], "imageWidth": 5}', "image size 5xNone"),
        (b'{"shapes": [], "imageWidth": 5, "imageHeight": -1}', "image size 5x-1"),
        (b'{"shapes": [], "imageWidth": 5.5, "imageHeight": 4}', "image size 5.5x4"),
        (b'{"shapes": [], "imageWidth": "5", "imageHeight": 4}', "image size '5'x4"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_labelme(tmp_path / "a.json")
    assert raised.value.line.startswith(f"{tmp_path}/a.json: ")
    assert fault in raised.value.line


@pytest.mark.parametrize("size", [None, 0])
def test_the_size_is_the_images_own_where_the_file_has_none(
    tmp_path: Path, size: int | None
) -> None:
    write(tmp_path / "a.json", [CAT], imageWidth=size, imageHeight=size)
    (record,) = LabelMeFolder(tmp_path, "mine").train
    assert (record.width, record.height) == (WIDTH, HEIGHT)


def test_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [CAT])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert LabelMeFolder(tmp_path, "mine").classes == ("cat",)


# ------------------------------------------------------------------ folders


def test_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.json", [CAT, {**DOG, "difficult": True}, DOG])
    data = open_folder(tmp_path, "mine")
    assert isinstance(data, LabelMeFolder)
    assert data.one_split
    assert data.classes == ("cat", "dog")
    assert data.category_ids == (1, 2)
    (record,) = data.train
    assert record.image_id == "a.jpg"
    assert record.boxes.dtype == np.float32
    assert record.boxes.tolist() == [[2, 3, 20, 30], [9, 1, 40, 33]]
    assert record.labels.tolist() == [1, 2]
    assert record.difficult.tolist() == [False, True]
    assert record.with_mask.tolist() == [True, False]
    masks = masks_of(record).numpy()
    assert masks[0, 3:30, 2:20].all()
    assert masks[0].sum() == 27 * 18
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "there twice" in said[0]
    assert "objects without a mask beside others that have one: 1: 'dog' of a.jpg" in said[1]


def test_boxes_alone_are_no_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.json", [DOG])
    assert not LabelMeFolder(tmp_path, "mine").train[0].has_masks
    assert capsys.readouterr().err == ""


def test_splits(tmp_path: Path) -> None:
    for split, stem in (("train", "a"), ("valid", "b"), ("test", "c")):
        write(tmp_path / split / f"{stem}.json", [CAT])
    data = open_folder(tmp_path, "mine")
    assert isinstance(data, LabelMeFolder)
    assert not data.one_split
    assert [r.image_id for r in [*data.train, *data.test]] == ["train/a.jpg", "test/c.jpg"]


@pytest.mark.parametrize("folder", ["annotations", "labels", "json"])
def test_files_in_a_folder_of_their_own(tmp_path: Path, folder: str) -> None:
    """In `annotations/` they could be taken for COCO's."""
    for stem in "abc":
        write(tmp_path / "images" / f"{stem}.json", [CAT], imagePath=f"..\\images\\{stem}.jpg")
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "images" / f"{stem}.json").rename(tmp_path / folder / f"{stem}.json")
    data = open_folder(tmp_path, "mine")
    assert isinstance(data, LabelMeFolder)
    assert [r.image_id for r in data.train] == [f"images/{stem}.jpg" for stem in "abc"]


def test_a_file_of_another_name_says_whose_it_is(tmp_path: Path) -> None:
    write(tmp_path / "a.json", [CAT])
    write(tmp_path / "b.json", [DOG], imagePath="..\\pictures\\b.jpg")
    (tmp_path / "b.json").rename(tmp_path / "0001.json")
    assert [len(r.boxes) for r in LabelMeFolder(tmp_path, "mine").train] == [1, 1]


def test_images_without_a_file(tmp_path: Path) -> None:
    write(tmp_path / "a.json", [CAT])
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.json: missing; .*--data\.negatives use"):
        _ = LabelMeFolder(tmp_path, "mine").train
    data = LabelMeFolder(tmp_path, "mine", negatives="use")
    assert [len(r.boxes) for r in data.train] == [1, 0]


def test_every_fault_is_named(tmp_path: Path) -> None:
    for stem in "abc":
        write(tmp_path / f"{stem}.json", [CAT])
    (tmp_path / "a.json").write_text('{"shapes": ')
    write(tmp_path / "b.json", [CAT, {**CAT, "label": 5}])
    faults = Faults(tmp_path)
    train, _ = LabelMeFolder(tmp_path, "mine").read(faults)
    assert [r.image_id for r in train] == ["c.jpg"]
    assert len(faults.lines) == 2
    assert "a.json: not readable" in faults.lines[0]
    assert "b.json: shapes[1]: its label is 5" in faults.lines[1]


def test_other_json_does_not_fit(tmp_path: Path, change: Callable[..., None]) -> None:
    path = write(tmp_path / "a.json", [CAT])
    assert LabelMeFolder.fits(tmp_path)
    change(path, lambda data: data.pop("shapes"))
    assert not LabelMeFolder.fits(tmp_path)
    write(tmp_path / "other.json", [CAT], image=False)
    assert not LabelMeFolder.fits(tmp_path)  # no image of its name
