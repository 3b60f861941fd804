"""Lists of images: one line, one name, as the devkit and as other tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.data.faults import Faults
from stages.data.voc_lists import find_lists, is_of_a_class, lists_nothing, read_split
from stages.errors import InputError


def names_in(tmp_path: Path, text: str, there: str = "") -> list[str]:
    """What a list of this text names, where the images `there` (a line each) are."""
    path = tmp_path / "train.txt"
    path.write_text(text, encoding="utf-8")
    return read_split(path, set(there.splitlines()).__contains__)


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


def test_a_whole_line_is_the_name(tmp_path: Path) -> None:
    there = "IMG (0)\nIMG (1)\nIMG\na 1\na"
    assert names_in(tmp_path, "IMG (0)\n IMG (1) \na 1\n", there) == ["IMG (0)", "IMG (1)", "a 1"]


def test_no_other_image_is_taken_for_one_that_is_missing(tmp_path: Path) -> None:
    """Whose name begins alike: it may be a training image, in the list of the test images."""
    assert names_in(tmp_path, "a (1)\nb (1)\n", "a\nb") == ["a (1)", "b (1)"]
    # A column that a line lacks, or that belongs to a name, is none.
    assert names_in(tmp_path, "a 1\nb\n", "a\nb") == ["a 1", "b"]
    assert names_in(tmp_path, "a 1\nb 0\n", "a\nb\nb 0") == ["a 1", "b 0"]


@pytest.mark.parametrize("column", [" 1", " -1", "  0", "\t1"])
def test_the_devkits_column_is_no_part_of_a_name(tmp_path: Path, column: str) -> None:
    text = f"a b{column}\nc -1\n"
    assert names_in(tmp_path, text, "a b\nc") == ["a b", "c"]
    assert names_in(tmp_path, text) == ["a b", "c"]  # nor where they are missing


def test_names_in_quotes(tmp_path: Path) -> None:
    there = 'IMG (0)\na "b" c\nd'
    assert names_in(tmp_path, '"IMG (0)"\n"a \\"b\\" c"\nd\n', there) == there.splitlines()
    assert names_in(tmp_path, '"IMG (0)" 1\n"d" -1\n', there) == ["IMG (0)", "d"]
    assert names_in(tmp_path, '"a b"\n', '"a b"') == ['"a b"']  # its own quotes
    assert names_in(tmp_path, '"a b"\n') == ["a b"]


@pytest.mark.parametrize(
    "line",
    [
        *("a.jpg", "a.JPG", "a.png", "a.xml", "./a", "./a.jpg", "data/obj_train/a.jpg"),
        *("JPEGImages/a.jpg", "/home/me/VOC2007/JPEGImages/a.jpg", "C:\\data\\JPEGImages\\a.jpg"),
        *("..\\JPEGImages\\a.jpg", "../JPEGImages/a.jpg", '"JPEGImages/a.jpg"'),
    ],
)
def test_endings_and_folders(tmp_path: Path, line: str) -> None:
    assert names_in(tmp_path, f"{line}\n", "a\nb") == ["a"]


def test_the_longest_name_is_taken(tmp_path: Path) -> None:
    assert names_in(tmp_path, "a.jpg\n", "a\na.jpg") == ["a.jpg"]  # a file a.jpg.jpg
    assert names_in(tmp_path, "x/y/a.jpg\n", "a\ny/a") == ["y/a"]
    assert names_in(tmp_path, "y/a\nx\\b\n", "y/a\nx/b") == ["y/a", "x/b"]


def test_every_line_at_fault_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.txt"
    path.write_text("../a\nb\nc\nb\n/d.jpg\n")
    faults = Faults(path)
    assert read_split(path, faults=faults) == ["b", "c"]
    assert faults.lines == [
        f"{path}: '../a' is not a plain file name",
        f"{path}: lists 'b' twice",
        f"{path}: '/d.jpg' is not a plain file name",
    ]


def test_lists_are_found_in_any_case(tmp_path: Path) -> None:
    for name in ("Train.txt", "test.TXT", "._Train.txt", "notes.md"):
        (tmp_path / name).write_text("a\n")
    (tmp_path / "val.txt").mkdir()
    assert find_lists(tmp_path) == {
        "Train": tmp_path / "Train.txt",
        "test": tmp_path / "test.TXT",
    }
    assert find_lists(tmp_path / "nowhere") == {}


def test_lists_of_a_class() -> None:
    lists = ["Train", "trainval", "cat_train", "red_cat_Trainval", "my_test", "default"]
    of_class = [name for name in lists if is_of_a_class(name, lists)]
    assert of_class == ["cat_train", "red_cat_Trainval"]  # there is no test.txt


def test_lists_of_nothing(tmp_path: Path) -> None:
    for name, content in {"a": b"", "b": b" \r\n\n", "c": b"x\n", "d": b"\xff\xfe\xfa"}.items():
        (tmp_path / name).write_bytes(content)
    assert [lists_nothing(tmp_path / name) for name in "abcd"] == [True, True, False, False]
