"""Reading the YOLO layout: parts of the image become pixels, every fault named by file and line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.decode import image_of
from stages.data.faults import Faults
from stages.data.images import masks_of
from stages.data.yolo import YOLOFolder
from stages.data.yolo_files import read_config, read_labels
from stages.errors import InputError

Make = Callable[..., Path]
CAT, DOG = ("cat", 2, 3, 20, 30), ("dog", 9.5, 1, 40, 33.25)
NAMES = {0: "cat", 1: "dog", 4: "emu"}


@pytest.fixture
def made(make_yolo: Make) -> Path:
    return make_yolo({"one": [CAT, DOG], "two": [], "three": [CAT]})


def opened(root: Path, *splits: str) -> YOLOFolder:
    return YOLOFolder(root, "made", *splits)


def rewrite(root: Path, old: str, new: str) -> Path:
    text = (root / "data.yaml").read_text()
    assert old in text
    (root / "data.yaml").write_text(text.replace(old, new))
    return root


# ------------------------------------------------------------------ records


def test_a_record(made: Path) -> None:
    data = opened(made)
    one, two = data.train
    assert data.classes == ("cat", "dog")
    assert data.category_ids == (0, 1)
    assert one.path == made / "images" / "train" / "one.jpg"
    assert one.image_id == "images/train/one.jpg"
    assert (one.width, one.height) == (48, 40)
    assert one.boxes.tolist() == [[2, 3, 20, 30], [9.5, 1, 40, 33.25]]
    assert one.boxes.dtype == np.float32
    assert one.labels.tolist() == [1, 2]
    assert one.labels.dtype == np.int64
    assert one.difficult.tolist() == one.iscrowd.tolist() == [False, False]
    assert not one.has_masks
    assert two.boxes.shape == (0, 4)  # it has no label file
    assert [record.image_id for record in data.test] == ["images/val/three.jpg"]


def test_outlines_give_masks_and_boxes(make_yolo: Make) -> None:
    data = opened(make_yolo({"one": [CAT, DOG], "two": []}, outlines=True))
    record = data.train[0]
    assert record.boxes.tolist() == [[2, 3, 20, 30], [9.5, 1, 40, 33.25]]
    masks = masks_of(record).numpy()
    expected = np.zeros((40, 48), bool)
    expected[3:30, 2:20] = True
    assert (masks[0] == expected).all()
    assert masks[1].sum() == pytest.approx(30.5 * 32.25, rel=0.05)
    assert masks_of(data.test[0]).shape == (0, 40, 48)


def test_a_box_among_outlines_has_no_mask_and_the_others_keep_theirs(
    make_yolo: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_yolo({"one": [CAT], "two": []}, outlines=True)
    with open(root / "labels" / "train" / "one.txt", "a") as file:
        file.write("0 0.5 0.5 0.25 0.5\n")
    record = opened(root).train[0]
    assert record.boxes.tolist() == [[2, 3, 20, 30], [18, 10, 30, 30]]
    assert record.with_mask.tolist() == [True, False]
    assert masks_of(record).any(dim=2).any(dim=1).tolist() == [True, False]
    assert (
        f"{root}/data.yaml: train: label files of outlines and boxes, and a box has no mask: 1: "
        f"{root}/labels/train/one.txt\n"
    ) in capsys.readouterr().err


def test_classes_by_number(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(made, 'nc: 2\nnames: ["cat", "dog"]', "names:\n  3: emu\n  1: dog\n  0: cat\n  7: 9\n")
    (made / "labels/train/one.txt").write_text("7 .5 .5 .1 .1\n3 .5 .5 .1 .1\n7 .6 .5 .1 .1\n")
    data = opened(made)
    assert data.classes == ("emu", "9")
    assert data.category_ids == (3, 7)
    assert data.train[0].labels.tolist() == [2, 1, 2]
    assert data.test[0].labels.tolist() == []
    said = capsys.readouterr().err
    assert f"{made}/data.yaml: val: dropped 1 objects of class 'cat', not in train\n" in said


def test_boxes_are_cut_to_the_image_and_dropped_without_area(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "labels/train/one.txt").write_text(
        "0 .5 .5 1.5 1.5\n\n0 1.3 .5 .2 .2\n0 .5 .5 0 .2\n0 .5 .5 .2 -.2\n1 0 0 1 1\n"
        "0 .1 .1 .2 .1 .3 .1\n"
    )
    record = opened(made).train[0]
    assert record.boxes.tolist() == [[0, 0, 48, 40], [0, 0, 24, 20]]
    assert record.evaluated_boxes.tolist() == [[-12, -10, 60, 50], [-24, -20, 24, 20]]
    assert record.labels.tolist() == [1, 2]
    assert f"{made}/data.yaml: train: dropped 4 boxes without area\n" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".JPG", ".bmp", ".webp", ".tif"])
def test_images_of_other_kinds(made: Path, suffix: str) -> None:
    image = made / "images" / "train" / "one.jpg"
    with Image.open(image) as picture:
        picture.save(image.with_suffix(suffix))
    if suffix != ".jpg":
        image.unlink()
    record = opened(made).train[0]
    assert record.path.suffix == suffix
    assert len(record.boxes) == 2


# ------------------------------------------------------------------ where images are


def test_several_folders_and_those_below(made: Path) -> None:
    rewrite(made, "train: images/train", "train: [images/train, images/more]")
    for part in ("images", "labels"):
        (made / part / "more" / "inner").mkdir(parents=True)
    shutil.copy(made / "images/train/one.jpg", made / "images/more/inner/four.jpg")
    shutil.copy(made / "labels/train/one.txt", made / "labels/more/inner/four.txt")
    (made / "images/more/._four.jpg").write_text("of macOS")
    (made / "images/more/notes.txt").write_text("of the author")
    data = opened(made)
    assert [record.path.stem for record in data.train] == ["one", "two", "four"]
    assert len(data.train[2].boxes) == 2


def test_a_list_of_images(made: Path) -> None:
    (made / "some.txt").write_text(
        f"./images/train/two.jpg\n\nimages/val/three.jpg\n{made}/images/train/one.jpg\n"
    )
    rewrite(made, "train: images/train", "train: some.txt")
    data = opened(made)
    assert [record.path.stem for record in data.train] == ["two", "three", "one"]
    assert data.train[2].image_id == "images/train/one.jpg"
    assert [len(record.boxes) for record in data.train] == [0, 1, 2]


def test_a_path_elsewhere(made: Path, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    text = (made / "data.yaml").read_text()
    for path in ("../yolo", str(made)):
        (tmp_path / "config" / "data.yaml").write_text(f"path: {path}\n{text}")
        data = opened(tmp_path / "config")
        assert [record.image_id for record in data.test] == ["images/val/three.jpg"]
        assert len(data.train[0].boxes) == 2


@pytest.mark.parametrize("entry", ["..", "../..", "/", "/etc", "../beside", "images/../../beside"])
def test_an_entry_that_leads_out_is_refused(made: Path, tmp_path: Path, entry: str) -> None:
    shutil.copytree(made / "images", tmp_path / "beside")
    rewrite(made, "train: images/train", f"train: {entry}")
    with pytest.raises(InputError) as raised:
        _ = opened(made, "train", "val").train
    assert str(made / "data.yaml") in str(raised.value) or "no such folder" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("line", ["../beside/train/one.jpg", "/etc/hostname", "..", "images/../.."])
def test_a_line_of_a_list_that_leads_out_is_refused(made: Path, tmp_path: Path, line: str) -> None:
    shutil.copytree(made / "images", tmp_path / "beside")
    (made / "some.txt").write_text(f"images/train/one.jpg\n{line}\n")
    rewrite(made, "train: images/train", "train: some.txt")
    with pytest.raises(InputError, match="which leads out of") as raised:
        _ = opened(made).train
    assert str(raised.value).startswith(f"{made / 'some.txt'}: lists {line!r}")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "x/" * 3000, "\ud800", "~nobody"])
def test_names_that_are_none_are_refused(made: Path, name: str) -> None:
    (made / "some.txt").write_bytes(name.encode("utf-8", "surrogatepass"))
    rewrite(made, "train: images/train", "train: some.txt")
    with pytest.raises(InputError, match=r"some\.txt: "):
        _ = opened(made).train
    (made / "data.yaml").write_text(f"names: [cat]\ntrain: {json.dumps(name)}\nval: images/val\n")
    with pytest.raises(InputError):
        _ = opened(made, "train", "val").train


def test_a_link_to_the_data_may_be_named_by_either_path(made: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(made)
    (made / "some.txt").write_text(
        f"{made}/images/train/one.jpg\n{tmp_path}/link/images/train/two.jpg\n"
    )
    rewrite(made, "train: images/train", "train: some.txt")
    assert [record.path.stem for record in opened(tmp_path / "link").train] == ["one", "two"]


def test_an_outline_that_goes_to_and_fro_for_ever_is_refused(made: Path) -> None:
    file = made / "labels/train/one.txt"
    file.write_text(f"0 {'-2 0 2 1 ' * 10_000}\n")
    with pytest.raises(InputError, match="pixels' length") as raised:
        _ = opened(made).train
    assert str(raised.value).startswith(f"{file}: ")


def test_a_path_of_another_machine(made: Path) -> None:
    rewrite(made, "train:", "path: /home/someone/datasets/yolo\ntrain:")
    assert len(opened(made).train[0].boxes) == 2


def test_folders_as_roboflow_exports_them(made: Path) -> None:
    for split in ("train", "val"):
        (made / split).mkdir()
        for part in ("images", "labels"):
            (made / part / split).rename(made / split / part)
    rewrite(made, "train: images/train", "train: ../train/images")
    rewrite(made, "val: images/val", "val: ../val/images\ntest: ../test/images")
    data = opened(made)
    assert data.train[0].path == made / "train" / "images" / "one.jpg"
    assert len(data.train[0].boxes) == 2
    assert [record.path.stem for record in data.test] == ["three"]  # there is no test


def test_labels_beside_images(made: Path) -> None:
    for split in ("train", "val"):
        (made / split).mkdir()
        for file in [*(made / "images" / split).iterdir(), *(made / "labels" / split).iterdir()]:
            file.rename(made / split / file.name)
        rewrite(made, f"images/{split}", split)
    assert len(opened(made).train[0].boxes) == 2


# ------------------------------------------------------------------ splits


def test_splits(make_yolo: Make) -> None:
    things = {name: [CAT] for name in "abcd"}
    root = make_yolo(things, {"train": "a", "val": "b", "test": "c", "val_hard": "d"})

    def stems(*splits: str) -> list[str]:
        data = opened(root, *splits)
        return [record.path.stem for record in [*data.train, *data.test]]

    assert stems() == ["a", "c"]
    assert stems("val", "val_hard") == ["b", "d"]
    with pytest.raises(InputError, match="there is no split 'few' to test on"):
        opened(root, "train", "few")
    shutil.rmtree(root / "images" / "test")
    assert stems() == ["a", "b"]
    with pytest.raises(InputError, match="images/test: no such folder, nor list of images"):
        _ = opened(root, "auto", "test").test


def test_training_and_testing_on_the_same_images_is_warned_of(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(made, "val: images/val", "val: images/train")
    data = opened(made)
    assert "same images, train and val" in capsys.readouterr().err
    assert [r.image_id for r in data.train] == [r.image_id for r in data.test]


# ------------------------------------------------------------------ data.yaml


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "is no list of"),
        ("text", "is no list of"),
        ("- 1", "is no list of"),
        ("names: [a", "not readable as YAML"),
        ("\x00", "not readable as YAML"),
        ("names: !!python/object/apply:os.system ['touch hostile']", "not readable as YAML"),
        ("names: !!python/name:os.system", "not readable as YAML"),
        ("names: !!bool perhaps", "not readable as YAML"),
        ("names: !!timestamp x", "not readable as YAML"),
        ("names: !!int ''", "not readable as YAML"),
        ("? [1]\n: 2\n? {a: 1}\n: 3", "not readable as YAML"),
        ("[" * 5000, "not readable as YAML"),
        ("train: a\nval: b\n", "has no `names:`"),
        ("names: []", "has no `names:`"),
        ("names: {}", "has no `names:`"),
        ("names: 5", "has no `names:`"),
        ("names: cat", "has no `names:`"),
        ("names: {a: cat}", "class 'a' is not a number"),
        ("names: {-1: cat}", "class -1 is not a number"),
        ("names: {true: cat}", "class True is not a number"),
        ("names: [yes, no]", "class 0 is True, no name; quote it"),
        ("names: [null]", "class 0 is None"),
        ("names: ['  ']", "class 0 is ' '"),
        ("names: [[a]]", "class 0 is ['a']"),
        ('names: ["t\\ud800"]', "class 0: no file can hold 't\\ud800'"),
        ('names: ["t\\0"]', "class 0: no file can hold 't\\x00'"),
        ("names: [a, b, a]", "two classes are 'a'"),
        ("names: [a, b]\nnc: 3", "nc is 3, but there are 2 names"),
        ("names: [a]\npath: [b]", "path is ['b']"),
        ("names: [a]\ntrain: 5", "train is 5"),
        ("names: [a]\ntrain: []", "train is []"),
        ("names: [a]\ntrain: [5]", "train is [5]"),
        ("names: [a]\ntrain: {b: c}", "train is {'b': 'c'}"),
        ("names: [a]\ntrain: &x [*x]", "train is [[["),
        ("names: [a]\nkpt_shape: [17, 3]", "keypoints"),
    ],
)
def test_a_faulty_data_yaml(tmp_path: Path, content: str, fault: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as raised:
        read_config(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert fault in str(raised.value)
    assert len(str(raised.value)) < 500
    assert not Path("hostile").exists()


def test_merge_keys_do_not_multiply(tmp_path: Path) -> None:
    """Eight lines of `<<` would be a hundred million keys."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 9)]
    (tmp_path / "data.yaml").write_text("\n".join([*lines, "names: [cat]"]))
    with pytest.raises(InputError, match=r"data\.yaml: not readable as YAML"):
        read_config(tmp_path / "data.yaml")


