"""`make`'s LAUNCH: what it runs, and where the ranks meet."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command(launch: str) -> list[str]:
    """The words that `make fast LAUNCH=..` would run."""
    # Whatever the age of .venv here: nothing is installed.
    made = [
        "make",
        "--no-print-directory",
        "-n",
        "-o",
        ".venv/.complete",
        "fast",
        f"LAUNCH={launch}",
    ]
    shown = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return shown.split()


def test_without_it_nothing_is_launched() -> None:
    assert command("")[:3] == [".venv/bin/python", "-m", "fast_rcnn"]


@pytest.mark.parametrize("more", ["", " --max-restarts 3"])
def test_ranks_of_one_machine_meet_at_a_port_of_their_own(more: str) -> None:
    words = command(f"torchrun --nproc-per-node 2{more}")
    assert words[1] == ".venv/bin/torchrun"
    assert words.index("--standalone") < words.index("-m")


@pytest.mark.parametrize(
    "where",
    [
        "--standalone",
        "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint head:29400",
        "--nnodes=2",
        "--rdzv_endpoint=head:29400",
        "--master_addr head --node_rank 1",
        "--master-port 29501",
    ],
)
def test_what_says_where_is_left_as_it_is(where: str) -> None:
    words = command(f"torchrun --nproc-per-node 2 {where}")
    assert words.count("--standalone") == where.count("--standalone")
    assert set(where.split()) <= {*words}
