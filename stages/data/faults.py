"""All that is wrong with a data set, said at once: whoever mends one file wants to know of the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stages.errors import InputError

MOST = 30  # lines on the screen; the rest is counted


class Faults:
    """Gathers the faults of many files, each a line, and refuses the data set once.

    Args:
        of: what they are faults of, for the last line.
    """

    def __init__(self, of: object) -> None:
        self._of = of
        self.lines: list[str] = []

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Run the block; if it refuses its input, remember why and go on behind it."""
        try:
            yield
        except InputError as error:
            self.lines.append(error.line)

    def refuse(self) -> None:
        """Print the faults to stderr, a line each, and refuse; do nothing if there is none.

        Raises:
            InputError: there are faults. A single one is the error itself.
        """
        if not self.lines:
            return
        if len(self.lines) == 1:
            raise InputError(self.lines[0])
        for line in self.lines[:MOST]:
            print(f"  {line}", file=sys.stderr)
        if len(self.lines) > MOST:
            print(f"  and {len(self.lines) - MOST} more", file=sys.stderr)
        raise InputError(f"{self._of}: {len(self.lines)} faults, named above; nothing was trained")
