"""The finished detectors under a folder of runs, whatever paper they are of."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.metrics import check_metrics
from benchmarks.rivals import detector as torchvision
from benchmarks.rivals.yolov3 import detector as yolov3
from fast_rcnn import detector as fast
from faster_rcnn import detector as faster
from mask_rcnn import detector as mask
from rcnn_v1 import detector as rcnn
from spp_net import detector as spp
from stages.data.load import DataConfig, load_data
from stages.data.records import Dataset
from stages.errors import InputError, check_regular, one_line
from stages.store import Store
from stages.typed_json import parse_typed

# How each paper's finished model is read; all answer `model(images)` and carry a `watch`.
LOADERS: dict[str, Callable[[Path, str], Any]] = {
    "rcnn": rcnn.load,
    "spp": spp.load,
    "fast": fast.load,
    "faster": faster.load,
    "mask": mask.load,
    **dict.fromkeys(torchvision.PAPERS.values(), torchvision.load),
    "yolov3": yolov3.load,
}


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its `metrics.json`."""

    folder: Path
    metrics: dict[str, Any]

    @property
    def name(self) -> str:
        """`<paper>[-<tag>]`."""
        return self.folder.name

    @property
    def finished(self) -> float:
        """When, in seconds since 1970: `metrics.json` is the last file that a run writes."""
        return (self.folder / "metrics.json").stat().st_mtime

    @property
    def dtype(self) -> str:
        """What it multiplies in as it detects, by its configuration."""
        config = self.metrics["config"]
        parts = (config, config.get("detection", {}), config.get("features", {}))
        return next((part["dtype"] for part in parts if "dtype" in part), "")

    def detector(self, device: str) -> Any:
        """The model, ready to be called."""
        return LOADERS[self.metrics["paper"]](self.folder / "model", device)

    def data(self, store: Store) -> Dataset:
        """The data set it was trained and tested on.

        Raises:
            InputError: it is gone, or has changed since.
        """
        path = self.folder / "metrics.json"
        text = json.dumps(self.metrics["config"]["data"]).encode()
        data = load_data(parse_typed(text, DataConfig, path, "a finished run"), store)
        if data.fingerprint != self.metrics["data_fingerprint"]:
            raise InputError(f"{self.folder}: its data set has changed since the run")
        return data


def find_runs(runs: Path) -> list[Run]:
    """Every finished run, sorted by folder.

    Raises:
        InputError: there is none, or one's metrics are unreadable.
    """
    found = []
    for path in sorted(runs.glob("*/*/metrics.json")):
        try:
            check_regular(path)
            text = path.read_bytes()
            metrics = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: not readable: {one_line(error)}") from None
        if not isinstance(metrics, dict):
            raise InputError(f"{path}: not readable: no JSON object")
        if isinstance(metrics.get("paper"), str) and metrics["paper"] not in LOADERS:
            continue  # of another program, or a later version
        check_metrics(text, path)
        found.append(Run(path.parent, metrics))
    if not found:
        raise InputError(f"{runs}: no finished run; `make rcnn` makes one")
    return found


def newest(runs: Sequence[Run]) -> Run:
    """The run that was finished last."""
    return max(runs, key=lambda run: (run.finished, run.folder))


def find_model(runs: Path, model: str) -> Run:
    """The newest finished run of a paper or a name, or exactly one.

    Args:
        model: a paper's short name; a run's, `<paper>-<tag>`; `<folder>/<run>`, exactly this one,
            with the runs' folder before it or not; "": the newest of all.

    Raises:
        InputError: there is no such run.
    """
    found = find_runs(runs)
    if not model:
        return newest(found)
    for run in found:
        if Path(model) in (Path(run.folder.parent.name, run.name), run.folder):
            return run
    named = [run for run in found if model in (run.metrics["paper"], run.name)]
    if named:
        return newest(named)
    there = ", ".join(f"{run.folder.parent.name}/{run.name}" for run in found)
    if model in LOADERS:
        raise InputError(
            f"MODEL={model}: no finished run of this paper in {runs}; there are {there}"
        )
    raise InputError(f"MODEL={model}: neither a paper nor a finished run; there are {there}")


def find_side_by_side(runs: Path, folder: str = "") -> list[Run]:
    """The newest finished run of each paper, trained on the same data with the same preset.

    Of several data sets and presets that with most papers, then that of the newest run.

    Args:
        folder: only runs in this folder of `runs`: `<data>-<preset>-<backbone>`; "": in any.

    Returns:
        a run a paper, as they followed each other, rivals last.

    Raises:
        InputError: there is none.
    """
    folder = Path(folder).name  # as typed, with the runs' folder before it or a slash behind
    groups: dict[tuple[str, str], dict[str, Run]] = defaultdict(dict)
    found = find_runs(runs)
    for run in sorted(found, key=lambda run: (run.finished, run.folder)):
        if folder in ("", run.folder.parent.name):
            metrics = run.metrics
            groups[metrics["data"], metrics["preset"]][metrics["paper"]] = run
    if not groups:
        there = ", ".join(sorted({run.folder.parent.name for run in found}))
        raise InputError(f"{runs / folder}: no finished run; there are some in {there}")
    group = max(
        groups.values(), key=lambda group: (len(group), newest(list(group.values())).finished)
    )
    return [group[paper] for paper in LOADERS if paper in group]
