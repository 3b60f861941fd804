"""A message is one line, and only that, whatever a file had in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.errors import LONGEST, InputError, expand, one_line


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
