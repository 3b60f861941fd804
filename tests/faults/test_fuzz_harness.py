"""The long run notices what it is there for: a crash, a hang, gigabytes, any other exception."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.faults.fuzz.__main__ as fuzz
from tests.faults.fuzz.child import Progress


def tried(words: str, cases: int, folder: Path) -> Progress:
    return fuzz.try_reader(words, cases, 0, folder, "faulty")


def kept(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.glob("*/failed/*word.txt")}


def test_read_and_refused_are_counted(tmp_path: Path) -> None:
    done = tried("fine,refused", 10, tmp_path / "out")
    assert done.failures == {}
    assert done.accepted >= 1
    assert done.refused >= 1
    assert done.cases <= 10
    assert not kept(tmp_path / "out")


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("error", "KeyError at faulty.py"),
        ("exit", "SystemExit"),
        ("memory", "MemoryError"),
        ("nameless", "names no file"),
        ("two lines", "control characters"),
        ("crash", "crashed: exit code -6"),
    ],
)
def test_what_must_not_be_is_counted_and_kept(tmp_path: Path, word: str, kind: str) -> None:
    done = tried(f"fine,{word}", 4, tmp_path / "out")
    (failure,) = done.failures
    assert kind.split()[0] in failure
    assert done.failures[failure] >= 1
    assert kept(tmp_path / "out") == {word.encode()}


def test_a_hang_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "HANGS", 1.0)
    done = tried("hang", 1, tmp_path / "out")
    assert done.failures == {"hung for 1 s": 1}
    assert kept(tmp_path / "out") == {b"hang"}


def test_guided_without_atheris_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        fuzz.main(["--guided", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "uv pip install atheris" in capsys.readouterr().err


def test_guided_cases_are_tried(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    done = fuzz.try_reader("archives", 400, 0, tmp_path / "out", "guided")
    assert done.failures == {}
    assert done.cases >= 400
    assert done.accepted >= 1
    assert done.refused >= 1
