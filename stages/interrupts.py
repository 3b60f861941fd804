"""Ctrl-C and SIGTERM: the program ends where it can go on from, and says so.

Free of torch: worker processes load it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, which is told of as Ctrl-C is; systems that shut down and Slurm send it."""


def listen() -> None:
    """From now on SIGTERM raises `TerminatedError` in the main thread; Python would just end.

    And neither it nor Ctrl-C is lost where Python drops what is raised: in a finaliser, say.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
        sys.unraisablehook = _dropped


def _dropped(what: sys.UnraisableHookArgs) -> None:
    if not issubclass(what.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(what)
        return
    # Raised here it would be dropped again: the signal comes once more, in a moment.
    number = signal.SIGTERM if issubclass(what.exc_type, TerminatedError) else signal.SIGINT
    again = threading.Timer(0.05, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def leave_to_parent(_: int = 0) -> None:
    """In a worker process that ends when its parent says so: a terminal sends Ctrl-C to both."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Until the block has ended; processes that are started in it have it blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_ctrl_c_to_parent() -> None:
    """In a worker process whose parent ends it by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class Hold:
    """Whether an interruption waits."""

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def asked(self) -> bool:
        """Whether one waits."""
        return self.number is not None

    def give_way(self) -> NoReturn:
        """Be interrupted now."""
        _interrupt(self.number or signal.SIGINT)


@contextmanager
def held() -> Iterator[Hold]:
    """Ctrl-C and SIGTERM wait for the block's end, or for its `give_way`. A second one does not wait.

    Outside the main thread, which alone hears them, nothing waits.
    """
    hold = Hold()
    if threading.current_thread() is not threading.main_thread():
        yield hold
        return

    def note(number: int, _: FrameType | None) -> None:
        if hold.asked:
            _interrupt(number)
        hold.number = number

    # What nobody wanted to hear (a shell's `command &` ignores Ctrl-C) stays unheard.
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield hold
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if hold.asked:
        hold.give_way()


def _interrupt(number: int, _: FrameType | None = None) -> NoReturn:
    raise TerminatedError if number == signal.SIGTERM else KeyboardInterrupt
