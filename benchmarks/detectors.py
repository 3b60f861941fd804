"""The finished detectors under a folder of runs, whatever paper they are of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rivals import detector as torchvision
from benchmarks.rivals.yolov3 import detector as yolov3
from fast_rcnn import detector as fast
from faster_rcnn import detector as faster
from mask_rcnn import detector as mask
from rcnn_v1 import detector as rcnn
from spp_net import detector as spp
from stages.data.load import DataConfig, load_data
from stages.data.records import Dataset
from stages.data.shapes import ShapesConfig
from stages.errors import InputError, one_line
from stages.store import Store

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

    def detector(self, device: str) -> Any:
        """The model, ready to be called."""
        return LOADERS[self.metrics["paper"]](self.folder / "model", device)

    def data(self, store: Store) -> Dataset:
        """The data set it was trained and tested on.

        Raises:
            InputError: it is gone, or has changed since.
        """
        fields = {
            key: value for key, value in self.metrics["config"]["data"].items() if key != "is"
        }
        shapes = {key: value for key, value in fields.pop("shapes").items() if key != "is"}
        data = load_data(DataConfig(**fields, shapes=ShapesConfig(**shapes)), store)
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
            metrics = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable: {one_line(error)}") from None
        if metrics.get("paper") in LOADERS:
            found.append(Run(path.parent, metrics))
    if not found:
        raise InputError(f"{runs}: no finished run; `make rcnn` makes one")
    return found
