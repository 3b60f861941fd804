"""Which files a person means, how they are read, and where their pictures go."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import photographs as module
from benchmarks.photographs import (
    add_limit,
    decoded,
    make_folder,
    photographs,
    pictures_of,
    printable,
)
from stages.data.decode import Photograph
from stages.errors import InputError
from tests.benchmarks.conftest import noise


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is called: two photographs, two in a folder with a blank, other files."""
    for name in ("b.jpg", "a.PNG", "my photos/c d.jpg", "my photos/[e].jpg", "my photos/in/f.jpg"):
        noise(tmp_path / name)
    for name in ("notes.txt", "my photos/notes.txt", ".hidden.jpg", "texts/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no photograph")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("b.jpg", ["b.jpg"]),
        ("notes.txt", ["notes.txt"]),  # named itself, it is tried
        ("my photos/c d.jpg", ["my photos/c d.jpg"]),
        ("my photos/[e].jpg", ["my photos/[e].jpg"]),  # a name before it is a glob
        (".", ["a.PNG", "b.jpg"]),
        ("my photos", ["my photos/[e].jpg", "my photos/c d.jpg"]),
        ("my photos/", ["my photos/[e].jpg", "my photos/c d.jpg"]),
        ("my photos/**", ["my photos/[e].jpg", "my photos/c d.jpg", "my photos/in/f.jpg"]),
        ("my p*/c*.jpg", ["my photos/c d.jpg"]),
        ("*", ["a.PNG", "b.jpg"]),
        # Several in one argument.
        ("b.jpg a.PNG", ["b.jpg", "a.PNG"]),
        ("b.jpg 'my photos/c d.jpg'", ["b.jpg", "my photos/c d.jpg"]),
        ("b.* *.PNG my\\ photos/in", ["b.jpg", "a.PNG", "my photos/in/f.jpg"]),
        ("b.jpg " * 200, ["b.jpg"]),  # longer than a name can be
    ],
)
def test_files_folders_and_globs(folder: Path, argument: str, wanted: list[str]) -> None:
    assert photographs([argument]) == [Path(name) for name in wanted]


def test_each_is_taken_once_in_the_order_given(folder: Path) -> None:
    found = photographs(["b.jpg", ".", str(folder / "b.jpg"), "my photos/../a.PNG"])
    assert found == [Path("b.jpg"), Path("a.PNG")]