def test_a_file_too_large_to_be_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [cat]\n" + "#" * 10**6)
    with pytest.raises(InputError, match="1000013 bytes, over"):
        read_config(tmp_path / "data.yaml")


def test_aliases_do_not_multiply(tmp_path: Path) -> None:
    """A few lines that would be 10^9 strings, were they written out."""
    levels = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 10))
    (tmp_path / "data.yaml").write_text(f"x0: &x0 lol\n{levels}names: *x9\n")
    with pytest.raises(InputError, match="names: class 0 is"):
        read_config(tmp_path / "data.yaml")


def test_no_splits(made: Path) -> None:
    rewrite(made, "train: images/train\n", "val2: images/train\n")
    with pytest.raises(InputError, match=r"data\.yaml: has val2, val; none of them .* to train on"):
        opened(made)


# ------------------------------------------------------------------ label files


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("0 .5 .5 .1", "4 fields"),
        ("0 .5 .5 .1 .1 .9", "6 fields"),
        ("0 .1 .1 .2 .1 .3 .1 .4", "8 fields"),
        ("0", "1 fields"),
        ("cat .5 .5 .1 .1", "'cat' is not a number"),
        ("0 .5 .5 .1 nan", "'nan' is not a number"),
        ("0 .5 .5 inf .1", "'inf' is not a number"),
        ("0 .5 .5 1e999 .1", "'1e999' is not a number"),
        ("0,.5,.5,.1,.1 1 1 1 1", "'0,.5,.5,.1,.1' is not a number"),
        ("2 .5 .5 .1 .1", "class 2, but data.yaml names 0 to 4"),
        ("-1 .5 .5 .1 .1", "class -1, but"),
        ("0.5 .5 .5 .1 .1", "class 0.5, but"),
        ("5 .5 .5 .1 .1", "class 5, but"),
        ("0 240 180 50 60", "numbers are not parts"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"0 .5 .5 .1 .1\n\n{line}\n")
    with pytest.raises(InputError) as raised:
        read_labels(path, NAMES)
    assert str(raised.value).startswith(f"{path}:3: {fault}")


