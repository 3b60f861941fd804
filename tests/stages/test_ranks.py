"""Shares of work, and what a process without others makes of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.ranks import ALONE, Ranks, join, lost_a_rank, shared_count
from stages.shards import Shard
from stages.store import Job, Store, stage
from stages.sweep import sweep

ROOT = Path(__file__).parents[2]


@given(st.integers(1, 9), st.lists(st.integers()))
def test_together_the_ranks_have_each_once(world: int, items: list[int]) -> None:
    shares = [items[Ranks(rank, world).mine] for rank in range(world)]
    assert sorted(item for share in shares for item in share) == sorted(items)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_alone_it_has_all_and_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join("cpu") == ALONE
    assert [1, 2, 3][ALONE.mine] == [1, 2, 3]
    assert ALONE.tell("value") == "value"
    assert ALONE.leads
    ALONE.wait()


def test_a_count_alone_is_its_own_but_never_nought() -> None:
    like = torch.zeros(1)
    assert shared_count(5, like) == 5
    assert shared_count(0, like) == 1
    assert int(shared_count(torch.tensor(0), like)) == 1
    assert int(shared_count(torch.tensor(7), like)) == 7


def test_what_a_dead_rank_looks_like() -> None:
    assert lost_a_rank(RuntimeError("[gloo/transport/tcp/pair.cc:538] Read error"))
    assert not lost_a_rank(RuntimeError("shape mismatch"))
    assert not lost_a_rank(ValueError("gloo"))


MEETING = """
import os, sys, time
from datetime import timedelta
from stages import ranks
ranks.MEETING = timedelta(seconds=2)
try:
    mine = ranks.join("cpu")
except Exception as error:
    print("lost" if ranks.lost_a_rank(error) else repr(error))
    sys.exit()
time.sleep(5 * mine.rank)  # longer than they may take to meet
mine.wait()
print(mine.tell(["said by", mine.rank]))
ranks.leave()
"""


def met(started: int) -> list[str]:
    """What so many ranks of two say in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING],
            cwd=ROOT,
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(started)
    ]
    return [program.communicate(timeout=60)[0].strip() for program in programs]


def test_a_rank_whose_others_do_not_come_says_so_in_time() -> None:
    assert met(1) == ["lost"]


def test_once_they_have_met_they_wait_for_longer() -> None:
    assert met(2) == ["['said by', 0]"] * 2


ORPHAN = """
import sys, time
from pathlib import Path
from stages.interrupts import listen
from stages.ranks import end_with_torchrun
left, stubborn = Path(sys.argv[1]), len(sys.argv) > 2
listen()
end_with_torchrun(beat=0.05, grace=0.5)
print("ready", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    left.write_text("a checkpoint")
    if stubborn:
        time.sleep(60)
        left.write_text("too late")
"""
LAUNCHER = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_rank_ends_when_torchrun_was_killed(tmp_path: Path, stubborn: bool) -> None:
    arguments = [ORPHAN, str(tmp_path / "left"), *(["stubborn"] if stubborn else [])]
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *arguments],
        cwd=ROOT,
        env={**os.environ, "TORCHELASTIC_RUN_ID": "x"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "ready\n"
        launcher.kill()
        launcher.stdout.read()  # until the rank too has closed it
    assert (tmp_path / "left").read_text() == "a checkpoint"


def test_a_sweep_by_several_makes_every_shard_once(tmp_path: Path) -> None:
    every = [Shard(tmp_path / f"{n}", 2 * n, 2 * n + 2) for n in range(5)]
    every[2].path.touch()  # of an earlier attempt
    seen: list[int] = []
    for rank in (1, 0):
        # What the other has made by now changes nothing in who makes what.
        for shard, images in sweep(
            list(range(10)),  # type: ignore[arg-type]
            every,
            0,
            "",
            lambda record: record,
            Ranks(rank, 2),
        ):
            seen += [int(loaded) for _, loaded in images]  # type: ignore[call-overload]
            shard.path.touch()
    assert sorted(seen) == [0, 1, 2, 3, 6, 7, 8, 9]


@stage(version=1)
def alone(job: Job) -> None:
    (job.folder / "world").write_text(str(job.ranks.world))


def test_a_stage_of_one_process_says_so(tmp_path: Path) -> None:
    artifact = Store(tmp_path).run(alone)
    assert (artifact.path / "world").read_text() == "1"
    assert artifact.manifest["ranks"] == 1
