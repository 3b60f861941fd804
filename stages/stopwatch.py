"""Where a detection's time goes, by part."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Adds up seconds by name: `with watch("warp"): ...`.

    Args:
        device: on "cuda" the clock is read when the device has finished, so that a part's time is
            its own. That costs speed: measure a whole without parts, and the parts apart.
        on: False: counts nothing and costs nothing.
    """

    def __init__(self, device: str = "cpu", on: bool = True) -> None:
        self.device, self.on = device, on
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        if not self.on:
            yield
            return
        self._wait()
        started = time.perf_counter()
        yield
        self._wait()
        self.seconds[part] += time.perf_counter() - started

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


OFF = Stopwatch(on=False)  # the default everywhere; holds no state