def test_lines_of_all_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(
        b"\xef\xbb\xbf4 0.5 0.5 0.2 0.4\r\n  \r\n1.0\t.1 .2 .3 .2 .3 .5\n0 .5 .5 1 1"
    )
    emu, dog, cat = read_labels(tmp_path / "a.txt", NAMES)
    assert (emu.number, dog.number, cat.number) == (4, 1, 0)
    assert emu.box.tolist() == pytest.approx([0.4, 0.3, 0.6, 0.7])
    assert dog.box.tolist() == [0.1, 0.2, 0.3, 0.5]
    assert dog.polygon is not None
    assert dog.polygon.tolist() == [0.1, 0.2, 0.3, 0.2, 0.3, 0.5]
    assert emu.polygon is cat.polygon is None
    (tmp_path / "empty.txt").write_text("")
    assert read_labels(tmp_path / "empty.txt", NAMES) == []


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 a photograph", b"0 .5 .5 .1 \xe9"])
def test_no_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.txt: "):
        read_labels(tmp_path / "a.txt", NAMES)


# ------------------------------------------------------------------ files that are not there


def test_no_labels_at_all(made: Path) -> None:
    (made / "labels").rename(made / "moved")
    with pytest.raises(InputError, match="2 faults"):
        _ = opened(made).train
    faults = Faults("made")
    assert [len(records) for records in opened(made).read(faults)] == [2, 1]
    assert [line.partition(" (")[0] for line in faults.lines] == [
        f"{made}/labels/{split}: no such folder" for split in ("train", "val")
    ]


