"""A rank that dies takes the run down with a clear word, and torchrun starts it again from the checkpoint."""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

import pytest
import torch

from tests.ranks.test_trainings import ENVIRONMENT, ROOT, TORCHRUN

pytestmark = pytest.mark.slow


def start(folder: Path, *arguments: str, restarts: int = 0) -> subprocess.Popen[str]:
    folder.mkdir()
    command = [*TORCHRUN, "--max-restarts", str(restarts), "-m", "tests.ranks.dying", str(folder)]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int, str]]:
    """Whole, killed and started again, killed for good: folder, exit status, what it said."""
    base = tmp_path_factory.mktemp("ranks")
    asked = {"whole": ((), 0), "again": (("1", "25"), 1), "dead": (("1", "25"), 0)}
    ended = {}
    for name, (arguments, restarts) in asked.items():
        program = start(base / name, *arguments, restarts=restarts)
        said, _ = program.communicate(timeout=900)
        ended[name] = base / name, program.returncode, said
    return ended


def test_started_again_it_ends_as_one_that_was_not_killed(
    runs: dict[str, tuple[Path, int, str]],
) -> None:
    weights = []
    for name in ("whole", "again"):
        folder, status, said = runs[name]
        assert status == 0, said[-3000:]
        weights.append(torch.load(folder / "job" / "weights.pt", weights_only=True))
        with open(folder / "job" / "losses.csv", newline="") as file:
            assert [int(row["iteration"]) for row in csv.DictReader(file)] == list(range(30))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[1][key], value) for key, value in weights[0].items())


def test_it_went_on_from_the_checkpoint(runs: dict[str, tuple[Path, int, str]]) -> None:
    # The bar starts again where the ranks had last looked.
    starts = [int(n) for n in re.findall(r" (\d+)/30 \[00:00<\?", runs["again"][2])]
    assert max(starts) > 0, runs["again"][2][-3000:]


def test_the_other_rank_says_what_happened(runs: dict[str, tuple[Path, int, str]]) -> None:
    folder, status, said = runs["dead"]
    assert status != 0
    assert "another rank is gone" in said or "SIGKILL" in said
    assert not (folder / "job" / "weights.pt").exists()
    assert (folder / "job" / "checkpoint.pt").exists()
