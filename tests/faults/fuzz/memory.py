"""How much memory a process may take, and has taken. Linux; elsewhere nothing is limited or known."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

LIMIT = 2**30  # bytes that reading a file may take
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def of_process(name: str) -> int | None:
    """A size from the kernel, in bytes: "VmSize", "VmRSS", "VmHWM" (the most since `forget_peak`)."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def forget_peak() -> None:
    """Begin "VmHWM" again from what is in use now."""
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")


@contextlib.contextmanager
def limited(more: int = LIMIT) -> Iterator[None]:
    """No more address space than what is in use now and so many bytes: what asks for it gets none."""
    used = of_process("VmSize")
    before = resource.getrlimit(resource.RLIMIT_AS)
    if used is not None:
        resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