def test_no_object_to_learn_from(made: Path) -> None:
    (made / "labels/train/one.txt").unlink()
    with pytest.raises(InputError, match=r"data\.yaml: no object in the label files"):
        _ = opened(made).classes


def test_no_image(made: Path) -> None:
    shutil.rmtree(made / "images" / "train")
    (made / "images" / "train").mkdir()
    with pytest.raises(InputError, match=r"data\.yaml: train: holds no image"):
        _ = opened(made).train


def test_a_listed_image_that_is_not_there(made: Path) -> None:
    (made / "some.txt").write_text("images/train/four.jpg\n")
    rewrite(made, "train: images/train", "train: some.txt")
    with pytest.raises(InputError, match=r"some\.txt: lists 'images/train/four\.jpg', which"):
        _ = opened(made).train


def test_an_image_that_is_none(made: Path) -> None:
    (made / "images/train/two.jpg").write_text("no picture")
    (made / "labels/train/two.txt").write_text("0 .5 .5 .1 .1\n")

    def second() -> tuple[int, int, int]:
        record = opened(made).train[1]
        return record.width, record.height, len(record.boxes)

    assert second() == (0, 0, 0)  # its fault is said when the files are looked at
    (made / "images/train/two.jpg").unlink()
    (made / "images/train/two.jpg").symlink_to(made / "not fetched.jpg")
    assert second() == (0, 0, 0)
    assert opened(made).fingerprint


