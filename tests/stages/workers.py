"""What `test_processes` has done in worker processes, which need not load torch for it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from stages.errors import DamagedError


def square(n: int) -> tuple[int, int]:
    time.sleep(0.02 if n == 0 else 0)  # the first is not the first to be done
    return n * n, os.getpid()


def interrupt(n: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return n


def die(n: int) -> int:
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def sleep(folder: Path) -> None:
    (folder / f"{os.getpid()}").touch()
    time.sleep(60)


def note(folder: Path) -> None:
    (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(0.05)


def damaged() -> None:
    raise DamagedError(Path("cache.h5"), "cut short")


def mistaken() -> None:
    raise ValueError("a mistake")
