"""File names from elsewhere, and folders that are listed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.data.files import Names, folders_below, is_image, is_writable, leaves_its_folder, stamps


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
