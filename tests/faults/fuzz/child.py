"""One reader's cases, in a process of their own: what crashes it leaves the case behind.

`python -m tests.faults.fuzz.child <reader> <cases> <seed> <folder>`; called by `tests.faults.fuzz`.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.faults.fuzz.memory import forget_peak, limited, of_process
from tests.faults.fuzz.reader import Case, Reader

SLOW = 5.0  # seconds of the processor
GENERATED = settings(
    phases=[Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Progress:
    """What the child has done so far, in `progress.json` before each case and after it.

    Attributes:
        started: when the present case was begun, in seconds since 1970; 0 between them.
        name: of the file that the present case is in.
        slowest: seconds of the processor; peak: bytes a case took more than was in use before.
        failures: how often each kind came.
    """

    started: float = 0.0
    name: str = ""
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    peak: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        return self.accepted + self.refused + sum(self.failures.values())


class Trying:
    """Tries cases of a reader one by one, and keeps count; the first of each kind of failure is kept.

    Attributes:
        inside: the folder that the reader's valid files are to be in.
    """

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self.folder, self.inside = reader, folder, folder / "files"
        self.inside.mkdir(parents=True)
        self.progress = Progress()
        self._descriptor = os.open(folder / "progress.json", os.O_CREAT | os.O_WRONLY)

    def __call__(self, case: Case) -> None:
        progress = self.progress
        progress.started, progress.name = time.time(), case.name
        self._write()
        forget_peak()
        before, begun = of_process("VmRSS") or 0, time.process_time()
        fault, trace = None, ""
        try:
            with limited():
                accepted = self.reader.accepts(self.inside, case)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            fault, trace = _named(error), traceback.format_exc()
        seconds = time.process_time() - begun
        progress.slowest = max(progress.slowest, seconds)
        progress.peak = max(progress.peak, (of_process("VmHWM") or 0) - before)
        if fault is None and seconds > SLOW:
            fault = f"took more than {SLOW:g} s"
        if fault is not None:
            if fault not in progress.failures:
                keep(self.folder, len(progress.failures), fault, case, trace)
            progress.failures[fault] = progress.failures.get(fault, 0) + 1
        elif accepted:
            progress.accepted += 1
        else:
            progress.refused += 1
        progress.started = 0.0
        self._write()

    def _write(self) -> None:
        os.pwrite(self._descriptor, json.dumps(asdict(self.progress)).ljust(8000).encode(), 0)


def run(reader: Reader, cases: int, first: int, folder: Path) -> None:
    """Try so many of hypothesis' cases."""
    trying = Trying(reader, folder)
    strategy = reader.cases(trying.inside, reader.make(trying.inside))

    @seed(first)
    @settings(GENERATED, max_examples=cases)
    @given(strategy)
    def try_one(case: Case) -> None:
        trying(case)

    try_one()


def keep(folder: Path, number: int, fault: str, case: Case, trace: str = "") -> None:
    """Write a case that failed, and how."""
    failed = folder / "failed"
    failed.mkdir(exist_ok=True)
    (failed / f"{number:02d}-{Path(case.name).name}").write_bytes(case.content)
    (failed / f"{number:02d}.txt").write_text(f"{case.name}\n{fault}\n{trace}")


def _named(error: BaseException) -> str:
    """The kind of exception, and the line of the project that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and "/faults/" not in f.filename]
    at = (own or frames)[-1]
    said = f": {str(error)[:60]!r}" if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}{said}"


def main(run: Callable[[Reader, int, int, Path], None]) -> None:
    """`run` of what the command line says."""
    from tests.faults.fuzz.readers import READERS

    slug, cases, first, folder = sys.argv[1:]
    (reader,) = (reader for reader in READERS if reader.slug == slug)
    run(reader, int(cases), int(first), Path(folder))


if __name__ == "__main__":
    main(run)
