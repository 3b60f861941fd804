"""`ARGS`: the command line of every paper, a word a line in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from benchmarks.report.commands import TARGETS
from stages.numbers import option_values
from stages.options import Options, parse
from stages.seals import digest
from stages.store import describe
from tests.faults.fuzz.mutate import WORDS
from tests.faults.fuzz.reader import Case, Reader

PAPERS = ("rcnn", "spp", "fast", "faster", "mask")
NAME = "arguments.txt"
FRONT = (
    "--preset",
    "--data",
    "--backbone",
    "--weights",
    "--runs",
    "--device",
    "--tag",
    "--workers",
)


def _presets(paper: str) -> Mapping[str, Any]:
    return TARGETS[paper][1]


def _words(value: Any) -> list[str]:
    """Of a command line that gives this value."""
    if isinstance(value, bool) or value is None:
        return [str(value)]
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


def _options(config: Any) -> list[tuple[str, list[str]]]:
    """Every field of a configuration: its option, and the words of its value."""
    return [(f"--{name}", _words(value)) for name, value in option_values(config)]


def _make(folder: Path) -> Sequence[str]:
    (folder / NAME).write_text("fast\n--preset\nmicro\n--top\n100\n--train.sgd.lr\n0.01\n")
    return [NAME]


def _read(folder: Path, name: str) -> None:
    text = (folder / name).read_text(encoding="utf-8", errors="surrogateescape")
    paper, *arguments = text.split("\n")[:-1] or ["fast"]
    presets = _presets(paper if paper in PAPERS else "fast")
    # The system ends every word at a NUL.
    words = [word.partition("\0")[0] for word in arguments]
    try:
        options, config = parse(paper, type(presets["micro"]), presets, words)
    except SystemExit as stop:
        assert stop.code in (0, None), "--help only"
        return
    assert isinstance(options, Options)
    assert type(config) is type(presets["micro"])
    assert digest(describe(config))  # what every artifact is named by
    json.dumps(describe(config))


@st.composite
def _wrong(draw: st.DrawFn, _: Path) -> Case:
    """One to three options with values of their own, of others, or none; or an option that is none."""
    paper = draw(st.sampled_from(PAPERS))
    every = _options(_presets(paper)["micro"])
    words: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        option, values = draw(st.sampled_from(every))
        kind = draw(
            st.sampled_from(("own", "own", "word", "word", "other", "none", "name", "front"))
        )
        if kind == "word":
            values = [draw(st.sampled_from(WORDS) | st.text(max_size=6))] * draw(st.integers(1, 3))
        elif kind == "other":
            values = draw(st.sampled_from(every))[1]
        elif kind == "none":
            values = []
        elif kind == "name":
            option = draw(
                st.sampled_from(
                    (option[:-1], option + "x", option.upper(), "--no-" + option[2:], "-")
                )
            )
        elif kind == "front":
            option = draw(st.sampled_from(FRONT))
            values = [draw(st.sampled_from([*WORDS, "micro", "cpu", "tiny", "2"]))]
        words += [option, *values] if draw(st.integers(0, 5)) else [f"{option}={''.join(values)}"]
    lines = [paper, *(word.replace("\n", " ") for word in words)]
    return Case(NAME, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))


ARGUMENTS = Reader("Options (ARGS)", _make, _read, _wrong, share=8, names_file=False, quick=40)
