"""The front door of every command: how it ends, and what it says then."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import TypeGuard

from stages.errors import InputError, one_line
from stages.interrupts import TerminatedError, listen
from stages.memory import keep_freed_memory
from stages.processes import lost_a_worker
from stages.ranks import end_with_torchrun, leave, lost_a_rank

GO_ON = "the same command goes on from here"


def main(command: Callable[[list[str]], None], go_on: str = GO_ON) -> None:
    """Run a command as a program: what the user can mend is one line on stderr and exit code 2.

    Ctrl-C is 130 and SIGTERM 143, as shells have it, and a process lost 1, each with a line.

    Args:
        go_on: what that line says of going on.
    """
    keep_freed_memory()
    listen()
    end_with_torchrun()
    said = sys.stderr
    if os.environ.get("RANK", "0") != "0":  # the leading rank speaks for all, but for errors
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (until the program ends)
    try:
        command(sys.argv[1:])
        leave()
    except InputError as error:
        print(f"error: {error.line}", file=said)
        sys.exit(2)
    except KeyboardInterrupt as error:
        terminated = isinstance(error, TerminatedError)
        print(f"{'terminated' if terminated else 'interrupted'}: {go_on}", file=said)
        sys.exit(143 if terminated else 130)
    except Exception as error:
        if lost_a_worker(error):
            print(f"error: a worker process died, for want of memory? {go_on}", file=said)
            sys.exit(1)
        if lost_a_rank(error):
            print(f"error: another rank is gone ({one_line(error)[:80]}); {go_on}", file=said)
            sys.exit(1)
        refused = error if _in_the_way(error) else _refused_writing(error)
        if refused is None:
            raise
        # Of a renaming, what it was to be.
        name = refused.filename2 or refused.filename or "writing"
        print(f"error: {one_line(name)}: {refused.strerror}; nothing finished is lost", file=said)
        sys.exit(2)


def _in_the_way(error: Exception) -> TypeGuard[OSError]:
    """Whether a file is where a folder belongs, or the like: the system's word, and of a name.

    Without a name, or under another error, it may be a mistake of ours.
    """
    kinds = (
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ENOENT,
        errno.ENAMETOOLONG,
        errno.ELOOP,
    )
    return isinstance(error, OSError) and error.errno in kinds and error.filename is not None


def _refused_writing(error: BaseException | None) -> OSError | None:
    """The system's refusal to write that `error` is or came of: `torch.save` buries it under its own."""
    refusals = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
    while error is not None:
        if isinstance(error, OSError) and error.errno in refusals:
            return error
        error = error.__cause__ or error.__context__
    return None
