"""One scene, three layouts: the same records; and boxes that come back as they were written."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.data.coco import COCOFolder
from stages.data.decode import image_of
from stages.data.images import masks_of
from stages.data.labelme import LabelMeFolder
from stages.data.layouts import open_folder
from stages.data.records import Dataset
from stages.data.voc import VOCFolder
from stages.data.xml_beside import XMLFolder
from stages.data.yolo import YOLOFolder
from stages.errors import InputError

Make = Callable[..., Path]
# Whole pixels, which VOC's are; continuous.
SCENES = {
    "one": [("cat", 2, 3, 20, 30), ("dog", 22, 1, 40, 33), ("cat", 0, 34, 48, 40)],
    "two": [],
    "three": [("dog", 10, 10, 11, 11)],
    "four": [("cat", 47, 0, 48, 40)],
}
SPLITS = {"train": ["one", "two", "three"], "val": ["four"]}


@pytest.fixture
def three(make_voc: Make, make_coco: Make, make_yolo: Make) -> list[Dataset]:
    """The scenes as VOC, COCO and YOLO have them, with masks."""
    inclusive = {
        stem: [(name, x1 + 1, y1 + 1, x2, y2) for name, x1, y1, x2, y2 in things]
        for stem, things in SCENES.items()
    }
    voc = make_voc(inclusive, SPLITS, folder="voc")
    (voc / "SegmentationObject").mkdir()
    for stem, things in SCENES.items():
        pixels = np.zeros((40, 48), np.uint8)
        for i, (_, x1, y1, x2, y2) in enumerate(things, 1):
            pixels[y1:y2, x1:x2] = i
        Image.fromarray(pixels).save(voc / "SegmentationObject" / f"{stem}.png")
    return [
        VOCFolder(voc, "scenes"),
        COCOFolder(make_coco(SCENES, SPLITS), "scenes"),
        YOLOFolder(make_yolo(SCENES, SPLITS, outlines=True), "scenes"),
    ]


def test_the_same_records(three: list[Dataset]) -> None:
    for split in ("train", "test"):
        voc, coco, yolo = (
            sorted(getattr(data, split), key=lambda record: record.path.stem) for data in three
        )
        for records in zip(voc, coco, yolo, strict=True):
            first = records[0]
            names = [
                [data.classes[label - 1] for label in record.labels]
                for data, record in zip(three, records, strict=True)
            ]
            for record, of_record in zip(records, names, strict=True):
                assert record.path.stem == first.path.stem
                assert (record.width, record.height) == (first.width, first.height)
                assert record.boxes.dtype == np.float32
                assert (record.boxes == first.boxes).all()
                assert of_record == names[0]
                assert (record.difficult == first.difficult).all()
                assert (record.iscrowd == first.iscrowd).all()
                assert record.has_masks
                assert (masks_of(record) == masks_of(first)).all()
                assert (image_of(record) == image_of(first)).all()


def test_labelme_has_the_same_records(three: list[Dataset], tmp_path: Path) -> None:
    voc = VOCFolder(tmp_path / "voc", "scenes")
    for split, stems in SPLITS.items():
        (tmp_path / "labelme" / split).mkdir(parents=True)
        for stem in stems:
            path = tmp_path / "labelme" / split / f"{stem}.jpg"
            path.write_bytes((voc.root / "JPEGImages" / path.name).read_bytes())
            shapes = [
                {"label": name, "points": [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]}
                for name, x1, y1, x2, y2 in SCENES[stem]
            ]
            path.with_suffix(".json").write_text(json.dumps({"shapes": shapes}))
    labelme = open_folder(tmp_path / "labelme", "scenes")
    assert isinstance(labelme, LabelMeFolder)
    assert labelme.classes == voc.classes
    for split in ("train", "test"):
        both = (
            sorted(getattr(data, split), key=lambda record: record.path.stem)
            for data in (voc, labelme)
        )
        for record, other in zip(*both, strict=True):
            assert record.path.name == other.path.name
            assert (record.width, record.height) == (other.width, other.height)
            assert (record.boxes == other.boxes).all()
            assert (record.labels == other.labels).all()
            if len(record.labels):
                assert (masks_of(record) == masks_of(other)).all()


def test_each_has_its_own_numbers_for_the_classes(three: list[Dataset]) -> None:
    voc, coco, yolo = (dict(zip(d.classes, d.category_ids, strict=True)) for d in three)
    assert voc == {"cat": 1, "dog": 2}
    assert coco == {"cat": 17, "dog": 5}
    assert yolo == {"cat": 0, "dog": 1}


# ------------------------------------------------------------------ which layout a folder is in

XML = (
    "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
    "<ymax>9</ymax></bndbox></object></annotation>"
)
SHAPES = json.dumps({"shapes": [{"label": "cat", "points": [[0, 0], [9, 0], [9, 9]]}]})
LABELS = "0 0.5 0.5 0.5 0.5\n"


def _written(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jpg":
            Image.new("RGB", (48, 40)).save(path)
        else:
            path.write_text(content)
    return root


def _coco(*names: str) -> str:
    return json.dumps(
        {
            "images": [
                {"id": i, "file_name": name, "width": 48, "height": 40}
                for i, name in enumerate(names)
            ],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9]}
                for i, _ in enumerate(names)
            ],
        }
    )


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        # Each with what another layout could take for its own.
        (
            {
                "JPEGImages/a.jpg": "",
                "Annotations/a.xml": XML,
                "ImageSets/Main/train.txt": "a",
                "data.yaml": "train: JPEGImages\nval: JPEGImages\nnames: [cat]",
            },
            VOCFolder,
        ),
        ({"JPEGImages/a.jpg": "", "Annotations/a.xml": XML}, XMLFolder),
        ({"JPEGImages/a.jpg": "", "Annotations/a.xml": XML, "ImageSets/x": ""}, XMLFolder),
        ({"train/a.jpg": "", "train/a.xml": XML, "test/b.jpg": "", "test/b.xml": XML}, XMLFolder),
        ({"images/a.jpg": "", "labels/a.xml": XML, "classes.txt": "cat"}, XMLFolder),
        ({"images/a.jpg": "", "annotations/a.json": SHAPES}, LabelMeFolder),
        ({"a.jpg": "", "a.json": SHAPES}, LabelMeFolder),
        ({"train/a.jpg": "", "train/a.json": SHAPES}, LabelMeFolder),
        ({"images/a.jpg": "", "annotations/train.json": _coco("a.jpg")}, COCOFolder),
        ({"train/a.jpg": "", "train/_annotations.coco.json": _coco("a.jpg")}, COCOFolder),
        ({"images/a.jpg": "", "result.json": _coco("a.jpg")}, COCOFolder),
        # A COCO file that bears an image's name is still COCO's.
        ({"train/a.jpg": "", "train/a.json": _coco("a.jpg")}, COCOFolder),
        (
            {
                "images/a.jpg": "",
                "labels/a.txt": LABELS,
                "data.yaml": "train: images\nnames: [cat]",
            },
            YOLOFolder,
        ),
        (
            {
                "images/a.jpg": "",
                "labels/a.txt": LABELS,
                "classes.txt": "cat",
                "notes.json": '{"categories": [{"id": 0, "name": "cat"}], "info": {}}',
            },
            YOLOFolder,
        ),
    ],
)
def test_no_layout_takes_anothers_folder(
    tmp_path: Path, files: dict[str, str], layout: type
) -> None:
    data = open_folder(_written(tmp_path, files), "mine")
    assert type(data) is layout
    assert data.classes == ("cat",)
    assert len(data.train) >= 1


@pytest.mark.parametrize("files", [["a.jpg", "b/c.PNG"], ["images/a.jpg", "images/b.webp"]])
def test_pictures_alone(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(InputError) as raised:
        open_folder(tmp_path, "mine")
    line = raised.value.line
    assert line.startswith(f"{tmp_path}: 2 images without annotations")
    assert all(tool in line for tool in ("labelImg", "CVAT", "Label Studio", "Roboflow"))


@pytest.mark.parametrize("files", [{}, {"a.jpg": "", "objects.csv": ""}, {"a.xml": XML}])
def test_no_layout(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(InputError) as raised:
        open_folder(_written(tmp_path, files), "mine")
    line = raised.value.line
    assert line.startswith(f"{tmp_path}: no data set that we read: ")
    assert all(f"({name}" in line for name in ("VOC", "labelImg", "LabelMe", "COCO", "YOLO"))


def test_half_of_a_layout_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(InputError, match=r"Annotations: no such folder \(the VOC layout has one\)"):
        open_folder(tmp_path, "mine")


# ------------------------------------------------------------------ round trips


@st.composite
def _scenes(draw: st.DrawFn) -> tuple[tuple[int, int], np.ndarray, list[int]]:
    """Width and height; boxes float64 [N, 4] inside the image, of 0.1 pixels at least; classes.

    No two boxes are alike: the second would be taken for the first, written twice.
    """
    width, height = draw(st.integers(1, 4000)), draw(st.integers(1, 4000))
    boxes = []
    for _ in range(draw(st.integers(1, 6))):
        corners = []
        for side in (width, height):
            low = draw(st.floats(0, side - 0.1))
            corners.append((low, draw(st.floats(low + 0.1, side))))
        (x1, x2), (y1, y2) = corners
        box = (x1, y1, x2, y2)
        if all(np.abs(np.subtract(box, other)).max() > 0.05 for other in boxes):
            boxes.append(box)
    return (width, height), np.array(boxes), [draw(st.integers(0, 2)) for _ in boxes]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every example writes its annotations into anew."""
    root = tmp_path_factory.mktemp("round")
    for folder in ("annotations", "train", "images", "labels"):
        (root / folder).mkdir()
    for folder in ("train", "images"):
        (root / folder / "a.png").touch()
    return root


