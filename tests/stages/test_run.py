"""How a command ends: what the user can mend is one line that names it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from rcnn_v1.command import command
from stages.data.images import load_images
from stages.data.records import Record
from stages.errors import InputError
from stages.run import main
from stages.writing import replacing

ROOT = Path(__file__).parents[2]


def ending(
    body: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    """How a command ended as a program: exit code, lines on stderr."""
    with pytest.raises(SystemExit) as stopped:
        main(body)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, capsys.readouterr().err.splitlines()


def raiser(error: BaseException) -> Callable[[Sequence[str]], None]:
    def body(_: Sequence[str]) -> None:
        raise error

    return body


def missing_image(tmp_path: Path) -> Record:
    nothing = np.zeros(0, bool)
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return Record("a", tmp_path / "a.jpg", 4, 4, boxes, labels, nothing, nothing)


def test_main_hands_the_arguments_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[str]] = []
    monkeypatch.setattr(sys, "argv", ["rcnn_v1", "--top", "3"])
    main(seen.append)
    assert seen == [["--top", "3"]]


def test_main_prints_an_input_error(capsys: pytest.CaptureFixture[str]) -> None:
    body = raiser(InputError("a.xml: no such file"))
    assert ending(body, capsys) == (2, ["error: a.xml: no such file"])


@pytest.mark.parametrize("workers", [0, 1])
def test_main_prints_a_loading_workers_error_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    def body(_: Sequence[str]) -> None:
        list(load_images([missing_image(tmp_path)], workers))

    assert ending(body, capsys) == (2, [f"error: {tmp_path / 'a.jpg'}: missing"])


def test_a_message_with_a_line_break_is_one_line_and_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, lines = ending(raiser(InputError("odd\nname.xml: no such file")), capsys)
    assert code == 2
    assert lines == ["error: odd name.xml: no such file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_main_prints_what_the_disk_refuses(capsys: pytest.CaptureFixture[str], number: int) -> None:
    code, lines = ending(raiser(OSError(number, os.strerror(number), "/x/y")), capsys)
    assert code == 2
    (line,) = lines
    assert line.startswith(f"error: /x/y: {os.strerror(number)}")


IN_THE_WAY = ("ENOTDIR", "EISDIR", "EEXIST", "ENOTEMPTY", "ENOENT", "ENAMETOOLONG", "ELOOP")


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_main_prints_what_is_in_the_way(capsys: pytest.CaptureFixture[str], name: str) -> None:
    number = getattr(errno, name)
    code, lines = ending(raiser(OSError(number, os.strerror(number), "/x/y")), capsys)
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"error: /x/y: {os.strerror(number)}")


def test_what_is_in_the_way_of_a_renaming_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "metrics.json"
    target.mkdir()

    def body(_: Sequence[str]) -> None:
        with replacing(target) as file:
            file.write(b"x")

    code, (line,) = ending(body, capsys)
    assert (code, str(target) in line) == (2, True)


@pytest.mark.parametrize("place", ["runs/sub", "runs"])
def test_a_file_where_a_folder_belongs(
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    """Above the runs' folder, and in the place of its store."""
    if place == "runs":
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "store").touch()
    else:
        (tmp_path / "runs").touch()
    arguments = [*arguments_for(made, tmp_path), "--runs", str(tmp_path / place), "--workers", "0"]
    monkeypatch.setattr(sys, "argv", ["rcnn_v1", *arguments])
    code, lines = ending(command, capsys)
    assert code == 2
    assert lines[-1].startswith(f"error: {tmp_path / 'runs'}")


def test_main_leaves_our_own_mistakes_their_traceback() -> None:
    ours = (OSError(errno.EBADF, "x"), FileNotFoundError(), ZeroDivisionError(), KeyError("x"))
    for error in (*ours, TypeError()):
        with pytest.raises(type(error)):
            main(raiser(error))


def test_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = ending(raiser(KeyboardInterrupt()), capsys)
    assert code == 130
    assert len(lines) == 1


# ------------------------------------------------------------------ the whole command

OBJECTS = [("cat", 3, 4, 20, 30), ("dog", 10, 2, 40, 33)]


@pytest.fixture
def made(make_voc: Callable[..., Path]) -> Path:
    return make_voc({"one": OBJECTS, "two": OBJECTS, "three": OBJECTS})


def cut_short(made: Path) -> str:
    path = made / "JPEGImages" / "three.jpg"  # of the test split: in training it is left out
    path.write_bytes(path.read_bytes()[:400])
    return str(path)


def broken_xml(made: Path) -> str:
    path = made / "Annotations" / "two.xml"
    path.write_text(path.read_text().replace("</object>", "", 1))
    return str(path)


def absent_image(made: Path) -> str:
    with open(made / "ImageSets/Main/test.txt", "a") as file:
        file.write("four\n")
    return "four"


def image_gone(made: Path) -> str:
    (made / "JPEGImages" / "two.jpg").unlink()
    return "two"


def other_size(made: Path) -> str:
    path = made / "Annotations" / "two.xml"
    path.write_text(path.read_text().replace("<width>48<", "<width>47<"))
    return "two.jpg"


def no_annotations(made: Path) -> str:
    (made / "Annotations").rename(made / "annotations-elsewhere")
    return str(made / "Annotations")


FAULTS = [
    cut_short,
    broken_xml,
    absent_image,
    image_gone,
    other_size,
    no_annotations,
]


def arguments_for(made: Path, tmp_path: Path) -> list[str]:
    runs = tmp_path / "runs"
    return ["--preset", "micro", "--data", str(made), "--runs", str(runs), "--device", "cpu"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_data_is_named(
    made: Path, tmp_path: Path, fault: Callable[[Path], str]
) -> None:
    name = fault(made)
    with pytest.raises(InputError) as raised:
        command([*arguments_for(made, tmp_path), "--workers", "0"])
    assert name in raised.value.line
    assert raised.value.line == str(raised.value)
    made_of_it = (tmp_path / "runs").glob("store/*-????????????????")
    assert [path for path in made_of_it if not path.name.startswith("look_at_files-")] == []
    assert list((tmp_path / "runs").glob("made-*")) == []


@pytest.mark.parametrize("data", ["nowhere", "a file", "~no-such-user-here/voc"])
def test_no_folder_of_data(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("")
    with pytest.raises(InputError) as raised:
        command(arguments_for(Path(data), tmp_path))
    assert data in raised.value.line


def test_runs_that_is_a_file(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").write_text("")
    monkeypatch.setattr(sys, "argv", ["rcnn_v1", *arguments_for(made, tmp_path)])
    code, lines = ending(command, capsys)
    assert code == 2
    assert lines[-1].startswith("error: ")
    assert str(tmp_path / "runs") in lines[-1]


def test_a_program_that_cannot_go_on_says_why_in_one_line(made: Path, tmp_path: Path) -> None:
    name = cut_short(made)
    arguments = [*arguments_for(made, tmp_path), "--workers", "2"]
    program = subprocess.run(
        [sys.executable, "-m", "rcnn_v1", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert program.returncode == 2, program.stderr
    assert "Traceback" not in program.stdout + program.stderr
    errors = [line for line in program.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert program.stderr.splitlines()[-1] == errors[0]
    assert name in errors[0]
