"""The one exception that is the user's to mend."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave is wrong: one line that names the file and what is wrong with it.

    The front door prints that line and exits with 2. A data-loading worker's
    exception comes back with the worker's traceback prepended, so the message is
    always the last line; newlines in it would break that, hence they go.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def line(self) -> str:
        """The message alone, also when a worker process raised it."""
        return str(self).strip().splitlines()[-1].removeprefix("stages.errors.InputError: ")


def one_line(text: object) -> str:
    """`text` with line breaks and runs of blanks made single blanks."""
    return " ".join(str(text).split())
