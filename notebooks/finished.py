"""The finished run that a notebook looks into."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.detectors import Run
from stages.data.records import Dataset
from stages.errors import InputError
from stages.proposals.cache import Proposals
from stages.report import read_json
from stages.store import Store

# Where `make notebooks` says which runs it wants; without them the default run's, as `make` leaves it.
RUNS, PRESET = "RUNS", "PRESET"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class FinishedRun(Run):
    """A finished run with what it was made from and its stages left, on the CPU.

    Attributes:
        runs: the folder of all runs.
    """

    runs: Path

    @cached_property
    def dataset(self) -> Dataset:
        """The images it was trained and tested on."""
        return self.data(Store(self.runs / "store"))

    @cached_property
    def model(self) -> Any:
        """The finished detector."""
        return self.detector("cpu")

    @cached_property
    def proposals(self) -> Proposals:
        """Selective search's boxes of both splits."""
        return Proposals(self.stage("gather_proposals") / "proposals.h5")

    def stage(self, name: str) -> Path:
        """The folder that the (last) stage of that name left in the store.

        Raises:
            InputError: it is gone.
        """
        rows = [row for row in self.metrics["stages"] if row["stage"] == name]
        folder = self.runs / "store" / rows[-1]["artifact"]
        if not folder.is_dir():
            raise InputError(f"{folder}: is gone; make {self.metrics['paper']} makes it again")
        return folder


def open_run(paper: str, data: str = "shapes", backbone: str = "tiny") -> FinishedRun:
    """The run that `make <paper>` left, of the preset and under the folder that the environment names.

    Args:
        paper: rcnn, spp, fast, faster or mask, or one with its tag: "fast-svd".
        data, backbone: of your own, if it is another than the default's.

    Raises:
        InputError: there is none; says which command makes it.
    """
    runs, preset = runs_folder(), os.environ.get(PRESET, "small")
    folder = runs / f"{data}-{preset}-{backbone}" / paper
    if not (folder / "metrics.json").is_file():
        target = paper.partition("-")[0]
        raise InputError(f"{folder}: no finished run; make {target} makes it, in minutes")
    return FinishedRun(folder, read_json(folder / "metrics.json"), runs)


def runs_folder() -> Path:
    """The folder of all runs."""
    return Path(os.environ.get(RUNS, ROOT / "runs"))


def bench_table() -> pd.DataFrame:
    """What `make bench` measured of the runs: a row a detector, see `benchmarks.report.table.row_of`.

    Raises:
        InputError: it has not been run.
    """
    path = runs_folder() / "report" / "benchmark.csv"
    if not path.is_file():
        raise InputError(f"{path}: missing; make bench makes it")
    return pd.read_csv(path)
