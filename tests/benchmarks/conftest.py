"""A finished `micro` run; finished runs made by hand, of detectors that find what they are told to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks import detectors
from rcnn_v1.command import command as rcnn
from stages.data.load import DataConfig
from stages.errors import InputError
from stages.store import describe

CLASSES = ("cat", "dog", "never")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    rcnn(["--preset", "micro", "--runs", str(folder), "--device", "cpu", "--workers", "0"])
    return folder


def noise(path: Path, width: int = 120, height: int = 90) -> Path:
    """A photograph of nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((width, height)).save(path)
    return path


class Told:
    """A detector that finds a cat and two dogs in every image, the less sure first; counts its calls."""

    boxes = torch.tensor([[1.0, 2.0, 30.5, 40.0], [5.0, 6.0, 70.0, 80.0], [0.0, 0.0, 9.0, 9.0]])
    labels = torch.tensor([2, 1, 2])
    scores = torch.tensor([0.5, 0.75, -1.0])

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        self.sizes += [tuple(image.shape) for image in images]
        return [{"boxes": self.boxes, "labels": self.labels, "scores": self.scores} for _ in images]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Told]:
    """Stands in for Fast and Faster R-CNN: by the run's name, those that have been loaded."""
    loaded: dict[str, Told] = {}

    def load(folder: Path, device: str) -> Told:
        if not folder.is_dir():
            raise InputError(f"{folder}: damaged")
        return loaded.setdefault(folder.parent.name, Told())

    for paper in ("fast", "faster"):
        monkeypatch.setitem(detectors.LOADERS, paper, load)
    return loaded


@pytest.fixture
def finish(tmp_path: Path) -> Callable[..., Path]:
    """Leaves a finished run in `tmp_path / "runs"`, each a minute after the one before."""
    minutes = iter(range(1, 1000))

    def made(folder: str, name: str, **more: Any) -> Path:
        path = tmp_path / "runs" / folder / name
        (path / "model").mkdir(parents=True)
        paper, _, tag = name.partition("-")
        data, preset, backbone = folder.split("-")
        metrics = {
            "paper": paper,
            "tag": tag,
            "data": data,
            "data_fingerprint": "",
            "config": {"data": describe(DataConfig(data))},
            "preset": preset,
            "backbone": backbone,
            "classes": CLASSES,
            "usual_scores": {"cat": 0.7, "dog": 0.5},  # of "never" none
            **more,
        }
        (path / "metrics.json").write_text(json.dumps(metrics))
        os.utime(path / "metrics.json", (60 * next(minutes),) * 2)
        return path

    return made
