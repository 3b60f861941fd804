"""An XML for each image, beside it or in a folder of its own, and no lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from stages.data.decode import image_of
from stages.data.faults import Faults
from stages.data.layouts import open_folder
from stages.data.xml_beside import XMLFolder
from stages.errors import InputError

CASES = Path(__file__).parents[3] / "../shared/cases"
CAT, DOG = ("cat", 3, 4, 20, 30), ("dog", 10, 2, 40, 33)
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, write_annotation: Callable[..., str]) -> Write:
    """A function that writes images and an XML of each into folders; with "" for the second, none."""

    def make(
        images: str, stems: Sequence[str], annotations: str | None = None, suffix: str = ".jpg"
    ) -> None:
        for folder in (images, annotations or images):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for stem in stems:
            Image.new("RGB", (48, 40)).save(tmp_path / images / f"{stem}{suffix}")
            if annotations != "":
                path = tmp_path / (annotations or images) / f"{stem}.xml"
                path.write_text(write_annotation([CAT, DOG], 48, 40))

    return make


def ids(data: XMLFolder) -> tuple[list[str | int], list[str | int]]:
    return [r.image_id for r in data.train], [r.image_id for r in data.test]


def test_roboflow(tmp_path: Path, write: Write) -> None:
    write("train", "ab")
    write("valid", "c")
    write("test", ["d_jpg.rf.0a1b"])
    (tmp_path / "README.roboflow.txt").write_text("made for a test")
    data = open_folder(tmp_path, "mine")
    assert isinstance(data, XMLFolder)
    assert ids(data) == (["train/a.jpg", "train/b.jpg"], ["test/d_jpg.rf.0a1b.jpg"])
    assert data.classes == ("cat", "dog")
    assert data.category_ids == (1, 2)
    assert not data.one_split
    record = data.train[0]
    assert record.boxes.tolist() == [[2, 3, 20, 30], [9, 1, 40, 33]]
    assert record.labels.tolist() == [1, 2]
    assert (record.width, record.height) == (48, 40)
    assert not record.has_masks
    assert image_of(record).shape == (40, 48, 3)
    other = XMLFolder(tmp_path, "mine", "train", "VALID")
    assert ids(other)[1] == ["valid/c.jpg"]
    assert other.fingerprint != data.fingerprint


def test_validation_is_tested_on_where_there_is_no_test(tmp_path: Path, write: Write) -> None:
    write("Train", "ab")
    write("Valid", "c")
    assert ids(XMLFolder(tmp_path, "mine")) == (["Train/a.jpg", "Train/b.jpg"], ["Valid/c.jpg"])


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        (".", None),
        ("images", None),
        ("images", "annotations"),
        ("images", "Annotations"),
        ("Images", "xmls"),
        ("images", "labels"),
        ("JPEGImages", "Annotations"),
        ("data", "labels"),
        (".", "xml"),
    ],
)
def test_one_folder_is_one_split(
    tmp_path: Path, write: Write, images: str, annotations: str | None
) -> None:
    write(images, "ab", annotations)
    data = open_folder(tmp_path, "mine")
    assert isinstance(data, XMLFolder)
    assert data.one_split
    inner = "" if images == "." else f"{images}/"
    assert ids(data) == ([f"{inner}a.jpg", f"{inner}b.jpg"],) * 2


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("{}/images", "{}/annotations"),
        ("images/{}", "annotations/{}"),
        ("images/{}", "annotations"),
        ("images/{}", None),
    ],
)
def test_splits_in_folders(
    tmp_path: Path,
    write: Write,
    images: str,
    annotations: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for split, stems in {"train": "ab", "val": "c"}.items():
        write(images.format(split), stems, annotations and annotations.format(split))
    data = XMLFolder(tmp_path, "mine")
    assert not data.one_split
    inner = images.format("train"), images.format("val")
    assert ids(data) == ([f"{inner[0]}/a.jpg", f"{inner[0]}/b.jpg"], [f"{inner[1]}/c.jpg"])
    assert (
        capsys.readouterr().err == ""
    )  # the others' annotations are not taken for those of no image


def test_images_outside_of_the_splits_are_a_split(tmp_path: Path, write: Write) -> None:
    """Which nobody uses without a word: it may be what was to be trained on."""
    write(".", "ab")
    write("test", "c")
    with pytest.raises(InputError, match="has test, all; none of them is the usual one to train"):
        XMLFolder(tmp_path, "mine")
    assert ids(XMLFolder(tmp_path, "mine", "all")) == (["a.jpg", "b.jpg"], ["test/c.jpg"])


def test_images_without_xml(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(".", "a")
    write(".", "bc", "")
    with pytest.raises(InputError) as raised:
        _ = XMLFolder(tmp_path, "mine").train
    assert raised.value.line.startswith(
        f"{tmp_path}: images without an annotation: 2: b.jpg, c.jpg;"
    )
    assert "--data.negatives use" in raised.value.line
    data = XMLFolder(tmp_path, "mine", negatives="use")
    assert [len(record.boxes) for record in data.train] == [2, 0, 0]
    assert "so without objects: 2: b.jpg, c.jpg" in capsys.readouterr().err
    data = XMLFolder(tmp_path, "mine", negatives="skip")
    assert ids(data)[0] == ["a.jpg"]
    assert "left out images without an annotation: 2" in capsys.readouterr().err


def test_a_split_that_nobody_annotated_is_none(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the test images of a competition."""
    write("train", "ab")
    write("test", "cd", "")
    data = XMLFolder(tmp_path, "mine", negatives="use")
    assert data.one_split
    assert ids(data) == (["train/a.jpg", "train/b.jpg"],) * 2
    said = f"{tmp_path}/test: 2 images without any .xml, so no split\n"
    assert capsys.readouterr().err == said


