"""A training by two ranks is the training by one: the same gradients of the same step's images."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.ranks import ALONE
from tests.ranks.trainings import STAGES, train_all

ROOT = Path(__file__).parents[2]
# As the Makefile's LAUNCH.
ENVIRONMENT = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process left, and what two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    command = [*TORCHRUN, "-m", "tests.ranks.trainings", str(two)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as ranks:
        train_all(one, ALONE)
        said, _ = ranks.communicate(timeout=900)
    assert ranks.returncode == 0, said[-3000:]
    return one, two


@pytest.mark.parametrize("stage", STAGES)
def test_gradients_are_those_of_one_process(folders: tuple[Path, Path], stage: str) -> None:
    one, two = (torch.load(folder / stage / "weights.pt", weights_only=True) for folder in folders)
    assert one.keys() == two.keys()
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("stage", STAGES)
def test_losses_too(folders: tuple[Path, Path], stage: str) -> None:
    rows = []
    for folder in folders:
        with open(folder / stage / "losses.csv", newline="") as file:
            (row,) = csv.DictReader(file)
        del row["seconds"]
        rows.append({key: float(value) for key, value in row.items()})
    assert rows[0] == pytest.approx(rows[1], rel=1e-4, abs=1e-5)
    assert rows[0]["gradient_norm"] > 0.01