@settings(max_examples=60)
@given(scene=_scenes())
def test_boxes_come_back_from_coco(scratch: Path, scene: Any) -> None:
    (width, height), boxes, classes = scene
    annotations = [
        {
            "id": i,
            "image_id": 3,
            "category_id": 10 * number,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
        }
        for i, ((x1, y1, x2, y2), number) in enumerate(zip(boxes.tolist(), classes, strict=True))
    ]
    image = {"id": 3, "file_name": "a.png", "width": width, "height": height}
    categories = [{"id": 10 * i, "name": f"class {i}"} for i in range(3)]
    content = {"images": [image], "categories": categories, "annotations": annotations}
    (scratch / "annotations" / "train.json").write_text(json.dumps(content))
    data = COCOFolder(scratch, "round", "train", "train")
    (record,) = data.train
    assert (record.width, record.height) == (width, height)
    assert [data.category_ids[label - 1] for label in record.labels] == [10 * i for i in classes]
    assert np.abs(record.boxes - boxes).max() < 1e-6 * max(width, height)


@settings(max_examples=60)
@given(scene=_scenes(), outlines=st.booleans())
def test_boxes_come_back_from_yolo(scratch: Path, scene: Any, outlines: bool) -> None:
    size, boxes, classes = scene
    Image.new("1", size).save(scratch / "images" / "a.png")
    lines = []
    for (x1, y1, x2, y2), number in zip(boxes / [*size, *size], classes, strict=True):
        box = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        lines.append([number, *([x1, y1, x2, y1, x2, y2, x1, y2] if outlines else box)])
    text = "\n".join(" ".join(map(str, line)) for line in lines)
    (scratch / "labels" / "a.txt").write_text(text)
    (scratch / "data.yaml").write_text("train: images\nval: images\nnames: [a, b, c]")
    data = YOLOFolder(scratch, "round")
    (record,) = data.train
    assert (record.width, record.height) == size
    assert [data.category_ids[label - 1] for label in record.labels] == classes
    assert np.abs(record.boxes - boxes).max() < 1e-6 * max(size)
    assert record.has_masks == outlines


