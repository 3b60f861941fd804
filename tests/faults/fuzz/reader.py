"""A reader under test, and the one thing that is asked of it.

Whatever is in the file, reading it ends with a valid result or with an `InputError` of one line
that names the file: no other exception, no crash, no hang, no gigabytes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from stages.errors import InputError
from tests.faults.fuzz.mutate import anything


@dataclass(frozen=True)
class Case:
    """A file below the reader's folder, and what it now holds."""

    name: str
    content: bytes

    def __repr__(self) -> str:  # hypothesis prints it
        return f"Case({self.name!r}, {self.content!r})"


@dataclass(frozen=True)
class Reader:
    """What reads a kind of file.

    Attributes:
        name: of the kind, for people.
        make: writes valid files into a folder; returns the names of those to break.
        read: reads the one of that name below the folder as the project does, with all that is
            read later, and checks what comes of it.
        wrong: given such a folder, more cases than `anything` makes of the valid files.
        share: how often, of 10, a case is one of these.
        names_file: whether an error must name a path below the folder.
        quick: cases in the test suite.
    """

    name: str
    make: Callable[[Path], Sequence[str]]
    read: Callable[[Path, str], object]
    wrong: Callable[[Path], st.SearchStrategy[Case]] | None = None
    share: int = 4
    names_file: bool = True
    quick: int = 200

    @property
    def slug(self) -> str:
        return re.sub(r"\W+", "_", self.name.lower()).strip("_")

    def cases(self, folder: Path, names: Sequence[str]) -> st.SearchStrategy[Case]:
        """Cases of the files that `make` has made in the folder, and named."""
        broken = st.one_of(
            *(
                anything(name, (folder / name).read_bytes()).map(
                    lambda content, name=name: Case(name, content)
                )
                for name in names
            )
        )
        if self.wrong is None:
            return broken
        wrong, share = self.wrong(folder), self.share
        return st.integers(0, 9).flatmap(lambda dice: wrong if dice < share else broken)

    def accepts(self, folder: Path, case: Case) -> bool:
        """Whether the case is read (True) or refused as it should be (False); the file is put back.

        Raises:
            Exception: anything else that the reader raises; AssertionError: what it read is not
                valid, or the error is not one line that names the file.
        """
        path = folder / case.name
        whole = path.read_bytes()
        _replace(path, case.content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.read(folder, case.name)
        except InputError as error:
            line = error.line
            assert line, "an empty message"
            assert len(line.splitlines()) == 1, f"not one line: {line!r}"
            assert line.isprintable(), f"control characters: {line!r}"
            assert len(line) < 2000, f"{len(line)} characters"
            assert not self.names_file or str(folder) in line, f"names no file: {line!r}"
            return False
        finally:
            _replace(path, whole)
        return True


def _replace(path: Path, content: bytes) -> None:
    """Another file of that name. One that is cut and written over has some systems wait for the disk."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
