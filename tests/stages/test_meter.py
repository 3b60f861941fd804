"""The meter counts every attempt, also those that were killed, and all the processes it has."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stages.meter import Meter

ROOT = Path(__file__).parents[2]


class Clock:
    """A monotonic clock that goes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def killed(script: str, file: Path) -> None:
    """Run a script that ends by killing itself."""
    done = subprocess.run([sys.executable, "-c", script, str(file)], cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL


def test_one_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with Meter(tmp_path / "seconds") as meter:
        clock.now += 12.5
    assert meter.seconds == 12.5
    assert meter.attempts == 1
    assert meter.peak_memory > 0
    assert meter.peak_cuda == 0


def test_time_stops_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with Meter(tmp_path / "seconds") as meter:
        clock.now += 2
    clock.now += 100  # hashing the files, waiting for a lock, anything
    assert meter.seconds == 2


def test_attempts_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    for attempt, so_far in ((1, 3.0), (2, 6.0), (3, 9.0)):
        with Meter(tmp_path / "seconds") as meter:
            clock.now += 3
        assert (meter.attempts, meter.seconds) == (attempt, so_far)
        clock.now += 1000  # nobody was working


def test_an_attempt_that_raised_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with pytest.raises(ZeroDivisionError), Meter(tmp_path / "seconds"):
        clock.now += 7
        _ = 1 / 0
    with Meter(tmp_path / "seconds") as meter:
        clock.now += 1
    assert (meter.attempts, meter.seconds) == (2, 8.0)


def test_the_highest_memory_of_all_attempts(tmp_path: Path) -> None:
    state = {"seconds": 1.0, "attempts": 1, "peak_memory": 2**50}
    (tmp_path / "seconds").write_text(json.dumps(state))
    with Meter(tmp_path / "seconds") as meter:
        pass
    assert meter.peak_memory == 2**50


def test_memory_of_children_is_counted(tmp_path: Path) -> None:
    script = "held = bytearray(b'x' * 2**26); print('ready', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with Meter(tmp_path / "seconds", beat=1e6) as meter:  # the one sample is at the end
        child = subprocess.Popen([sys.executable, "-c", script], **pipes)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        # As the meter counts: a page that two processes share is half of each.
        full = psutil.Process().memory_full_info()
        own = getattr(full, "pss", full.rss)
    child.communicate(b"\n")
    assert meter.peak_memory > 0.9 * own + 2**26


@pytest.mark.parametrize("left", ["", "{", "\x00\x01", "[]", "{}"])
def test_a_broken_count_starts_anew(tmp_path: Path, left: str) -> None:
    (tmp_path / "seconds").write_text(left)
    with Meter(tmp_path / "seconds") as meter:
        pass
    assert meter.attempts == 1
    assert json.loads((tmp_path / "seconds").read_text())["attempts"] == 1


def test_no_room_for_the_count_is_no_error(tmp_path: Path) -> None:
    with Meter(tmp_path / "no such folder" / "seconds") as meter:
        pass
    assert meter.attempts == 1


def test_an_attempt_killed_at_once_counts(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from stages.meter import Meter\n"
        "with Meter(Path(sys.argv[1]), beat=1e6):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed(script, tmp_path / "seconds")
    with Meter(tmp_path / "seconds") as meter:
        pass
    assert meter.attempts == 2


def test_what_the_heartbeat_wrote_survives_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "seconds"
    script = (
        "import json, os, signal, sys\n"
        "from pathlib import Path\n"
        "from stages.meter import Meter\n"
        "file = Path(sys.argv[1])\n"
        "with Meter(file, beat=0.001):\n"
        "    while not file.exists() or json.loads(file.read_text())['seconds'] < 0.01:\n"
        "        pass\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed(script, file)
    before = json.loads(file.read_text())
    assert before["seconds"] >= 0.01
    with Meter(file) as meter:
        pass
    assert meter.seconds >= before["seconds"]
    assert meter.attempts == 2
    assert meter.peak_memory >= before["peak_memory"]