# ------------------------------------------------------------------ images of every kind


def _saved(path: Path, mode: str, **options: Any) -> None:
    picture = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (24, 1)))
    if mode == "I;16":
        picture = Image.fromarray(np.array(picture).astype(np.uint16) * 257)
    elif mode == "P":
        picture = picture.convert("RGB").quantize(16)
    else:
        picture = picture.convert(mode)
    picture.save(path, **options)
    with Image.open(path) as opened:
        assert opened.mode.startswith(mode)


def _turned(path: Path) -> None:
    """Stored lying, 40 wide; a viewer shows it standing, 24 wide."""
    picture = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (24, 1))).convert("RGB")
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)


KINDS: dict[str, tuple[str, Callable[[Path], None], tuple[int, int]]] = {
    "grey": (".jpg", lambda path: _saved(path, "L"), (40, 24)),
    "black and white": (".png", lambda path: _saved(path, "1"), (40, 24)),
    "CMYK": (".jpg", lambda path: _saved(path, "CMYK"), (40, 24)),
    "16 bits": (".png", lambda path: _saved(path, "I;16"), (40, 24)),
    "16 bits TIFF": (".tif", lambda path: _saved(path, "I;16"), (40, 24)),
    "palette": (".png", lambda path: _saved(path, "P"), (40, 24)),
    "palette GIF": (".gif", lambda path: _saved(path, "P"), (40, 24)),
    "transparent": (".png", lambda path: _saved(path, "RGBA"), (40, 24)),
    "turned JPEG": (".jpg", _turned, (24, 40)),
    "turned PNG": (".png", _turned, (24, 40)),
    "turned WebP": (".webp", _turned, (24, 40)),
    "turned TIFF": (".tif", _turned, (24, 40)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["coco", "yolo"])
def test_images_of_every_kind(tmp_path: Path, kind: str, layout: str) -> None:
    """Boxes are where they were drawn, on the upright image."""
    suffix, write, (width, height) = KINDS[kind]
    for folder in ("annotations", "images", "labels"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "images" / f"a{suffix}")
    image = {"id": 1, "file_name": f"a{suffix}", "width": width, "height": height}
    thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, width / 2, height]}
    content = {
        "images": [image],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [thing],
    }
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(content))
    (tmp_path / "labels" / "a.txt").write_text("0 0.25 0.5 0.5 1\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cat]")
    data: Dataset
    if layout == "coco":
        data = COCOFolder(tmp_path, "made", "train", "train")
    else:
        data = YOLOFolder(tmp_path, "made")
    (record,) = data.train
    assert record.boxes.tolist() == [[0, 0, width / 2, height]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pixels = image_of(record)
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8
    assert pixels.max() > 180  # not cut off, nor all black
