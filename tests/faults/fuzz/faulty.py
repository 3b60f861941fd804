"""A reader that does everything wrong, for the tests of the long run. `child`'s command line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from stages.errors import InputError
from tests.faults.fuzz.child import run
from tests.faults.fuzz.reader import Case, Reader

NAME = "word.txt"


def _make(folder: Path) -> Sequence[str]:
    (folder / NAME).write_text("fine")
    return [NAME]


def _read(folder: Path, name: str) -> None:
    path = folder / name
    word = path.read_text()
    if word == "refused":
        raise InputError(f"{path}: refused")
    if word == "two lines":
        error = InputError(f"{path}: ")
        error.args = (f"{path}: \x1b[31m",)
        raise error
    if word == "nameless":
        raise InputError("something is wrong")
    if word == "error":
        raise KeyError(word)
    if word == "exit":
        sys.exit(3)
    if word == "memory":
        bytearray(3 * 2**30)
    if word == "crash":
        os.abort()
    if word == "hang":
        time.sleep(600)


def _words(words: Sequence[str]) -> st.SearchStrategy[Case]:
    return st.sampled_from(words).map(lambda word: Case(NAME, word.encode()))


if __name__ == "__main__":
    asked, cases, first, where = sys.argv[1:]
    words = asked.split(",")
    reader = Reader("faulty", _make, _read, lambda _: _words(words), share=10)
    run(reader, int(cases), int(first), Path(where))