def test_an_image_that_was_turned_since(made: Path) -> None:
    record = opened(made).train[0]
    Image.new("RGB", (40, 48)).save(record.path)
    with pytest.raises(InputError, match=r"one\.jpg: 40x48 pixels"):
        image_of(record)


# ------------------------------------------------------------------ the fingerprint


def test_the_fingerprint_changes_with_what_is_read(made: Path) -> None:
    seen = {opened(made).fingerprint}
    assert opened(made).fingerprint in seen
    for file in (
        "data.yaml",
        "images/train/two.jpg",
        "labels/train/one.txt",
        "images/val/three.jpg",
    ):
        os.utime(made / file, ns=(1, 1))
        seen.add(opened(made).fingerprint)
    (made / "labels/train/two.txt").write_text("")
    seen.add(opened(made).fingerprint)
    assert len(seen) == 6
    assert opened(made, "val", "train").fingerprint not in seen
    moved = made.rename(made.parent / "moved")
    assert opened(moved).fingerprint in seen


def test_the_fingerprint_does_not_change_with_what_is_not_read(made: Path) -> None:
    before = opened(made).fingerprint
    (made / "README.md").write_text("words")
    (made / "labels" / "train.cache").write_text("of another program")
    (made / "labels" / "train" / "one.json").write_text("of another program")
    assert opened(made).fingerprint == before


