"""Every notebook executed on `micro` runs of every paper."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import zmq
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellExecutionError

import fast_rcnn.pipeline
import faster_rcnn.pipeline
import mask_rcnn.pipeline
import rcnn_v1.pipeline
import spp_net.pipeline
from benchmarks.detectors import find_runs
from benchmarks.report.table import row_of
from fast_rcnn.command import command as fast
from faster_rcnn.command import command as faster
from mask_rcnn.command import command as mask
from notebooks.execute import execute, notebooks
from rcnn_v1.command import command as rcnn
from spp_net.command import command as spp
from stages.store import Job, stage

PAPERS: dict[Any, Callable[[Sequence[str]], None]] = {
    rcnn_v1.pipeline: rcnn,
    spp_net.pipeline: spp,
    fast_rcnn.pipeline: fast,
    faster_rcnn.pipeline: faster,
    mask_rcnn.pipeline: mask,
}
MICRO = ("--preset", "micro", "--device", "cpu", "--workers", "0")
TIMED = {
    "images_timed": 1,
    "seconds": 2.0,
    "seconds_q1": 1.9,
    "seconds_q3": 2.1,
    "seconds_without_proposals": 1.5,
    "part: convolutions": 1.0,
    "images_per_second": 0.5,
    "best_batch": 1,
    "peak_memory_mib": 500,
    "peak_cuda_mib": 0,
}
HERE = {"device": "a machine", "versions": {"torch": "2"}, "commit": "abc"}


@stage(version=1)
def no_pictures(job: Job, *inputs: Any) -> None:
    """In place of the runs' own, which take most of a `micro` run's time."""


@pytest.fixture(scope="module", autouse=True)
def no_threads_left() -> Iterator[None]:
    """ZeroMQ's go on drawing from C's rand(), which selective search must have alone."""
    yield
    for each in gc.get_objects():
        if isinstance(each, zmq.Context) and not each.closed:
            each.destroy(linger=0)


@pytest.fixture
def executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Every notebook by its name, with the outputs it has on `micro` runs, errors included."""
    runs = tmp_path / "runs"
    for pipeline, command in PAPERS.items():
        monkeypatch.setattr(pipeline, "draw_pictures", no_pictures)
        command([*MICRO, "--runs", str(runs)])
    table = pd.DataFrame([row_of(run, TIMED, HERE) for run in find_runs(runs)])
    (runs / "report").mkdir()
    table.to_csv(runs / "report" / "benchmark.csv", index=False)
    # One process for all, since each would load torch first; it forgets what the one before defined.
    kernel = AsyncKernelManager(transport_encryption="auto")
    found = {}
    try:
        for path in notebooks():
            notebook = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.outputs.clear()
            notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
            with contextlib.suppress(CellExecutionError):  # it is in the outputs
                execute(notebook, runs, "micro", kernel)
            found[path.stem] = notebook
    finally:
        run_sync(kernel.shutdown_kernel)(now=True)
    return found
