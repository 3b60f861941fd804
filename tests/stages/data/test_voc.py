"""Reading the VOC layout: boxes made continuous once, and every fault named by its file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.decode import image_of
from stages.data.faults import Faults
from stages.data.images import masks_of
from stages.data.layouts import Negatives, open_folder
from stages.data.voc import VOCFolder
from stages.errors import InputError

SHARED = Path(__file__).parents[3] / "../shared/data"
Make = Callable[..., Path]
CAT, DOG = ("cat", 3, 4, 20, 30), ("dog", 10, 2, 40, 33, 1)


@pytest.fixture
def made(make_voc: Make) -> Path:
    return make_voc({"one": [CAT, DOG], "two": [DOG], "three": [CAT]})


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


def test_an_object_without_pixels_in_the_masks_leaves_the_others_theirs(make_voc: Make) -> None:
    root = make_voc({"a": [CAT, DOG, ("emu", 30, 30, 40, 40)], "b": [CAT]})
    (root / "SegmentationObject").mkdir()
    pixels = np.zeros((40, 48), np.uint8)
    pixels[3:30, 2:20], pixels[30:40, 30:40] = 1, 3
    Image.fromarray(pixels).save(root / "SegmentationObject" / "a.PNG")
    (record,) = VOCFolder(root, "made").train
    assert record.has_masks
    masks = masks_of(record).numpy()
    assert (masks == np.stack([pixels == 1, pixels == 2, pixels == 3])).all()
    assert masks.any(axis=(1, 2)).tolist() == [True, False, True]


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


@pytest.mark.parametrize("splits", [("test", "auto"), ("auto", "trainval")])
def test_one_split_for_both_is_refused(make_voc: Make, splits: tuple[str, str]) -> None:
    root = make_voc(FIVE, {"trainval": "ab", "val": "c", "test": "d"})
    with pytest.raises(InputError, match="both the training and the test split"):
        VOCFolder(root, "made", *splits)


def test_one_split_for_both_is_the_users_own_doing(
    make_voc: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_voc(FIVE, {"trainval": "ab", "val": "c", "test": "d"})
    data = VOCFolder(root, "made", "val", "val")
    assert not data.one_split
    assert "warning: training and testing on the same images, val" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["default", "train", "test", "Valid"])
def test_the_only_list_is_both(make_voc: Make, name: str) -> None:
    """A part of it is held out, by whoever asks for it."""
    root = make_voc(FIVE, {name: "abcde", "cat_" + name: "ab"})
    data = VOCFolder(root, "made")
    assert data.one_split
    assert [r.image_id for r in data.train] == [r.image_id for r in data.test] == [*"abcde"]
    assert not VOCFolder(root, "made", name, name).one_split


@pytest.mark.parametrize(
    ("splits", "wanted", "fault"),
    [
        ({"val": "a", "test": "b"}, ("auto", "auto"), "has test, val; none of them is the usual"),
        ({"train": "a", "few": "b"}, ("auto", "auto"), "none of them is the usual one to test on"),
        ({"trainval": "a", "test": "b"}, ("other", "auto"), "there is no split 'other' to train"),
        ({"train": "a", "Train": "b", "val": "c"}, ("auto", "auto"), "Train and train could both"),
        ({}, ("auto", "auto"), "holds no list of images, such as train.txt"),
    ],
)
def test_a_split_that_is_not_there_is_named(
    make_voc: Make, splits: dict[str, str], wanted: tuple[str, str], fault: str
) -> None:
    root = make_voc(FIVE, splits)
    with pytest.raises(InputError, match=f"ImageSets/Main: .*{fault}"):
        VOCFolder(root, "made", *wanted)


def test_lists_in_any_case(make_voc: Make) -> None:
    root = make_voc(FIVE, {"Train": "ab", "VAL": "c", "Test": "de"})
    (root / "ImageSets/Main/Test.txt").rename(root / "ImageSets/Main/Test.TXT")
    assert stems(root) == (["a", "b"], ["d", "e"])
    assert stems(root, "train", "val") == (["a", "b"], ["c"])


def test_lists_of_a_class_are_no_splits(make_voc: Make) -> None:
    """The devkit has four for each class: which images show it."""
    root = make_voc(FIVE, {"train": "ab", "val": "c", "cat_train": "ab", "cat_val": "c"})
    for name in ("cat_train", "cat_val"):
        path = root / "ImageSets/Main" / f"{name}.txt"
        path.write_text("".join(f"{line} -1\n" for line in path.read_text().split()))
    assert stems(root) == (["a", "b"], ["c"])
    assert stems(root, "cat_train", "cat_val") == (
        ["a", "b"],
        ["c"],
    )  # but if someone asks for them


@pytest.mark.parametrize(
    ("splits", "train", "test"),
    [
        # A trainval may hold the images of val.
        ({"trainval": "abc", "train": "ab", "val": "c", "test": ""}, "ab", "c"),
        ({"train": "ab", "val": "c", "test": ""}, "ab", "c"),
        ({"trainval": "", "train": "ab", "test": "d"}, "ab", "d"),
        ({"train": "abc", "val": "", "test": ""}, "abc", "abc"),
    ],
)
def test_an_empty_list_is_no_split_and_that_is_said(
    make_voc: Make,
    splits: dict[str, str],
    train: str,
    test: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_voc(FIVE, splits)
    assert stems(root) == ([*train], [*test])
    said = capsys.readouterr().err.splitlines()
    empty = sorted(name for name, listed in splits.items() if not listed)
    assert [line.partition(":")[0] for line in said] == [
        f"{root}/ImageSets/Main/{name}.txt" for name in empty
    ]
    assert all("lists no image; training is on tra" in line for line in said)


def test_an_empty_list_that_is_asked_for(make_voc: Make) -> None:
    root = make_voc(FIVE, {"train": "ab", "val": "c", "test": ""})
    with pytest.raises(InputError, match=r"test\.txt: lists no image"):
        stems(root, "train", "test")
    (root / "ImageSets/Main/val.txt").write_text("")
    (root / "ImageSets/Main/train.txt").write_text("")
    with pytest.raises(InputError, match=r"test\.txt: lists no image"):
        VOCFolder(root, "made")


@pytest.mark.parametrize("part", ["", "JPEGImages", "Annotations", "ImageSets/Main"])
def test_a_folder_that_is_not_there_is_named(made: Path, part: str) -> None:
    (made / part).rename(made.parent / "moved")
    with pytest.raises(InputError) as raised:
        VOCFolder(made, "made")
    assert str(raised.value).startswith(f"{made / part}: no such folder")


def test_a_listed_image_that_is_not_there(made: Path) -> None:
    (made / "JPEGImages" / "two.jpg").unlink()
    with pytest.raises(InputError, match=r"trainval\.txt: lists 'two', but .*two\.jpg is missing"):
        _ = VOCFolder(made, "made").train


def test_a_listed_image_without_annotation(made: Path) -> None:
    (made / "Annotations" / "three.xml").unlink()
    with pytest.raises(InputError, match=r"three\.xml: missing; .* --data\.negatives use"):
        _ = VOCFolder(made, "made").test


def test_images_without_annotation_are_counted_and_used_or_left_out_if_asked(
    make_voc: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """As labelImg leaves those that show nothing."""
    root = make_voc(FIVE, {"train": "abcd", "test": "e"})
    for stem in "bcd":
        (root / "Annotations" / f"{stem}.xml").unlink()
    path = root / "ImageSets/Main/train.txt"
    with pytest.raises(InputError) as raised:
        _ = VOCFolder(root, "made").train
    assert raised.value.line.startswith(
        f"{path}: images without an annotation: 3: b, c, d; if they"
    )
    assert "--data.negatives use" in raised.value.line
    assert capsys.readouterr().err == ""

    data = VOCFolder(root, "made", negatives="use")
    assert [r.image_id for r in data.train] == [*"abcd"]
    assert [len(r.boxes) for r in data.train] == [1, 0, 0, 0]
    assert {(r.width, r.height) for r in data.train} == {(48, 40)}
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"{path}: images without an annotation, so without objects: 3: b, c, d"

    (root / "Annotations" / "e.xml").unlink()
    data = VOCFolder(root, "made", negatives="skip")
    assert [r.image_id for r in data.train] == ["a"]
    assert data.test == []
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_an_annotation_that_was_not_fetched_is_no_image_without_objects(made: Path) -> None:
    (made / "Annotations" / "two.xml").unlink()
    (made / "Annotations" / "two.xml").symlink_to(made / "not fetched.xml")
    with pytest.raises(InputError, match=r"two\.xml: missing$"):
        _ = VOCFolder(made, "made", negatives="use").train


def test_every_fault_of_both_splits_is_named(
    make_voc: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_voc(FIVE, {"train": ["a", "b", "c", "nowhere"], "test": ["d", "e", "e"]})
    (root / "Annotations/a.xml").write_text("no xml")
    (root / "Annotations/b.xml").unlink()
    (root / "JPEGImages/d.jpg").unlink()
    data = VOCFolder(root, "made")
    with pytest.raises(InputError, match=f"{root}: 5 faults, named above; nothing was trained"):
        _ = data.classes
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    for fault in ("a.xml: not readable", "b.xml: missing", "'nowhere'", "'d'", "lists 'e' twice"):
        assert sum(fault in line for line in said) == 1
    faults = Faults(root)
    train, test = data.read(faults)
    assert len(faults.lines) == 5
    assert [r.image_id for r in train] == ["c"]
    assert [r.image_id for r in test] == ["e"]


def test_names_with_blanks_and_the_images_they_could_be_taken_for(make_voc: Make) -> None:
    things = {name: [CAT] for name in ("a", "a (1)", "a 1", "b", "shot 0")}
    root = make_voc(things, {"train": ["a", "b"], "test": ["a (1)", "a 1"]})
    assert stems(root) == (["a", "b"], ["a (1)", "a 1"])
    (root / "ImageSets/Main/test.txt").write_text('"a (1)"\n"shot 0"\n')
    assert stems(root)[1] == ["a (1)", "shot 0"]
    (root / "JPEGImages/a (1).jpg").unlink()
    (root / "Annotations/a (1).xml").unlink()
    with pytest.raises(InputError, match=r"lists 'a \(1\)', but .*a \(1\)\.jpg is missing"):
        stems(root)


def test_images_in_folders(make_voc: Make) -> None:
    """As CVAT exports a task whose images are in folders."""
    root = make_voc({"a": [CAT], "b": [DOG, CAT]})
    for part, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        (root / part / "day 1").mkdir()
        for stem in "ab":
            (root / part / f"{stem}{suffix}").rename(root / part / "day 1" / f"{stem}{suffix}")
    (root / "ImageSets/Main/trainval.txt").write_text("day 1/a\n")
    (root / "ImageSets/Main/test.txt").write_text("JPEGImages/day 1/b.jpg\n")
    assert stems(root) == (["day 1/a"], ["day 1/b"])
    before = fingerprint(root)
    os.utime(root / "Annotations/day 1/a.xml", ns=(0, 0))
    assert fingerprint(root) != before


def test_an_object_that_is_there_twice_counts_once(
    make_voc: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_voc({"a": [CAT, DOG, CAT], "b": [CAT, CAT]})
    data = VOCFolder(root, "made")
    assert [len(r.boxes) for r in [*data.train, *data.test]] == [2, 1]
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in said] == [
        "dropped objects that are there twice, the second of each: 1: 'cat' of a",
        "dropped objects that are there twice, the second of each: 1: 'cat' of b",
    ]


@pytest.mark.parametrize(
    "suffix", [".png", ".jpeg", ".JPG", ".bmp", ".webp", ".Jpg", ".tif", ".WEBP", ".BMP"]
)
def test_images_of_other_kinds(made: Path, suffix: str) -> None:
    Image.new("RGB", (48, 40), "red").save(made / "JPEGImages" / f"x{suffix}")
    (made / "JPEGImages" / "two.jpg").unlink()
    (made / "JPEGImages" / f"x{suffix}").rename(made / "JPEGImages" / f"two{suffix}")
    assert VOCFolder(made, "made").train[1].path.name == f"two{suffix}"


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


# ------------------------------------------------------------------ as other tools write it

CASES = Path(__file__).parents[3] / "../shared/cases"


@pytest.mark.parametrize(
    "case",
    [
        *("01-cvat-voc/small", "01-cvat-voc/capital", "01-cvat-voc/default", "01-cvat-voc/parts"),
        *("03-voc-blanks/plain", "03-voc-blanks/silent", "03-voc-blanks/quoted"),
        *("04-labelimg-size0/zero", "04-labelimg-size0/nosize"),
        *(f"05-voc-endings/{ending}" for ending in ("png", "tif", "BMP", "Jpg", "WEBP")),
    ],
)
def test_a_tools_export(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not (CASES / case).is_dir():
        pytest.skip("no cases beside the checkout")
    data = open_folder(CASES / case, "case")
    assert isinstance(data, VOCFolder)
    assert data.classes == ("ball", "crate")
    assert data.one_split == case.endswith("default")
    assert (len(data.train), len(data.test)) == (8, 8 if data.one_split else 4)
    for record in [*data.train, *data.test]:
        assert len(record.boxes) == 3
        assert image_of(record).shape == (record.height, record.width, 3)
    if not data.one_split:
        assert {r.path for r in data.train}.isdisjoint(r.path for r in data.test)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("negatives", "images"), [("use", 8), ("skip", 7)])
def test_a_tools_images_without_objects(negatives: Negatives, images: int) -> None:
    if not CASES.is_dir():
        pytest.skip("no cases beside the checkout")
    with pytest.raises(InputError, match=r"a003\.xml: missing; .*--data\.negatives use"):
        _ = open_folder(CASES / "19-negatives/noxml", "case").train
    data = open_folder(CASES / "19-negatives/noxml", "case", negatives=negatives)
    assert (len(data.train), len(data.test)) == (images, 4)
    assert sum(len(record.boxes) for record in data.train) == 21
    data = open_folder(CASES / "19-negatives/mostly", "case", negatives=negatives)
    assert [len(record.boxes) > 0 for record in data.train].count(True) == 1


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
