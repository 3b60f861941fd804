"""The layouts of data sets, each of two or three tiny photographs with boxes and masks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from stages.data.coco import COCOFolder
from stages.data.decode import image_of
from stages.data.images import masks_of
from stages.data.labelme import LabelMeFolder
from stages.data.records import Dataset, Record
from stages.data.voc import VOCFolder
from stages.data.yolo import YOLOFolder
from tests.faults.fuzz.mutate import WORDS
from tests.faults.fuzz.reader import Case, Reader

WIDTH, HEIGHT = 24, 16
SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def read_whole(data: Dataset) -> None:
    """Everything of a data set that training and evaluation ask it for, checked."""
    assert len(data.classes) == len(data.category_ids) >= 1
    assert data.fingerprint
    for record in [*data.train, *data.test]:
        image_of(record)  # first, as training does: it is of the size that its annotation says
        check(record, len(data.classes))
        if record.has_masks:
            masks = masks_of(record)
            assert masks.shape == (len(record.labels), record.height, record.width)


def check(record: Record, classes: int) -> None:
    count = len(record.labels)
    boxes = record.boxes
    assert boxes.shape == (count, 4)
    assert boxes.dtype == np.float32
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= [record.width, record.height]).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert ((record.labels >= 1) & (record.labels <= classes)).all()
    assert len(record.difficult) == len(record.iscrowd) == count


# VOC ---------------------------------------------------------------------------------------------


def _voc(folder: Path) -> Sequence[str]:
    for part in ("Annotations", "SegmentationObject", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for stem, name in (("a", "cat"), ("b", "dog")):
        photograph(folder / "JPEGImages" / f"{stem}.jpg")
        (folder / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation>\n  <folder>VOC</folder>\n  <filename>{stem}.jpg</filename>\n  {SIZE}\n"
            f"  <object><name>{name}</name><difficult>0</difficult><bndbox><xmin>2</xmin>"
            "<ymin>3</ymin><xmax>9</xmax><ymax>12</ymax></bndbox></object>\n"
            "  <object><name>cat</name><difficult>1</difficult><bndbox><xmin>10</xmin>"
            "<ymin>1</ymin><xmax>24.5</xmax><ymax>16</ymax></bndbox></object>\n</annotation>\n"
        )
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[2:12, 1:9], mask[0:16, 9:24] = 1, 2
        Image.fromarray(mask).save(folder / "SegmentationObject" / f"{stem}.png")
    (folder / "ImageSets/Main/trainval.txt").write_text("a\n")
    (folder / "ImageSets/Main/test.txt").write_text("b 1\n")
    return [
        *("Annotations/a.xml", "Annotations/a.xml", "Annotations/b.xml"),
        *("ImageSets/Main/trainval.txt", "SegmentationObject/a.png"),
    ]


ENTITIES = [
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x">%x;]>',
    '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;&x;&x;">]>',
    '<!DOCTYPE annotation SYSTEM "http://127.0.0.1:9/a.dtd">',
    '<?xml-stylesheet href="http://127.0.0.1:9/a.xsl"?>',
    '<?xml version="1.0" encoding="utf-7"?>',
    '<?xml version="1.0" encoding="cp037"?>',
    '<?xml version="1.0" encoding="utf-16"?>',
]


@st.composite
def _xml(draw: st.DrawFn, folder: Path) -> Case:
    """An element with another text, entities in front, elements within one another, many attributes."""
    name = "Annotations/a.xml"
    text = (folder / name).read_text()
    how = draw(
        st.sampled_from(("text", "text", "text", "entities", "depth", "attributes", "objects"))
    )
    if how == "text":
        tag = draw(st.sampled_from(("width", "height", "name", "difficult", "xmin", "ymax")))
        before, _, rest = text.partition(f"<{tag}>")
        value = draw(st.sampled_from([*WORDS, "&x;", "<![CDATA[ 5 ]]>", "<b>5</b>"]) | st.text())
        text = f"{before}<{tag}>{value}</{tag}>{rest.partition(f'</{tag}>')[2]}"
    elif how == "entities":
        text = draw(st.sampled_from(ENTITIES)) + text.replace(">cat<", ">&x;&y;<")
    elif how == "depth":
        depth = draw(st.sampled_from((100, 1000, 50_000)))
        text = text.replace("<folder>", "<a>" * depth + "</a>" * depth + "<folder>")
    elif how == "attributes":
        count = draw(st.sampled_from((10, 2000)))
        attributes = " ".join(f'a{n}="{n}"' for n in range(count))
        text = text.replace("<folder>", f"<folder {attributes}>")
    else:
        thing = text.partition("<object>")[2].partition("</object>")[0]
        text = text.replace("</annotation>", f"<object>{thing}</object>" * 300 + "</annotation>")
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-16", "latin-1")))
    return Case(name, text.encode(encoding, "replace"))


LINES = [
    *('"a"', '"a" 1', '"a', "a 1", "a -1", "a  0", "a (1)", "a.jpg", "A.JPG", "a.xml", "./a", "a/"),
    *(
        "JPEGImages/a.jpg",
        "/JPEGImages/a.jpg",
        "..\\JPEGImages\\a.jpg",
        "C:\\a.jpg",
        "b\na",
        "a\na",
    ),
    *(
        "../JPEGImages/a",
        "JPEGImages/../JPEGImages/a",
        ".jpg",
        "..jpg",
        '""',
        '"a\\"',
        "a\\",
        "//a.jpg",
    ),
]


def _voc_cases(folder: Path) -> st.SearchStrategy[Case]:
    """XML, and lists as other tools write them."""
    lines = st.lists(
        st.sampled_from([*LINES, *WORDS]) | st.text(max_size=9), min_size=1, max_size=3
    )
    lists = lines.map(
        lambda of_list: Case(
            "ImageSets/Main/trainval.txt", "\n".join(of_list).encode("utf-8", "replace")
        )
    )
    return st.one_of(_xml(folder), _xml(folder), lists)


def _read_voc(folder: Path, _: str) -> None:
    read_whole(VOCFolder(folder, "voc"))


# COCO --------------------------------------------------------------------------------------------


def _coco(folder: Path) -> Sequence[str]:
    (folder / "annotations").mkdir()
    outlines: list[Any] = [
        [[2, 2, 10, 2, 10, 9, 2, 9], [12, 3, 20, 3, 20.5, 10.25]],
        {"size": [HEIGHT, WIDTH], "counts": [20, 5, 50, 9, WIDTH * HEIGHT - 84]},
        {"size": [HEIGHT, WIDTH], "counts": "T11`0B60O0010O0000O1O^O"},
    ]
    # The last as pycocotools writes it.
    from pycocotools import mask as coco

    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    drawn[4:9, 5:20] = 1
    outlines[2]["counts"] = coco.encode(np.asfortranarray(drawn))["counts"].decode()
    for first, split in enumerate(("train", "val")):
        photograph(folder / split / "a.jpg")
        number = first + 1
        data = {
            "images": [{"id": number, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
            "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
            "annotations": [
                {
                    "id": 10 * number + n,
                    "image_id": number,
                    "category_id": (3, 7, 3)[n],
                    "bbox": [2.0, 2, 18.5, 9],
                    "area": 50.5,
                    "iscrowd": int(n == 1),
                    "segmentation": outline,
                }
                for n, outline in enumerate(outlines)
            ],
        }
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    return ["annotations/instances_train.json", "annotations/instances_val.json"]


def _read_coco(folder: Path, _: str) -> None:
    read_whole(COCOFolder(folder, "coco"))


@st.composite
def _outlines(draw: st.DrawFn, folder: Path) -> Case:
    """Sizes that no image has, outlines that cost time or memory to draw."""
    name = "annotations/instances_train.json"
    data = json.loads((folder / name).read_text())
    first = data["annotations"][0]
    far = draw(st.sampled_from((47.0, 48, 49, 1e6, 2.0**31)))
    many = draw(st.sampled_from((10, 300, 300, 30_000)))
    how = draw(st.sampled_from(("zigzag", "polygons", "size", "counts", "string", "objects")))
    if how == "zigzag":
        first["segmentation"] = [[-far, 0, far, HEIGHT] * many]
    elif how == "polygons":
        first["segmentation"] = [[0, 0, WIDTH, 0, WIDTH, HEIGHT]] * many
    elif how == "size":
        width = draw(st.sampled_from((WIDTH, 2**16, 2**15, 9000, 1, 0, -1)))
        height = draw(st.sampled_from((HEIGHT, 2**16, 9000, 1.0, 1.5)))
        data["images"][0] |= {"width": width, "height": height}
        runs = {"size": [height, width], "counts": [width * height]}
        first["segmentation"] = draw(st.sampled_from(([[0, 0, 9, 0, 9, 9]], runs)))
    elif how == "counts":
        numbers = st.sampled_from(
            (0, 1, -1, WIDTH * HEIGHT, 2**31, 2**32, 2**32 + 384, 2**63, -384)
        )
        first["segmentation"] = {
            "size": [HEIGHT, WIDTH],
            "counts": draw(st.lists(numbers, max_size=6)),
        }
    elif how == "string":
        counts = draw(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
        first["segmentation"] = {
            "size": [HEIGHT, WIDTH],
            "counts": counts * draw(st.integers(1, 3)),
        }
    else:
        data["annotations"] += [{**first, "id": 1000 + n} for n in range(many // 10)]
    return Case(name, json.dumps(data).encode())


# YOLO --------------------------------------------------------------------------------------------


def _yolo(folder: Path) -> Sequence[str]:
    for split, names in (("train", ("a", "b")), ("val", ("c",))):
        (folder / "labels" / split).mkdir(parents=True)
        for name in names:
            photograph(folder / "images" / split / f"{name}.jpg")
            (folder / "labels" / split / f"{name}.txt").write_text(
                "0 0.1 0.1 0.6 0.1 0.6 0.7 0.1 0.7\n1 0.5 0.2 0.9 0.9 0.3 0.8\n"
                if name == "a"
                else "0 0.5 0.5 0.4 0.3\n1 0.25 0.75 0.2 0.2\n"
            )
    (folder / "train.txt").write_text("images/train/a.jpg\n./images/train/b.jpg\n")
    (folder / "data.yaml").write_text(
        "train: train.txt\nval: images/val\nnc: 2\nnames: [cat, dog]\n"
    )
    return ["data.yaml", "data.yaml", "labels/train/a.txt", "labels/train/b.txt", "train.txt"]


def _read_yolo(folder: Path, _: str) -> None:
    read_whole(YOLOFolder(folder, "yolo"))


_MERGED = f"{{{{<<: [{', '.join(['*a{0}'] * 10)}]}}}}"
YAMLS: list[Callable[[str], str]] = [
    lambda text: "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*a, *a]\n" for c in "bcde") + text,
    lambda text: f"names: {'[' * 400}",
    lambda text: (
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{n}: &a{n} {_MERGED.format(n - 1)}\n" for n in range(1, 9))
        + text
    ),
    lambda text: text.replace("[cat, dog]", f"[{', '.join(map(str, range(3_000)))}, cat, cat]"),
    lambda text: text + "# " + "x" * 10**6,
    lambda text: f"? {'x' * 5000}\n: 1\n{text}",
    lambda text: text.replace("cat", "!!python/object/apply:os.getpid []"),
    lambda text: text.replace("cat", "!!binary x"),
    lambda text: text.replace("cat", "!!set {a, b}"),
    lambda text: text.replace("cat", "2026-01-01"),
    lambda text: text.replace("nc: 2", f"nc: {'9' * 5000}"),
    lambda text: text.replace("nc: 2", "nc: .nan"),
    lambda text: text.replace("nc: 2", "nc: 1_0:59:59"),
    lambda text: text.replace("train.txt", "/"),
    lambda text: text.replace("train.txt", "/etc/passwd"),
    lambda text: text.replace("train.txt", "../.."),
    lambda text: text.replace("train.txt", "'a\\0b'"),
    lambda text: text.replace("train.txt", '"a\\0b"'),
    lambda text: text.replace("train.txt", '"\\ud800"'),
    lambda text: text.replace("train.txt", f"[{', '.join(['images/train'] * 300)}]"),
    lambda text: f"<<: *a\n{text}",
    lambda text: f"path: {'a/' * 3000}\n{text}",
    lambda text: f'path: "\\0"\n{text}',
    lambda text: f"---\n{text}---\n{text}",
    lambda text: text.replace("[cat, dog]", "{0: cat, 1.0: dog}"),
    lambda text: text.replace("[cat, dog]", "{0: cat, 99999999999999999999: dog}"),
]


def _yamls(folder: Path) -> st.SearchStrategy[Case]:
    text = (folder / "data.yaml").read_text()
    lines = st.lists(st.sampled_from(WORDS) | st.floats().map(str), min_size=4, max_size=9)
    return st.one_of(
        st.sampled_from(YAMLS).map(lambda change: Case("data.yaml", change(text).encode())),
        lines.map(
            lambda words: Case(
                "labels/train/b.txt", f"0 {' '.join(words)}\n".encode("utf-8", "replace")
            )
        ),
        st.sampled_from(
            [*WORDS, "/etc/passwd", "images/../../x.jpg", "images/train", "data.yaml"]
        ).map(lambda word: Case("train.txt", f"images/train/a.jpg\n{word}\n".encode())),
    )


# LabelMe -----------------------------------------------------------------------------------------


def _shape(kind: str, *points: float, **more: Any) -> dict[str, Any]:
    pairs = [list(pair) for pair in zip(points[::2], points[1::2], strict=True)]
    return {"label": "cat", "shape_type": kind, "points": pairs, "group_id": None, **more}


def _png(width: int, height: int) -> str:
    file = BytesIO()
    Image.fromarray(np.ones((height, width), bool)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _labelme(folder: Path) -> Sequence[str]:
    shapes = [
        _shape("polygon", 2, 3, 9, 3, 9, 12, group_id=1),
        _shape("polygon", 12, 3, 19, 3.5, 19, 12, group_id=1),
        _shape("rectangle", 20, 12, 3, 1) | {"label": "dog"},
        _shape("circle", 10, 8, 13, 12),
        _shape("mask", 4, 5, 9, 8, mask=_png(6, 4)),
        _shape("point", 4, 5),
    ]
    for stem in "ab":
        photograph(folder / f"{stem}.jpg")
        data = {
            "version": "5.4.1",
            "shapes": shapes,
            "imagePath": f"{stem}.jpg",
            "imageData": None,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        (folder / f"{stem}.json").write_text(json.dumps(data))
    return ["a.json"]


def _read_labelme(folder: Path, _: str) -> None:
    read_whole(LabelMeFolder(folder, "labelme"))


@st.composite
def _shapes(draw: st.DrawFn, folder: Path) -> Case:
    """Shapes of another kind than their points, masks of other sizes, images of other sizes."""
    data = json.loads((folder / "a.json").read_text())
    shape = draw(st.sampled_from(data["shapes"]))
    how = draw(st.sampled_from(("kind", "points", "mask", "size", "group", "many", "zigzag")))
    number = st.sampled_from((0, -1, 0.5, 23, 24, 48.5, 1e6, 2**31, -(2.0**31), 10**400))
    if how == "kind":
        kinds = ("polygon", "rectangle", "circle", "mask", "rotation", "line", "x" * 3000, None, 5)
        shape["shape_type"] = draw(st.sampled_from(kinds))
    elif how == "points":
        shape["points"] = draw(st.lists(st.lists(number, min_size=2, max_size=2), max_size=5))
    elif how == "mask":
        width, height = draw(st.sampled_from(((6, 4), (1, 1), (4, 6), (3000, 3000))))
        shape |= {"shape_type": "mask", "mask": _png(width, height)[: draw(st.integers(0, 400))]}
        corner = st.sampled_from((-1, 0, 4, 23, 24, 2999))
        shape["points"] = [[draw(corner), draw(corner)], [draw(corner), draw(corner)]]
    elif how == "size":
        data["imageWidth"] = draw(st.sampled_from((0, None, WIDTH, 1, 2**15, 2**31 - 1, 2**31)))
        data["imageHeight"] = draw(st.sampled_from((0, None, HEIGHT, 1.5, 2**15, 2**31 - 1)))
    elif how == "group":
        shape["group_id"] = draw(st.sampled_from((1, True, "1", 1.0, [], {}, 10**400)))
    elif how == "many":
        data["shapes"] += [
            shape | {"label": f"{n}"} for n in range(draw(st.sampled_from((9, 900))))
        ]
    else:
        far = draw(st.sampled_from((47.0, 48, 49)))
        shape |= {"shape_type": "polygon", "points": [[-far, 0], [far, HEIGHT]] * 30_000}
    return Case("a.json", json.dumps(data).encode())


LABELME = Reader("LabelMe JSON", _labelme, _read_labelme, _shapes)
VOC = Reader("VOC XML, lists, masks", _voc, _read_voc, _voc_cases)
COCO = Reader("COCO JSON", _coco, _read_coco, _outlines)
YOLO = Reader("YOLO data.yaml, labels, lists", _yolo, _read_yolo, _yamls)
