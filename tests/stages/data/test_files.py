"""File names from elsewhere, and folders that are listed once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stages.data.files import (
    IMAGE_SUFFIXES,
    Names,
    folders_below,
    folders_in,
    image_stem,
    is_image,
    is_writable,
    leaves_its_folder,
    stamps,
)


@pytest.mark.parametrize(
    "name", ["a.jpg", "a/b.jpg", "./a.jpg", "a..b.jpg", "..a/b.jpg", "a b.jpg"]
)
def test_names_below_a_folder(name: str) -> None:
    assert not leaves_its_folder(name)


@pytest.mark.parametrize(
    "name",
    ["..", "../a", "a/../b", "a/..", "/a", "//a/b", "\\a", "..\\a", "a\\..\\b", "C:\\a", "C:a"],
)
def test_names_that_lead_out(name: str) -> None:
    assert leaves_its_folder(name)


def test_names_that_files_hold() -> None:
    assert all(map(is_writable, ["a", "Katze é/\U0001f408.jpg", "x" * 4095, "", "a\nb"]))
    assert not any(map(is_writable, ["a\0", "\ud800", "\udcff", "x" * 4096, "é" * 2048]))


def test_names_of_images() -> None:
    assert all(map(is_image, ["a.jpg", "a.JPG", "b.jpeg", "a.b.png", "x.TIFF"]))
    assert not any(map(is_image, ["a.txt", "jpg", "a.jpg.txt", "._a.jpg", ".jpg"]))


def test_names_are_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "nowhere").symlink_to(tmp_path / "b")
    names = Names()
    assert names.has(tmp_path / "a")
    assert names.has(tmp_path / "link")
    assert not names.has(tmp_path / "nowhere")
    assert not names.has(tmp_path / "none" / "a")


def test_stems_of_images() -> None:
    assert image_stem("a.b.Jpg") == "a.b"
    assert image_stem("IMG (1).TIFF") == "IMG (1)"
    assert image_stem("a.jpg.png") == "a.jpg"
    assert all(image_stem(name) is None for name in ("a.txt", ".jpg", "._a.jpg", "a"))


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, ".JPG", ".Jpg", ".WEBP", ".TIF", ".BMP"])
def test_an_image_is_found_by_its_stem_whatever_its_ending(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "inner").mkdir()
    for name in (f"a b.1{suffix}", f"inner/c{suffix}", "a b.1.txt", "a b.xml", "A B.1.png"):
        (tmp_path / name).write_text("")
    names = Names()
    assert names.image_of(tmp_path, "a b.1") == tmp_path / f"a b.1{suffix}"
    assert names.image_of(tmp_path, "inner/c") == tmp_path / f"inner/c{suffix}"
    assert names.image_of(tmp_path, "A B.1") == tmp_path / "A B.1.png"  # its own letters count
    assert names.image_of(tmp_path, "a b") is None
    assert names.image_of(tmp_path, "c") is None
    assert names.image_of(tmp_path / "none", "c") is None


def test_of_several_endings_jpg_comes_first_and_lower_case(tmp_path: Path) -> None:
    written = ["a.png", "a.JPG", "a.Jpg", "a.jpg", "a.PNG", "a.jpeg", "a.tif"]
    for name in written:
        (tmp_path / name).write_text("")
    expected = ["a.jpg", "a.JPG", "a.Jpg", "a.jpeg", "a.png", "a.PNG", "a.tif"]
    for count in range(len(expected)):  # the best of those that are left
        names = Names()
        assert names.images_of(tmp_path, "a") == [tmp_path / name for name in expected[count:]]
        assert names.image_of(tmp_path, "a") == tmp_path / expected[count]
        (tmp_path / expected[count]).unlink()


def test_folders_and_links_to_nowhere_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jpg").mkdir()
    (tmp_path / "data" / "b.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c.png").write_text("")
    (tmp_path / "data" / "c.png").symlink_to(tmp_path / "c.png")
    names = Names()
    assert names.image_of(tmp_path / "data", "a") is None
    assert names.image_of(tmp_path / "data", "b") is None
    assert names.image_of(tmp_path / "data", "c") == tmp_path / "data" / "c.png"
    for stem in ("../c", str(tmp_path / "c"), "data/../c"):
        assert names.image_of(tmp_path / "data", stem) is None


def test_a_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(300):
        (tmp_path / f"{n:03}.JPG").write_text("")
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    names = Names()
    for n in range(300):
        assert names.image_of(tmp_path, f"{n:03}") == tmp_path / f"{n:03}.JPG"
        assert names.has(tmp_path / f"{n:03}.JPG")
    assert len(listed) == 1


def test_files_of_an_ending(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "d.xml").mkdir()
    (tmp_path / "e.xml").symlink_to(tmp_path / "nowhere")
    for name in ("a b.xml", "B.XML", "c.Xml", "inner/f.xml", "._a.xml", "a.xml.txt", "a.jpg"):
        (tmp_path / name).write_text("")
    names = Names()
    assert names.files_in(tmp_path, ".xml") == {
        "a b": tmp_path / "a b.xml",
        "B": tmp_path / "B.XML",
        "c": tmp_path / "c.Xml",
    }
    assert names.files_in(tmp_path / "none", ".xml") == {}
    for stem, name in {
        "a b": "a b.xml",
        "B": "B.XML",
        "c": "c.Xml",
        "inner/f": "inner/f.xml",
    }.items():
        assert names.file_of(tmp_path, stem, ".xml") == tmp_path / name
    for stem in ("a", "d", "e", "../a b", str(tmp_path / "a b")):
        assert names.file_of(tmp_path, stem, ".xml") is None


def test_images_by_their_names(tmp_path: Path) -> None:
    for name in ("a.png", "a.JPG", "b c.tif", "d.xml", "._a.jpg"):
        (tmp_path / name).write_text("")
    assert Names().images_in(tmp_path) == {
        "a": [tmp_path / "a.JPG", tmp_path / "a.png"],
        "b c": [tmp_path / "b c.tif"],
    }
    assert Names().images_in(tmp_path / "none") == {}


def test_folders_in_a_folder(tmp_path: Path) -> None:
    for name in ("b/c", "A", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "nowhere").symlink_to(tmp_path / "x")
    assert folders_in(tmp_path) == [tmp_path / name for name in ("A", "b", "link")]
    assert folders_in(tmp_path / "file") == folders_in(tmp_path / "none") == []


def test_stamps_are_by_name_and_suffix(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.JPG", "c.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "d.jpg").symlink_to(tmp_path / "nowhere")
    lines = [line.decode() for line in stamps(tmp_path, "x/", (".jpg",))]
    assert [line.split()[0] for line in lines] == ["x/a.JPG", "x/b.jpg", "x/d.jpg"]
    assert lines[0].split()[1:] == ["5", str((tmp_path / "a.JPG").stat().st_mtime_ns)]
    assert len(list(stamps(tmp_path, ""))) == 4


def test_folders(tmp_path: Path) -> None:
    for name in ("b/c", "a", ".git/d", "runs/store/locks"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "b" / "round").symlink_to(tmp_path)
    assert [folder.relative_to(tmp_path).as_posix() for folder in folders_below(tmp_path)] == [
        ".",
        "a",
        "b",
        "b/c",
    ]