def test_a_home_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert photographs(["~/b.jpg ~/a.*"]) == [folder / "b.jpg", folder / "a.PNG"]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("", "IMAGE=: takes"),
        (" ", "IMAGE=: takes"),
        ("absent.jpg", "^absent.jpg: no such file"),
        ("absent/*.jpg", r"^absent/\*.jpg: no such file or folder, and no file matches"),
        ("my photos/*.gif", r"^my photos/\*.gif: no such file"),
        ("b.jpg absent.jpg", "^absent.jpg: no such file"),
        ("b.jpg it's.jpg", "^b.jpg it's.jpg: no such file"),
        ("texts", r"^texts: no image in this folder \(.jpg .*'texts/\*\*' looks below"),
        ("texts/*", r"^texts/\*: nothing that matches it is an image"),
    ],
)
def test_what_leads_to_no_image_is_said(folder: Path, argument: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        photographs([argument])


def test_pixels_come_in_order_with_a_bar(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise(folder / "wide.png", width=50, height=20)
    paths = [Path("wide.png"), Path("b.jpg"), Path("a.PNG")]
    found = list(decoded(paths, "looking"))
    assert [path for path, _ in found] == paths
    assert [pixels.shape for _, pixels in found] == [(20, 50, 3), (90, 120, 3), (90, 120, 3)]
    said = capsys.readouterr()
    assert "looking: 100%" in said.err and "3/3" in said.err
    assert said.out == ""


def test_one_needs_no_bar(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(decoded([Path("b.jpg")], "looking"))) == 1
    assert capsys.readouterr().err == ""


def test_unreadable_ones_are_named_and_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text.jpg").write_text("no photograph")
    (folder / "cut.jpg").write_bytes((folder / "b.jpg").read_bytes()[:400])
    paths = [Path(name) for name in ("text.jpg", "b.jpg", "cut.jpg", "a.PNG")]
    found = []
    with pytest.raises(InputError, match=r"^2 of 4 photographs are unreadable"):
        for path, _ in decoded(paths, ""):
            found.append(path.name)
    assert found == ["b.jpg", "a.PNG"]
    lines = capsys.readouterr().err.splitlines()
    for name in ("text.jpg", "cut.jpg"):
        (line,) = {line for line in lines if line.startswith(f"-- left out: {name}: ")}
        assert "not readable as an image" in line


def test_what_is_odd_about_one_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "end.jpg").write_bytes((folder / "b.jpg").read_bytes()[:-20])
    values = np.linspace(0, 4095, 32 * 48).reshape(32, 48).astype(np.uint16)
    Image.fromarray(values).save(folder / "deep.png")
    paths = [Path(name) for name in ("b.jpg", "end.jpg", "deep.png")]
    assert [pixels.shape[:2] for _, pixels in decoded(paths, "")] == [
        (90, 120),
        (90, 120),
        (32, 48),
    ]
    said = {line for line in capsys.readouterr().err.splitlines() if line.startswith("-- ")}
    assert said == {
        "-- end.jpg: lacks its end; what is missing is grey",
        "-- deep.png: more than 8 bits a value, of which 0 is shown as black, 4095 as white",
    }
    assert len(list(decoded([Path("end.jpg")], ""))) == 1
    assert "end.jpg: lacks its end" in capsys.readouterr().err


def test_larger_ones_are_read_where_that_is_allowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.data.opening.MOST_PIXELS", 5_000)
    with pytest.raises(InputError, match="120x90 pixels, over 5000"):
        list(decoded([Path("b.jpg")], ""))
    assert len(list(decoded([Path("b.jpg")], "", most=90 * 120))) == 1


def test_the_option_of_larger_ones_is_in_megapixels(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_limit(parser)
    assert parser.parse_args([]).most_pixels is None
    assert parser.parse_args(["--most-megapixels", "120.5"]).most_pixels == 120_500_000
    with pytest.raises(SystemExit):
        parser.parse_args(["--most-megapixels", "many"])
    assert "--most-megapixels: invalid" in capsys.readouterr().err


def test_a_single_unreadable_one_is_the_error(folder: Path) -> None:
    with pytest.raises(InputError, match=r"^notes.txt: not readable as an image"):
        next(decoded([Path("notes.txt")], ""))


def test_a_few_wait_in_memory_not_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def read(path: Path, most: int | None) -> Photograph:
        begun.append(path)
        return Photograph(np.zeros((1, 1, 3), np.uint8), 1, 1, 1, False, None)

    monkeypatch.setattr(module, "read_photograph", read)
    paths = [Path(f"{n}.jpg") for n in range(100)]
    for n, _ in enumerate(decoded(paths, "")):
        assert len(begun) <= n + 1 + 2 * module.THREADS
    assert begun[-1] == paths[-1]


def test_no_two_pictures_meet(tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ["x/a.jpg", "x/a.png", "x/y/a.jpg", "z/a.jpg"]
    pictures = pictures_of([tmp_path / name for name in names], out)
    assert pictures == [out / f"{name}.png" for name in names]
    # What they have in common is not repeated.
    assert pictures_of([tmp_path / "x/y/a.jpg"], out) == [out / "a.jpg.png"]
    assert pictures_of([Path("x/a.jpg"), Path("../b.jpg")], Path("out"))[1] == Path("out/b.jpg.png")


def test_no_picture_is_written_over_a_photograph(tmp_path: Path) -> None:
    photos = [noise(tmp_path / name) for name in ("a.jpg", "a.jpg.png")]
    (tmp_path / "link").symlink_to(tmp_path)
    for out in (tmp_path, tmp_path / "link"):
        with pytest.raises(InputError, match=r"OUT=.*a\.jpg\.png is one of the photographs"):
            pictures_of(photos, out)
    assert pictures_of(photos[:1], tmp_path) == [tmp_path / "a.jpg.png"]


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        with pytest.raises(InputError, match=f"{name}: cannot be made a folder"):
            make_folder(tmp_path / name)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_any_name_can_be_printed() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")  # of another century's encoding
    assert printable(Path(name)).encode() == "caf\N{REPLACEMENT CHARACTER}.jpg".encode()
    assert printable(Path("café.jpg")) == "café.jpg"
