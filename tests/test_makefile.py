"""What `make` is given reaches the program as it was typed, whatever make and the shell would make of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report.commands import bench_command, command_of
from rcnn_v1.config import PRESETS
from stages.store import describe

ROOT = Path(__file__).parents[1]
NAMES = (
    "/data/plain",
    "/data/my photographs",
    '/data/my $et "1"',
    "it's",
    "$HOME",
    "a$$b",
    "$(shell touch touched)",
    "$(unfinished",
    "${HOME}",
    "$$",
    "#1",
    "a # b",
    "back\\slash",
    "`touch touched`",
    "; touch touched",
    "a && b | c > d",
    "*.jpg",
    "100%",
    "a=b",
    "a,b:c",
    "-dash",
    "Äpfel, 苹果",
    "tab\there",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the Makefile, in which Python only says what it was called with."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").touch()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    python.chmod(0o755)
    (tmp_path / ".venv" / ".complete").touch()  # it is newer than the lock: nothing is installed
    return tmp_path


def called(clone: Path, *words: str, **environment: str) -> list[str]:
    """What Python was called with."""
    run = subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=clone,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert not (clone / "touched").exists()
    return json.loads(run.stdout)  # type: ignore[no-any-return]


def value(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


@pytest.mark.parametrize("name", NAMES)
def test_paths_arrive_as_typed(clone: Path, name: str) -> None:
    arguments = called(clone, "rcnn", f"DATA={name}", f"WEIGHTS={name}", f"RUNS={name}")
    assert arguments[:2] == ["-m", "rcnn_v1"]
    for option in ("--data", "--weights", "--runs"):
        assert value(arguments, option) == name
    assert len(arguments) == 2 + 2 * 5  # and the preset and the device


@pytest.mark.parametrize("name", NAMES)
def test_photographs_and_folders_for_them_arrive_as_typed(clone: Path, name: str) -> None:
    arguments = called(clone, "detect", f"IMAGE={name}", f"OUT={name}", f"MODEL={name}")
    assert arguments[-2:] == ["--", name]
    assert value(arguments, "--out") == value(arguments, "--model") == name
    assert called(clone, "compare", f"IMAGE={name}")[-2:] == ["--", name]
    assert called(clone, "paired", f"A={name}", "B=b")[3:5] == [name, "b"]


@pytest.mark.parametrize("name", NAMES)
def test_so_they_do_from_the_environment(clone: Path, name: str) -> None:
    arguments = called(clone, "fast", DATA=name)
    assert value(arguments, "--data") == name


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_shows_what_would_be_typed(clone: Path, name: str) -> None:
    run = subprocess.run(
        ["make", "-n", "mask", f"DATA={name}"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=True,
    )
    assert value(shlex.split(run.stdout), "--data") == name


@pytest.mark.parametrize("name", NAMES)
def test_options_are_parted_as_a_shell_does(clone: Path, name: str) -> None:
    more = ["--proposals-file", name, "--top", "7"]
    assert called(clone, "spp", f"ARGS={shlex.join(more)}")[-4:] == more


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("-")])
def test_the_commands_of_reports_give_again_what_they_are_of(clone: Path, name: str) -> None:
    config = json.loads(json.dumps(describe(PRESETS["small"])))
    config["data"]["name"], config["proposals_file"] = name, name
    line = command_of({"paper": "rcnn", "preset": "small", "tag": "", "config": config})
    arguments = called(clone, *shlex.split(line)[1:])
    assert value(arguments, "--data") == value(arguments, "--proposals-file") == name
    line = bench_command(["--runs", name, "--images", "4"])
    arguments = called(clone, *shlex.split(line)[1:])
    assert value(arguments, "--runs") == name
    assert arguments[-2:] == ["--images", "4"]


@pytest.mark.parametrize("paper", ["", "mask_rcnn", "it's $x", "a b"])
def test_a_paper_that_is_none_is_named(clone: Path, paper: str) -> None:
    run = subprocess.run(
        ["make", "ablations", f"PAPER={paper}"], cwd=clone, capture_output=True, text=True
    )
    assert run.stderr.splitlines()[0] == (
        f"error: PAPER={paper}: takes rcnn, spp, fast, faster or mask"
    )
    assert run.returncode != 0
