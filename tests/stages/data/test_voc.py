"""Reading the VOC layout: boxes made continuous once, and every fault named by its file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.decode import image_of
from stages.data.images import masks_of
from stages.data.voc import VOCFolder, read_annotation, read_split
from stages.errors import InputError

SHARED = Path(__file__).parents[3] / "../shared/data"
Make = Callable[..., Path]
CAT, DOG = ("cat", 3, 4, 20, 30), ("dog", 10, 2, 40, 33, 1)


@pytest.fixture
def made(make_voc: Make) -> Path:
    return make_voc({"one": [CAT, DOG], "two": [DOG], "three": [CAT]})


def xml_of(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "a.xml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def fault_of(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        read_annotation(path, "a")
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


# ------------------------------------------------------------------ boxes


@pytest.mark.parametrize(
    ("inclusive", "continuous"),
    [
        ((1, 1, 48, 40), (0, 0, 48, 40)),  # the whole image
        ((1, 1, 1, 1), (0, 0, 1, 1)),  # its first pixel
        ((48, 40, 48, 40), (47, 39, 48, 40)),  # its last
        ((3, 4, 20, 30), (2, 3, 20, 30)),
        ((3.5, 4.25, 20.5, 30.75), (2.5, 3.25, 20.5, 30.75)),
        ((0, 0, 49, 41), (0, 0, 48, 40)),  # a pixel over every edge
        ((-50, -50, 500, 500), (0, 0, 48, 40)),
    ],
)
def test_inclusive_indices_become_continuous_coordinates(
    make_voc: Make, inclusive: tuple[float, ...], continuous: tuple[float, ...]
) -> None:
    data = VOCFolder(make_voc({"a": [("cat", *inclusive)], "b": []}), "made")
    (record,) = data.train
    assert record.boxes.dtype == np.float32
    assert record.boxes.tolist() == [list(continuous)]
    # What is evaluated is not cut, as the devkit does not.
    xmin, ymin, xmax, ymax = inclusive
    assert record.evaluated_boxes.dtype == np.float64
    assert record.evaluated_boxes.tolist() == [[xmin - 1, ymin - 1, xmax, ymax]]


def test_a_record(made: Path) -> None:
    data = VOCFolder(made, "made")
    one, two = data.train
    assert data.classes == ("cat", "dog")
    assert (one.image_id, two.image_id) == ("one", "two")
    assert one.path == made / "JPEGImages" / "one.jpg"
    assert (one.width, one.height) == (48, 40)
    assert one.boxes.tolist() == [[2, 3, 20, 30], [9, 1, 40, 33]]
    assert one.labels.tolist() == [1, 2]
    assert one.labels.dtype == np.int64
    assert one.difficult.tolist() == [False, True]
    assert one.iscrowd.tolist() == [False, False]
    assert one.mask_path is None
    assert one.mask_ids is None
    assert [record.image_id for record in data.test] == ["three"]


def test_an_image_without_objects_is_kept(make_voc: Make) -> None:
    data = VOCFolder(make_voc({"a": [CAT], "b": [], "c": []}), "made")
    record = data.train[1]
    assert record.boxes.shape == (0, 4)
    assert record.labels.shape == record.difficult.shape == record.iscrowd.shape == (0,)
    assert data.test[0].boxes.shape == (0, 4)


FLAT = [
    ("cat", 10, 10, 5, 20),  # turned round
    ("cat", 10, 10, 20, 9),
    ("cat", 49, 5, 60, 20),  # right of the image
    ("cat", -9, 5, 0, 20),  # left of it
    ("cat", 5, 41, 20, 60),
    ("cat", 5, -9, 20, 0),
]


def test_boxes_without_area_are_dropped_and_counted(
    make_voc: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_voc({"a": [*FLAT[:3], DOG, *FLAT[3:], CAT], "b": [FLAT[0], CAT], "c": [CAT]})
    (root / "SegmentationObject").mkdir()
    Image.new("L", (48, 40)).save(root / "SegmentationObject" / "a.png")
    a, b = VOCFolder(root, "made").train
    assert a.boxes.tolist() == [[9, 1, 40, 33], [2, 3, 20, 30]]
    assert a.labels.tolist() == [2, 1]
    assert a.difficult.tolist() == [True, False]
    assert a.mask_ids is not None
    assert a.mask_ids.tolist() == [4, 8]  # objects are numbered as in the XML, from 1
    assert b.boxes.tolist() == [[2, 3, 20, 30]]
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{root}/ImageSets/Main/trainval.txt: dropped 7 boxes without area"]


# ------------------------------------------------------------------ classes


def test_classes_are_those_of_the_training_split(
    make_voc: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    emu, fox = ("emu", 1, 1, 9, 9), ("fox", 2, 2, 9, 9)
    data = VOCFolder(make_voc({"a": [DOG, CAT], "b": [emu, CAT, emu, fox]}), "made")
    assert data.classes == ("cat", "dog")
    (record,) = data.test
    assert record.labels.tolist() == [1]
    assert record.boxes.tolist() == [[2, 3, 20, 30]]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "2 objects of class 'emu'" in said[0]
    assert "1 objects of class 'fox'" in said[1]
    assert all("test.txt" in line for line in said)


def test_masks_stay_with_their_objects_when_a_class_is_unknown(make_voc: Make) -> None:
    root = make_voc({"a": [CAT], "b": [("emu", 1, 1, 9, 9), CAT]})
    (root / "SegmentationObject").mkdir()
    pixels = np.zeros((40, 48), np.uint8)
    pixels[:9, :9], pixels[20:30, 5:20] = 1, 2
    Image.fromarray(pixels).save(root / "SegmentationObject" / "b.png")
    (record,) = VOCFolder(root, "made").test
    assert (masks_of(record).numpy() == (pixels == 2)[None]).all()


def test_masks_of_some_images(make_voc: Make) -> None:
    """As in VOC: a few thousand images are segmented, the others are for detection alone."""
    root = make_voc({"a": [CAT, DOG], "b": [CAT], "c": []})
    (root / "SegmentationObject").mkdir()
    pixels = np.zeros((40, 48), np.uint8)
    pixels[3:30, 2:20], pixels[0:3, 2:20], pixels[1:33, 20:40] = 1, 255, 2
    colours = Image.fromarray(pixels).convert("P")
    colours.putpalette(range(256), "RGB")
    colours.save(root / "SegmentationObject" / "a.png")
    a, b = VOCFolder(root, "made").train
    assert a.has_masks
    assert not b.has_masks
    masks = masks_of(a).numpy()
    assert (masks == np.stack([pixels == 1, pixels == 2])).all()  # 255 is no object's


def test_category_ids(made: Path) -> None:
    assert VOCFolder(made, "made").category_ids == (1, 2)


def test_no_object_to_learn_from(make_voc: Make) -> None:
    data = VOCFolder(make_voc({"a": [], "b": [CAT]}), "made")
    with pytest.raises(InputError, match=r"trainval\.txt: no object"):
        _ = data.classes


# ------------------------------------------------------------------ splits


def stems(root: Path, *splits: str) -> tuple[list[str | int], list[str | int]]:
    data = VOCFolder(root, "made", *splits)
    return [r.image_id for r in data.train], [r.image_id for r in data.test]


FIVE = {stem: [CAT] for stem in "abcde"}


@pytest.mark.parametrize(
    ("splits", "train", "test"),
    [
        ({"trainval": "ab", "train": "a", "val": "b", "test": "c"}, "ab", "c"),
        ({"trainval": "ab", "test": "c"}, "ab", "c"),
        ({"train": "a", "test": "c", "val": "b"}, "a", "c"),
        ({"train": "a", "val": "b"}, "a", "b"),
        ({"trainval": "abd", "val": "ce"}, "abd", "ce"),
    ],
)
def test_usual_splits_are_found(
    make_voc: Make, splits: dict[str, str], train: str, test: str
) -> None:
    assert stems(make_voc(FIVE, splits)) == ([*train], [*test])


def test_nothing_is_tested_on_that_was_trained_on(make_voc: Make) -> None:
    """VOC 2012 as it is published: its trainval is train and val, and there is no test."""
    root = make_voc(FIVE, {"trainval": "abcd", "train": "ab", "val": "cd"})
    train, test = stems(root)
    assert set(train).isdisjoint(test)
    assert (train, test) == (["a", "b"], ["c", "d"])


def test_splits_by_name(make_voc: Make) -> None:
    root = make_voc(FIVE, {"trainval": "abcd", "train": "ab", "val": "cd", "test": "e", "few": "c"})
    assert stems(root, "train", "val") == (["a", "b"], ["c", "d"])
    assert stems(root, "few") == (["c"], ["e"])


@pytest.mark.parametrize("splits", [("val", "val"), ("test", "auto"), ("auto", "trainval")])
def test_one_split_for_both_is_refused(make_voc: Make, splits: tuple[str, str]) -> None:
    root = make_voc(FIVE, {"trainval": "ab", "val": "c", "test": "d"})
    with pytest.raises(InputError, match="both the training and the test split"):
        VOCFolder(root, "made", *splits)


@pytest.mark.parametrize(
    ("splits", "wanted", "missing"),
    [
        ({"test": "a"}, ("auto", "auto"), "trainval.txt or train.txt"),
        ({"trainval": "a"}, ("auto", "auto"), "test.txt or val.txt"),
        ({"trainval": "a", "test": "b"}, ("other", "auto"), "other.txt"),
    ],
)
def test_a_split_that_is_not_there_is_named(
    make_voc: Make, splits: dict[str, str], wanted: tuple[str, str], missing: str
) -> None:
    root = make_voc(FIVE, splits)
    with pytest.raises(InputError, match=f"Main: holds no {missing}"):
        VOCFolder(root, "made", *wanted)


@pytest.mark.parametrize("part", ["", "JPEGImages", "Annotations", "ImageSets/Main"])
def test_a_folder_that_is_not_there_is_named(made: Path, part: str) -> None:
    (made / part).rename(made.parent / "moved")
    with pytest.raises(InputError) as raised:
        VOCFolder(made, "made")
    assert str(raised.value).startswith(f"{made / part}: no such folder")


def test_a_list_with_a_second_column(tmp_path: Path) -> None:
    (tmp_path / "cat_train.txt").write_text("a -1\r\n\nb  1\n  c 0  \n")
    assert read_split(tmp_path / "cat_train.txt") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a\n../b\n", "'../b' is not a plain file name"),
        (b"..\n", "'..' is not a plain file name"),
        (b".\n", "'.' is not a plain file name"),
        (b"/etc/passwd\n", "'/etc/passwd' is not a plain file name"),
        (b"a\\..\\b\n", "is not a plain file name"),
        (b"", "lists no image"),
        (b" \n\n", "lists no image"),
        (b"a\nb\na\n", "lists 'a' twice"),
        (b"a\n\xff\xfe\n", "decode"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "test.txt"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_split(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert fault in str(raised.value)


def test_a_listed_image_that_is_not_there(made: Path) -> None:
    (made / "JPEGImages" / "two.jpg").unlink()
    with pytest.raises(InputError, match=r"trainval\.txt: lists 'two', but .*two\.jpg is missing"):
        _ = VOCFolder(made, "made").train


def test_a_listed_image_without_annotation(made: Path) -> None:
    (made / "Annotations" / "three.xml").unlink()
    with pytest.raises(InputError, match=r"three\.xml: missing"):
        _ = VOCFolder(made, "made").test


@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".JPG", ".bmp", ".webp"])
def test_images_of_other_kinds(made: Path, suffix: str) -> None:
    Image.new("RGB", (48, 40), "red").save(made / "JPEGImages" / f"x{suffix}")
    (made / "JPEGImages" / "two.jpg").unlink()
    (made / "JPEGImages" / f"x{suffix}").rename(made / "JPEGImages" / f"two{suffix}")
    assert VOCFolder(made, "made").train[1].path.name == f"two{suffix}"


# ------------------------------------------------------------------ annotations

SIZE = "<size><width>10</width><height>8</height></size>"
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"


def test_parts_of_an_object_are_not_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>"
    text = f"<annotation>{SIZE}<object>{part}<name>man</name>{BOX}</object></annotation>"
    _, names, size, boxes, difficult = read_annotation(xml_of(tmp_path, text), "a")
    assert (names, size) == (["man"], (10, 8))
    assert boxes.tolist() == [[0, 0, 5, 5]]
    assert difficult.tolist() == [False]


def test_blanks_around_values(tmp_path: Path) -> None:
    box = BOX.replace(">1<", ">\n 1 <")
    flag = "<difficult> 1\n</difficult>"
    text = f"<annotation>{SIZE}<object><name> man\n</name>{flag}{box}</object></annotation>"
    _, names, _, boxes, difficult = read_annotation(xml_of(tmp_path, text), "a")
    assert names == ["man"]
    assert boxes.tolist() == [[0, 0, 5, 5]]
    assert difficult.tolist() == [True]


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>',
        '<!DOCTYPE x [<!ENTITY c SYSTEM "file:///etc/hostname">]>',
    ],
)
def test_entities_are_refused(tmp_path: Path, declaration: str) -> None:
    text = f"{declaration}<annotation>{SIZE}<object><name>&c;</name>{BOX}</object></annotation>"
    assert "EntitiesForbidden" in fault_of(xml_of(tmp_path, text))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not xml at all",
        b"\xff\xd8\xff\xe0 a photograph",
        b"\x00\x01\x02",
        f"<annotation>{SIZE}".encode(),
        f"<annotation>{SIZE}</annotation".encode(),
        f"<annotation>{SIZE}</annotations>".encode(),
        f'<?xml version="1.0" encoding="no-such"?><annotation>{SIZE}</annotation>'.encode(),
        f'<?xml version="1.0" encoding="utf-16"?><annotation>{SIZE}</annotation>'.encode(),
        f'<?xml version="1.0" encoding="hex"?><annotation>{SIZE}</annotation>'.encode(),
        b"<annotation>\xe9</annotation>",
    ],
)
def test_broken_xml_is_named(tmp_path: Path, content: bytes) -> None:
    assert "not readable as XML" in fault_of(xml_of(tmp_path, content))


def test_a_folder_named_like_an_annotation(tmp_path: Path) -> None:
    (tmp_path / "a.xml").mkdir()
    fault_of(tmp_path / "a.xml")


def test_an_annotation_that_is_not_there(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "a.xml").endswith("missing")


@pytest.mark.parametrize("value", ["", "wide", "nan", "inf", "1e999", "-4", "0"])
@pytest.mark.parametrize("side", ["width", "height"])
def test_a_size_that_is_none(tmp_path: Path, side: str, value: str) -> None:
    number = "10" if side == "width" else "8"
    size = SIZE.replace(f"<{side}>{number}", f"<{side}>{value}")
    assert size != SIZE
    fault = fault_of(xml_of(tmp_path, f"<annotation>{size}</annotation>"))
    assert side in fault or "image size" in fault


def test_a_missing_size_is_named(tmp_path: Path) -> None:
    text = f"<annotation><object><name>man</name>{BOX}</object></annotation>"
    assert "width" in fault_of(xml_of(tmp_path, text))


@pytest.mark.parametrize("side", ["xmin", "ymin", "xmax", "ymax"])
@pytest.mark.parametrize("value", ["", "left", "nan", "-inf"])
def test_a_box_that_is_none(tmp_path: Path, side: str, value: str) -> None:
    old = "1" if side.endswith("min") else "5"
    box = BOX.replace(f"<{side}>{old}", f"<{side}>{value}")
    assert box != BOX
    text = f"<annotation>{SIZE}<object><name>man</name>{box}</object></annotation>"
    assert side in fault_of(xml_of(tmp_path, text))


@pytest.mark.parametrize("name", ["", "<name/>", "<name> \n</name>"])
def test_an_object_without_a_name(tmp_path: Path, name: str) -> None:
    text = f"<annotation>{SIZE}<object>{name}{BOX}</object></annotation>"
    assert "without a name" in fault_of(xml_of(tmp_path, text))


def test_an_image_of_another_size_than_its_annotation_says(made: Path) -> None:
    Image.new("RGB", (40, 48)).save(made / "JPEGImages" / "two.jpg")  # turned since
    record = VOCFolder(made, "made").train[1]
    with pytest.raises(InputError, match=r"two\.jpg: 40x48 pixels, but .* 48x40"):
        image_of(record)


# ------------------------------------------------------------------ the fingerprint


def fingerprint(root: Path, *splits: str) -> str:
    return VOCFolder(root, "made", *splits).fingerprint


def test_the_same_files_have_the_same_fingerprint(made: Path) -> None:
    before = fingerprint(made)
    assert before == fingerprint(made)
    moved = made.rename(made.parent / "moved")
    assert before == fingerprint(moved)
    assert before == VOCFolder(moved, "another name").fingerprint


@pytest.mark.parametrize(
    "file", ["Annotations/one.xml", "JPEGImages/two.jpg", "ImageSets/Main/test.txt"]
)
def test_a_changed_file_changes_the_fingerprint(made: Path, file: str) -> None:
    seen = {fingerprint(made)}
    stat = (made / file).stat()
    os.utime(made / file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    seen.add(fingerprint(made))
    content = (made / file).read_bytes()
    (made / file).write_bytes(content + b"\n")
    os.utime(made / file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same time, other size
    seen.add(fingerprint(made))
    (made / file).rename((made / file).with_name("renamed"))
    (made / "ImageSets/Main/val.txt").write_text("one\n")  # some split must be left
    os.utime(made / "ImageSets/Main/val.txt", ns=(0, 0))
    seen.add(fingerprint(made))
    assert len(seen) == 4


@pytest.mark.parametrize("part", ["Annotations", "JPEGImages", "SegmentationObject"])
def test_an_added_file_changes_the_fingerprint(made: Path, part: str) -> None:
    before = fingerprint(made)
    (made / part).mkdir(exist_ok=True)
    (made / part / "new").write_text("")
    added = fingerprint(made)
    (made / part / "new").unlink()
    assert before == fingerprint(made) != added


def test_other_splits_have_another_fingerprint(make_voc: Make) -> None:
    root = make_voc(FIVE, {"trainval": "ab", "train": "ab", "val": "cd", "test": "cd"})
    pairs = [("trainval", "test"), ("train", "test"), ("trainval", "val"), ("test", "trainval")]
    assert len({fingerprint(root, *pair) for pair in pairs}) == 4
    assert fingerprint(root) == fingerprint(root, "trainval", "test")


def test_a_given_fingerprint_counts_instead_of_the_files(make_voc: Make) -> None:
    root = make_voc(FIVE, {"trainval": "ab", "val": "c", "test": "de"})
    prints = {
        VOCFolder(root, "made", "auto", test, fingerprint=given).fingerprint
        for test in ("val", "test")
        for given in ("f", "g")
    }
    assert len(prints) == 4
    (root / "JPEGImages" / "new.jpg").write_text("")
    assert VOCFolder(root, "made", fingerprint="f").fingerprint in prints


def test_a_link_to_nowhere_is_named(made: Path) -> None:
    """As in a checkout whose large files were not fetched."""
    (made / "JPEGImages" / "two.jpg").unlink()
    (made / "JPEGImages" / "two.jpg").symlink_to(made / "not fetched.jpg")
    with pytest.raises(InputError, match="two"):
        data = VOCFolder(made, "made")
        _ = data.fingerprint, data.train


# ------------------------------------------------------------------ real photographs


@pytest.mark.parametrize("name", ["pets", "bccd", "street5"])
def test_a_real_data_set(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"no {name} beside the checkout")
    data = VOCFolder(root, name)
    assert len(data.classes) >= 2
    assert {record.image_id for record in data.train}.isdisjoint(r.image_id for r in data.test)
    for record in [*data.train, *data.test]:
        assert (record.boxes[:, :2] < record.boxes[:, 2:]).all()
        assert (record.boxes >= 0).all()
        assert (record.boxes[:, 2:] <= [record.width, record.height]).all()
        assert set(record.labels) <= set(range(1, len(data.classes) + 1))
    for record in data.test[::60]:
        assert image_of(record).shape == (record.height, record.width, 3)
        assert record.has_masks == (name == "pets")
        if record.has_masks:
            for mask, (x1, y1, x2, y2) in zip(masks_of(record), record.boxes, strict=True):
                rows, columns = np.nonzero(mask.numpy())
                seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert seen == [x1, y1, x2, y2]
