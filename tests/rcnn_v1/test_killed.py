"""The whole program, killed with its workers at moments of a run and started again each time."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
KILLS = 10
RUN = "shapes-micro-tiny/rcnn"


def start(runs: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rcnn_v1", "--preset", "micro", "--device", "cpu"]
    return subprocess.Popen(
        [*command, "--runs", str(runs), "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # its workers die with it
    )


def without_times(value: Any) -> Any:
    """What a run says of itself, but for how long it took and in how much memory."""
    if isinstance(value, dict):
        measured = ("seconds", "peak_memory_mib", "peak_cuda_mib", "train_seconds")
        return {key: without_times(item) for key, item in value.items() if key not in measured}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def metrics(runs: Path) -> Any:
    found = json.loads((runs / RUN / "metrics.json").read_text())
    assert found["stages"]
    assert found["result"]["images"] == 4
    return without_times(found)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    assert start(whole).wait() == 0
    took = time.monotonic() - began

    moments, kills = [], 0
    for _ in range(KILLS):
        # A start that finds everything done takes a third; most moments are in unfinished work.
        moments.append(random.uniform(0.2, 0.6) * took)
        program = start(killed)
        try:
            program.wait(timeout=moments[-1])
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            kills += 1
            program.wait()
    print(f"killed after {', '.join(f'{moment:.2f}' for moment in moments)} s")
    assert kills >= 3, "the run was over before it could be killed"
    assert start(killed).wait() == 0

    assert metrics(killed) == metrics(whole)
    for name in ("detections.json", "unregressed.json"):
        assert (killed / RUN / name).read_bytes() == (whole / RUN / name).read_bytes()
    ours, theirs = (
        torch.load(runs / RUN / "model/weights.pt", weights_only=True) for runs in (killed, whole)
    )
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    for name in ("svms.npz", "regressors.npz"):
        with (
            np.load(killed / RUN / "model" / name) as one,
            np.load(whole / RUN / "model" / name) as other,
        ):
            assert all(np.array_equal(one[key], other[key]) for key in other)
    assert not list((killed / "store/unfinished").glob("*"))