def test_a_file_whose_name_is_no_text_is_refused(made: Path) -> None:
    image = next((made / "images" / "train").iterdir())
    odd = Path(os.fsdecode(os.fsencode(image.parent) + b"/\xff.jpg"))
    try:
        image.rename(odd)
    except OSError:
        pytest.skip("this file system takes only text")
    with pytest.raises(InputError) as raised:
        _ = YOLOFolder(made, "made").train
    assert raised.value.line.endswith("its name is not UTF-8, so no file can hold it")
    assert str(odd.parent) in raised.value.line


# ------------------------------------------------------------------ what other tools write


def moved(made: Path, **places: str) -> Path:
    """The data set without data.yaml; files and folders under other names."""
    (made / "data.yaml").unlink()
    for old, new in places.items():
        (made / new).parent.mkdir(parents=True, exist_ok=True)
        (made / old.replace("__", "/")).rename(made / new)
    return made


def test_label_studio_writes_classes_in_a_list(make_yolo: Make) -> None:
    root = make_yolo({"one": [CAT, DOG], "two": [DOG]}, {"": ["one", "two"]})
    moved(root)
    (root / "classes.txt").write_text("cat\ndog\nemu\n\n")
    (root / "notes.json").write_text("{}")
    data = opened(root)
    assert data.one_split
    assert data.classes == ("cat", "dog")
    assert [record.image_id for record in data.train] == ["images/one.jpg", "images/two.jpg"]
    assert [record.image_id for record in data.test] == ["images/one.jpg", "images/two.jpg"]


