"""Work spread over worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from stages.errors import InputError
from stages.processes import apart, lost_a_worker, spread
from tests.stages.workers import damaged, die, interrupt, mistaken, square

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("workers", "at_once"), [(0, 1), (2, 1), (2, 4)])
def test_results_come_in_order(workers: int, at_once: int) -> None:
    found = list(spread(square, range(10), workers, at_once))
    assert [value for value, _ in found] == [n * n for n in range(10)]
    here = {process == os.getpid() for _, process in found}
    assert here == {workers == 0}


def test_nothing_and_one_need_no_process() -> None:
    assert list(spread(square, [], 2)) == []
    assert list(spread(square, [3], 2)) == [(9, os.getpid())]


def test_ctrl_c_is_the_parents() -> None:
    assert list(spread(interrupt, range(4), 2)) == [0, 1, 2, 3]


def test_apart_is_in_another_process() -> None:
    value, process = apart(partial(square, 3))
    assert value == 9 and process != os.getpid()
    assert apart(partial(interrupt, 1)) == 1


def test_what_the_user_can_mend_comes_back_as_a_line() -> None:
    with pytest.raises(InputError) as caught:
        apart(damaged)
    assert caught.value.line == "cache.h5: cut short"


def test_a_process_apart_that_dies_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenProcessPool, match="ended with -9") as caught:
        apart(partial(die, 3))
    assert lost_a_worker(caught.value)
    with pytest.raises(BrokenProcessPool, match="ended with 1"):
        apart(mistaken)
    assert "ValueError: a mistake" in capfd.readouterr().err


def test_a_worker_that_is_killed_is_noticed() -> None:
    with pytest.raises(BrokenProcessPool) as caught:
        list(spread(die, range(8), 2))
    assert lost_a_worker(caught.value)


def run_to_its_end(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """A program in a file, which spawned workers need; it may not hang."""
    (folder / "program.py").write_text(program)
    return subprocess.run(
        [sys.executable, str(folder / "program.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


STARTING = """
import os, signal, time
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnProcess
from stages.processes import spread
from tests.stages.workers import square

start, started = SpawnProcess.start, []

def start_late(process):
    if started:  # an executor that watches already learns of it before it knows of the second
        os.kill(started[0].pid, signal.SIGKILL)
        time.sleep(1.0)
    start(process)
    started.append(process)

if __name__ == "__main__":
    SpawnProcess.start = start_late
    try:
        list(spread(square, range(10), 2))
    except BrokenProcessPool:
        print("noticed", flush=True)
"""


def test_one_killed_while_the_other_starts_is_noticed_and_the_program_ends(tmp_path: Path) -> None:
    done = run_to_its_end(tmp_path, STARTING)
    assert (done.returncode, done.stdout, done.stderr) == (0, "noticed\n", "")


DEAF = """
from concurrent.futures.process import _ExecutorManagerThread
from stages.processes import spread
from tests.stages.workers import square

if __name__ == "__main__":
    # As where a worker was killed with the lock of what they are told by.
    _ExecutorManagerThread.shutdown_workers = lambda self: None
    print([value for value, _ in spread(square, range(4), 2)], flush=True)
"""


def test_workers_are_not_asked_to_end(tmp_path: Path) -> None:
    """One that does not hear would be waited for, by a program that is done."""
    done = run_to_its_end(tmp_path, DEAF)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 1, 4, 9]\n", "")


def test_a_killed_worker_of_pytorchs_is_noticed() -> None:
    class Killed(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, n: int) -> int:
            return die(n)

    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Killed(), batch_size=None, num_workers=1))
    assert lost_a_worker(caught.value)


def test_other_errors_are_something_else() -> None:
    assert not lost_a_worker(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not lost_a_worker(ValueError("DataLoader worker"))


PROGRAM = """
import sys
from pathlib import Path
from stages.processes import spread
from tests.stages.workers import sleep

if __name__ == "__main__":
    list(spread(sleep, [Path(sys.argv[1])] * 2, 2))
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    pids = tmp_path / "pids"
    pids.mkdir()
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(program), str(pids)], env=path)
    while len(list(pids.iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    workers = [int(file.name) for file in pids.iterdir()]
    until = time.monotonic() + 30
    while any(psutil.pid_exists(worker) for worker in workers):
        assert time.monotonic() < until, "workers without a parent"
        time.sleep(0.05)


INTERRUPTED = """
import os, signal, sys, time
from functools import partial
from pathlib import Path
from stages.interrupts import TerminatedError, listen
from stages.processes import apart, spread
from tests.stages.workers import note, sleep

if __name__ == "__main__":
    listen()
    try:
        for _ in spread(note, [Path(sys.argv[1])] * 200, 2):
            pass
    except KeyboardInterrupt as error:
        print(type(error).__name__)
        sys.exit(7)
"""


# Its process would sleep for a minute.
INTERRUPTED_APART = INTERRUPTED.replace(
    """for _ in spread(note, [Path(sys.argv[1])] * 200, 2):
            pass""",
    "apart(partial(sleep, Path(sys.argv[1])))",
)


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "TerminatedError")],
)
@pytest.mark.parametrize("wait", [0.0, 0.3])
@pytest.mark.parametrize(("text", "children"), [(INTERRUPTED, 3), (INTERRUPTED_APART, 2)])
def test_all_of_them_interrupted_only_the_parent_says_so(
    tmp_path: Path, text: str, children: int, number: int, error: str, wait: float
) -> None:
    program = tmp_path / "program.py"
    program.write_text(text)
    parent = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it may be ignored here
    )
    # The workers and multiprocessing's helper.
    while len(psutil.Process(parent.pid).children()) < children:
        assert parent.poll() is None
        time.sleep(0.005)
    time.sleep(wait)
    os.killpg(parent.pid, number)
    out, err = parent.communicate(timeout=30)
    assert (parent.returncode, out.strip()) == (7, error), err
    assert "Traceback" not in err
