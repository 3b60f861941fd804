"""What `test_processes` has done in worker processes, which need not load torch for it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def square(n: int) -> tuple[int, int]:
    time.sleep(0.02 if n == 0 else 0)  # the first is not the first to be done
    return n * n, os.getpid()


def interrupt(n: int) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    return n


def die(n: int) -> int:
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def sleep(folder: Path) -> None:
    (folder / f"{os.getpid()}").touch()
    time.sleep(60)