def test_xml_without_an_image_is_said(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(".", "abc")
    (tmp_path / "b.jpg").unlink()
    assert ids(XMLFolder(tmp_path, "mine"))[0] == ["a.jpg", "c.jpg"]
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}: warning: annotations without an image in {tmp_path}: 1: b.xml"
    ]


def test_an_xml_of_another_name_says_whose_it_is(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(".", "ab")
    text = (tmp_path / "b.xml").read_text()
    (tmp_path / "b.xml").unlink()
    named = "<annotation><filename>C:\\pictures\\b.jpg</filename>"
    (tmp_path / "0001.xml").write_text(text.replace("<annotation>", named))
    (tmp_path / "0002.xml").write_text("no xml")
    data = XMLFolder(tmp_path, "mine")
    assert [(r.image_id, len(r.boxes)) for r in data.train] == [("a.jpg", 2), ("b.jpg", 2)]
    assert "without an image in" in capsys.readouterr().err  # 0002


def test_of_images_of_one_name_the_xml_says_which(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(".", "ab")
    write(".", "ab", "", suffix=".png")
    path = tmp_path / "b.xml"
    named = "<annotation><filename>b.png</filename>"
    path.write_text(path.read_text().replace("<annotation>", named))
    assert ids(XMLFolder(tmp_path, "mine"))[0] == ["a.jpg", "b.png"]
    said = "left out images that share their name with another: 2: a.png, b.jpg"
    assert capsys.readouterr().err == f"{tmp_path}: {said}\n"


def test_every_fault_of_both_splits_is_named(tmp_path: Path, write: Write) -> None:
    write("train", "abc")
    write("test", "de")
    (tmp_path / "train/a.xml").write_text("no xml")
    (tmp_path / "test/e.xml").write_text("<annotation><object/></annotation>")
    (tmp_path / "train/c.xml").unlink()
    faults = Faults(tmp_path)
    train, test = XMLFolder(tmp_path, "mine").read(faults)
    assert [r.image_id for r in train] == ["train/b.jpg"]
    assert [r.image_id for r in test] == ["test/d.jpg"]
    assert [line.partition(": ")[0] for line in faults.lines] == [
        str(tmp_path / name) for name in ("train/a.xml", "train/c.xml", "test/e.xml")
    ]


def test_a_folder_without_xml_does_not_fit(tmp_path: Path, write: Write) -> None:
    write("train", "ab", "")
    (tmp_path / "train" / "c.xml").write_text("<annotation/>")
    (tmp_path / "train" / "._a.xml").write_text("what macOS leaves")
    assert not XMLFolder.fits(tmp_path)
    with pytest.raises(InputError, match=r"holds no image with a \.xml of its name"):
        XMLFolder(tmp_path, "mine")


def test_a_name_that_is_no_text(tmp_path: Path, write: Write) -> None:
    write(".", "ab")
    name = b"c\xff.jpg"
    try:
        os.rename(os.fsencode(tmp_path / "b.jpg"), os.fsencode(tmp_path) + b"/" + name)
    except OSError:
        pytest.skip("a file system whose names are text")
    with pytest.raises(InputError, match="its name is not UTF-8"):
        _ = XMLFolder(tmp_path, "mine").train


@pytest.mark.parametrize("file", ["train/a.xml", "test/c.jpg"])
def test_a_changed_file_changes_the_fingerprint(tmp_path: Path, write: Write, file: str) -> None:
    write("train", "ab")
    write("test", "c")
    before = XMLFolder(tmp_path, "mine").fingerprint
    assert XMLFolder(tmp_path, "another name").fingerprint == before
    os.utime(tmp_path / file, ns=(0, 0))
    assert XMLFolder(tmp_path, "mine").fingerprint != before
    assert XMLFolder(tmp_path, "mine", negatives="use").fingerprint != before


def test_roboflows_export() -> None:
    if not CASES.is_dir():
        pytest.skip("no cases beside the checkout")
    data = open_folder(CASES / "06-roboflow-voc", "case")
    assert isinstance(data, XMLFolder)
    assert data.classes == ("ball", "crate")
    assert (len(data.train), len(data.test)) == (8, 4)
    assert {r.path.parent.name for r in data.test} == {"test"}
    assert all(len(r.boxes) == 3 for r in [*data.train, *data.test])
    data = open_folder(CASES / "06-roboflow-voc", "case", test_split="valid")
    assert {r.path.parent.name for r in data.test} == {"valid"}
