"""A message is one line, and only that, whatever a file had in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.detectors import find_runs
from stages.backbones.weights import load_state, of_file
from stages.data.coco_file import read_coco
from stages.data.decode import decode
from stages.data.faults import Faults
from stages.data.size import size_of
from stages.data.voc_lists import read_split
from stages.data.voc_xml import read_annotation
from stages.data.yolo_files import read_config, read_labels, read_list
from stages.errors import LONGEST, InputError, check_regular, expand, one_line
from stages.evaluation.detections_io import load_detections
from stages.proposals.cache import Proposals
from stages.typed_json import read_typed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb\r\n\tc  d ", "a b c d"),
        ("a\x85b\u2028c", "a b c"),
        ("Katze \u00e9 \U0001f408", "Katze \u00e9 \U0001f408"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\x00b", r"a\x00b"),
        ("right\u202eleft", r"right\u202eleft"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_spelt_out(text: str, line: str) -> None:
    assert one_line(text) == line
    assert str(InputError(text)) == line


def test_a_long_message_keeps_its_ends() -> None:
    line = one_line("data/labels/a.txt: " + "x" * 10_000 + " is not a number")
    assert len(line) < LONGEST + 10
    assert line.startswith("data/labels/a.txt: xxx")
    assert line.endswith("xxx is not a number")
    assert one_line("x" * LONGEST) == "x" * LONGEST


@pytest.mark.parametrize("name", ["x" * 256, "a/" + "\u00e9" * 128, "a/" * 2049, "~/" + "x" * 256])
def test_a_path_longer_than_the_system_takes(name: str) -> None:
    with pytest.raises(InputError, match="the name is too long") as caught:
        expand(name)
    assert len(caught.value.line) < 2000


@pytest.mark.parametrize("name", ["x" * 255, "\u00e9" * 127, "a/" * 2047, "with a blank", "."])
def test_a_path_as_long_as_it_takes(name: str) -> None:
    assert expand(name) == Path(name)
    assert not expand(name).exists() or name == "."


@pytest.fixture(params=["pipe", "device", "link to a device"])
def endless(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What gives bytes for ever, or none."""
    path = tmp_path / "data" / "run" / "metrics.json"
    path.parent.mkdir(parents=True)
    if request.param == "device":
        return Path("/dev/zero")
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize(
    "read",
    [
        *(check_regular, decode, size_of, read_split, read_config, read_list),
        *(of_file, load_state, Proposals),
        lambda path: read_coco(path, Faults(path)),
        lambda path: expand(str(path)),
        read_annotation,
        lambda path: read_labels(path, {0: "a"}),
        lambda path: load_detections(path, [1]),
        lambda path: read_typed(path, dict, "a model"),
    ],
)
def test_what_never_ends_is_refused(endless: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(InputError) as raised:
        read(endless)
    assert raised.value.line == f"{endless}: is no file but a pipe or a device"


def test_a_run_whose_metrics_never_end(tmp_path: Path) -> None:
    (tmp_path / "data" / "run").mkdir(parents=True)
    os.mkfifo(tmp_path / "data" / "run" / "metrics.json")
    with pytest.raises(InputError, match="no file but a pipe"):
        find_runs(tmp_path)


def test_files_and_folders_are_regular(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link", "."):
        check_regular(tmp_path / name)
        assert expand(str(tmp_path / name)) == tmp_path / name
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "b")
