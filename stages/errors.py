"""The one exception that is the user's to mend."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class InputError(Exception):
    """Something the user gave is wrong: one line that names the file and what is wrong with it.

    The front door prints that line and exits with 2. A data-loading worker's
    exception comes back with the worker's traceback prepended, so the message is
    always the last line; newlines in it would break that, hence they go.
    """

    def __init__(self, message: str) -> None:
        from_worker = "\nOriginal Traceback" in message
        super().__init__(message if from_worker else one_line(message))

    @property
    def line(self) -> str:
        """The message alone, also when a worker process raised it."""
        return str(self).strip().splitlines()[-1].removeprefix("stages.errors.InputError: ")


class DamagedError(InputError):
    """A file is not what was once written there. The project's own are made again: `Store.again`."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


# Of a message, characters: a file may hold a word of megabytes.
LONGEST = 1500


def one_line(text: object) -> str:
    """`text` with line breaks and runs of blanks made single blanks, and its middle cut if it is long.

    What a terminal would obey, and what is no character, is spelt out: `\\x1b`.
    """
    words = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 300]} [..] {line[-300:]}"


# Of a file's name, and of a whole path, in bytes: what Linux and macOS take.
LONGEST_NAME, LONGEST_PATH = 255, 4095


def expand(path: str) -> Path:
    """A path as typed, `~` expanded.

    Raises:
        InputError: the user it names is unknown, it is longer than the system takes, or what is
            there is neither a file nor a folder.
    """
    try:
        expanded = Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: {error}") from None
    if too_long(expanded):
        raise InputError(f"{path}: the name is too long")
    if os.path.exists(expanded):
        check_regular(expanded)
    return expanded


def check_regular(path: Path) -> None:
    """Refuse what may have no end, or wait for ever to be written: pipes, devices, sockets.

    Raises:
        InputError: it is neither a file nor a folder (which to read from is an `OSError` as it is).
        OSError: it is not there, or nobody may look.
        ValueError: there can be no such name.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path}: is no file but a pipe or a device")


def too_long(path: Path) -> bool:
    """Whether the system has no file of that name, nor could have one."""
    return len(os.fsencode(path)) > LONGEST_PATH or any(
        len(os.fsencode(part)) > LONGEST_NAME for part in path.parts
    )
