"""Work spread over worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from stages.processes import lost_a_worker, spread
from tests.stages.workers import die, interrupt, square

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


def test_signals_are_the_parents() -> None:
    assert list(spread(interrupt, range(4), 2)) == [0, 1, 2, 3]


def test_a_worker_that_is_killed_is_noticed() -> None:
    with pytest.raises(BrokenProcessPool) as caught:
        list(spread(die, range(8), 2))
    assert lost_a_worker(caught.value)


def test_so_is_one_of_pytorchs() -> None:
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
