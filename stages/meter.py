"""How long a stage worked and how much memory it took, over all its attempts."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import psutil


class Meter:
    """Counts the seconds in which the process was alive in the `with` block.

    A heartbeat writes the count to `file` twice a second, so that a `kill -9` loses half
    a second of it and the next attempt adds to what was there: a stage's time is
    the time it took, interrupted or not. It goes by the monotonic clock.

    Attributes, once the block has ended:
        seconds: of all attempts.
        attempts: how many there were.
        peak_memory: bytes resident, this process and its children together, sampled.
        peak_cuda: bytes PyTorch allocated on the GPU, 0 without one.
    """

    def __init__(self, file: Path, beat: float = 0.5) -> None:
        self._file = file
        self._beat = beat
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._process = psutil.Process()
        self._ended: float | None = None
        self.peak_memory = 0
        self.peak_cuda = 0

    def __enter__(self) -> Meter:
        try:
            before = json.loads(self._file.read_text())
            self._before = float(before["seconds"])
            self.attempts = int(before["attempts"]) + 1
            self.peak_memory = int(before["peak_memory"])
            self.peak_cuda = int(before.get("peak_cuda", 0))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._before, self.attempts, self.peak_memory, self.peak_cuda = 0.0, 1, 0, 0
        self._started = time.monotonic()
        if (torch := _torch_with_cuda()) is not None:
            torch.cuda.reset_peak_memory_stats()
        self._sample()  # so that an attempt killed at once is counted too
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()
        self._ended = time.monotonic()

    @property
    def seconds(self) -> float:
        """So far, or in all once the block has ended."""
        end = time.monotonic() if self._ended is None else self._ended
        return self._before + end - self._started

    def _watch(self) -> None:
        while not self._stop.wait(self._beat):
            self._sample()

    def _sample(self) -> None:
        resident = 0
        for process in [self._process, *self._process.children(recursive=True)]:
            try:
                resident += _memory_of(process)
            except psutil.Error:
                continue  # it ended meanwhile
        self.peak_memory = max(self.peak_memory, resident)
        if (torch := _torch_with_cuda()) is not None:
            self.peak_cuda = max(self.peak_cuda, int(torch.cuda.max_memory_allocated()))
        state = {
            "seconds": self.seconds,
            "attempts": self.attempts,
            "peak_memory": self.peak_memory,
            "peak_cuda": self.peak_cuda,
        }
        aside = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            aside.write_text(json.dumps(state))
            os.replace(aside, self._file)
        except OSError:
            pass  # a full disk is the stage's to report, not the clock's


def _memory_of(process: psutil.Process) -> int:
    """Bytes resident; what forked processes share is shared out among them, where the system tells."""
    full = process.memory_full_info()
    return int(getattr(full, "pss", full.rss))


def _torch_with_cuda():  # type: ignore[no-untyped-def]
    # Looked up, not imported: the store must not pull torch into a process that has no use for it.
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