def test_labels_beside_images_and_no_names(
    make_yolo: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_yolo({"one": [CAT, DOG], "two": [DOG]}, {"": ["one", "two"]})
    moved(root)
    for file in [*(root / "images").iterdir(), *(root / "labels").iterdir()]:
        if file.is_file():
            file.rename(root / file.name)
    data = opened(root)
    assert data.one_split
    assert data.classes == ("0", "1")
    assert [record.labels.tolist() for record in data.train] == [[1, 2], [2]]
    assert capsys.readouterr().err == ""


def test_several_data_sets_in_a_folder_are_not_one(made: Path, make_yolo: Make) -> None:
    make_yolo({"one": [CAT], "two": [DOG]}, folder="yolo/below")
    assert YOLOFolder.fits(made)  # its own data.yaml says what is its own
    (made / "data.yaml").unlink()
    assert not YOLOFolder.fits(made)


def test_folders_of_splits(made: Path) -> None:
    moved(made, images__train="train/images", images__val="valid/images")
    (made / "labels/train").rename(made / "train/labels")
    (made / "labels/val").rename(made / "valid/labels")
    (made / "classes.txt").write_text("cat\ndog")
    data = opened(made)
    assert not data.one_split
    assert [record.image_id for record in data.train] == [
        "train/images/one.jpg",
        "train/images/two.jpg",
    ]
    assert [record.image_id for record in data.test] == ["valid/images/three.jpg"]
    assert data.classes == ("cat", "dog")


def darknet(made: Path, lists: str = "Train") -> Path:
    """As CVAT writes it: labels beside images, lists below a folder that is not there."""
    moved(made, images__train="obj_train_data")
    for file in (made / "labels/train").iterdir():
        file.rename(made / "obj_train_data" / file.name)
    (made / "obj.names").write_text("cat\ndog\n")
    (made / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    names = sorted(file.name for file in (made / "obj_train_data").glob("*.jpg"))
    (made / "train.txt").write_text("".join(f"data/obj_train_data/{name}\n" for name in names))
    return made


def test_cvat_s_lists(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = opened(darknet(made))
    assert data.one_split
    assert data.classes == ("cat", "dog")
    assert [record.image_id for record in data.train] == [
        "obj_train_data/one.jpg",
        "obj_train_data/two.jpg",
    ]


def test_a_list_and_its_validation(made: Path) -> None:
    root = darknet(made)
    with open(root / "obj.data", "a") as file:
        file.write("valid = valid.txt\n")
    (root / "valid.txt").write_text("obj_train_data/one.jpg\n")
    (root / "train.txt").write_text("data/obj_train_data/two.jpg\ndata/obj_train_data/gone.jpg\n")
    data = opened(root)
    assert not data.one_split
    faults = Faults("made")
    data.read(faults)
    assert (
        f"{root}/train.txt: lists 'data/obj_train_data/gone.jpg', which is not there"
        in faults.lines
    )


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("obj.data", "train = train.txt\n", r"obj\.data: has no `names = `"),
        ("obj.data", "names = obj.names\n", r"obj\.data: has no `train = `"),
        ("obj.data", "names = none\ntrain = train.txt\n", r"none: No such file"),
        ("obj.names", "cat\n\ndog\n", r"obj\.names: a line for each class, none empty"),
        ("obj.names", "\n", r"obj\.names: a line for each class"),
        ("obj.names", "cat\ncat\n", r"obj\.names: two classes are 'cat'"),
    ],
)
def test_darknet_s_files_with_a_fault(made: Path, file: str, text: str, fault: str) -> None:
    root = darknet(made)
    (root / file).write_text(text)
    with pytest.raises(InputError, match=fault):
        opened(root)


def test_another_file_that_says_so(made: Path) -> None:
    (made / "data.yaml").rename(made / "mine.yml")
    data = YOLOFolder(made, "made", file=made / "mine.yml")
    assert data.classes == ("cat", "dog")


def test_a_template_s_test_split_that_is_not_there(made: Path) -> None:
    rewrite(made, "val: images/val\n", "val: images/none\ntest: images/none\n")
    data = opened(made)
    assert data.one_split
    assert len(data.train) == len(data.test) == 2


def test_a_test_split_that_nobody_filled_is_none(made: Path) -> None:
    rewrite(made, "val: images/val\n", "val: images/val\ntest: images/test\n")
    (made / "images/test/below").mkdir(parents=True)
    data = opened(made)
    assert not data.one_split
    assert [record.path.name for record in data.test] == ["three.jpg"]


def test_names_that_do_not_fit_are_a_warning(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "labels/train/one.txt").rename(made / "labels/train/one.jpg.txt")
    (made / "labels/train/two.txt").write_text("0 .5 .5 .1 .1\n")
    (made / "labels/train/classes.txt").write_text("cat\ndog\n")
    assert len(opened(made).train) == 2
    said = capsys.readouterr().err
    where = f"{made}/data.yaml: train: warning: "
    assert f"{where}1 label files have no image of their name: one.jpg.txt\n" in said
    assert f"{where}1 of 2 images have no label file, so no objects: one.jpg\n" in said


def test_every_fault_of_both_splits_at_once(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "labels/train/two.txt").write_text("0 .5 .5 .1\n")
    (made / "labels/val/three.txt").write_text("9 .5 .5 .1 .1\n")
    with pytest.raises(InputError, match="2 faults"):
        _ = opened(made).classes
    lines = capsys.readouterr().err.splitlines()
    assert f"  {made}/labels/train/two.txt:1: 4 fields, but" in lines[0]
    assert lines[1] == f"  {made}/labels/val/three.txt:1: class 9, but data.yaml names 0 to 1"


def test_an_object_written_twice_counts_once(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (made / "labels/train/one.txt").read_text()
    (made / "labels/train/one.txt").write_text(text + text)
    assert opened(made).train[0].labels.tolist() == [1, 2]
    assert "there twice, the second of each: 2: 'cat' of images/train/one.jpg" in (
        capsys.readouterr().err
    )


CASES = Path(__file__).parents[3] / "../shared/cases"


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the exports beside the checkout")
@pytest.mark.parametrize(
    ("case", "images", "objects", "one_split"),
    [
        ("08-roboflow-yolo/full", (8, 4), (24, 12), False),
        ("08-roboflow-yolo/notest", (8, 3), (24, 9), False),
        ("12-labelstudio-yolo", (12, 12), (36, 36), True),
        ("17-duplicates/once", (8, 4), (24, 12), False),
        ("28-yolo-wrong/halfmissing", (8, 4), (12, 12), False),
    ],
)
def test_exports_as_tools_write_them(
    case: str, images: tuple[int, int], objects: tuple[int, int], one_split: bool
) -> None:
    data = opened(CASES / case)
    splits = (data.train, data.test)
    assert tuple(map(len, splits)) == images
    assert tuple(sum(len(r.boxes) for r in records) for records in splits) == objects
    assert data.classes == ("crate", "ball")
    assert data.one_split == one_split
