"""What the harness reads of a run's `metrics.json`, its types checked before anything is made of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stages.data.load import DataConfig
from stages.errors import InputError
from stages.evaluation.mistakes import KINDS
from stages.typed_json import parse_typed

WHAT = "a finished run"
Percent = float | None
Interval = tuple[Percent, Percent]


@dataclass(frozen=True)
class _COCO:
    AP: Percent = None


@dataclass(frozen=True)
class _Mistakes:
    all: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("objects", *KINDS), 0))


# Defaults stand for what a run need not have. `null` is none of them: it is refused.
@dataclass(frozen=True)
class _Accuracy:
    voc07_map: Percent
    voc07_interval: Interval
    area_map: Percent
    coco: _COCO
    coco_interval: Interval = (None, None)
    voc07_map_devkit: Percent = None


_NOTHING = _Accuracy(None, (None, None), None, _COCO())


@dataclass(frozen=True, kw_only=True)
class _Result(_Accuracy):
    images: int
    mistakes: _Mistakes = field(default_factory=_Mistakes)
    masks: _Accuracy = _NOTHING


_NO_RESULT = _Result(
    voc07_map=None, voc07_interval=(None, None), area_map=None, coco=_COCO(), images=0
)


@dataclass(frozen=True)
class _Recall:
    proposals: float | Literal["all"]
    found_on_average: float
    recall_50: float
    recall_70: float


@dataclass(frozen=True)
class _Proposals:
    test: tuple[_Recall, ...] = ()


@dataclass(frozen=True)
class _Stage:
    device: str
    stage: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class _Pyramid:
    scales: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Scale:
    test: tuple[float, ...] = ()


@dataclass(frozen=True)
class _SVD:
    fc6: int | None = None
    fc7: int | None = None


@dataclass(frozen=True)
class _Typed:
    dtype: str = ""


@dataclass(frozen=True)
class _Config:
    data: DataConfig
    dtype: str = ""
    detection: _Typed = _Typed()
    features: _Typed = _Typed()
    pyramid: _Pyramid = _Pyramid()
    scale: _Scale = _Scale()
    svd: _SVD = _SVD()


@dataclass(frozen=True)
class Metrics:
    """The part of `metrics.json` that every run has or may have; see `stages.report.metrics_of`."""

    paper: str
    data: str
    data_fingerprint: str
    preset: str
    backbone: str
    classes: tuple[str, ...]
    config: _Config
    tag: str = ""
    result: _Result = _NO_RESULT
    usual_scores: dict[str, float] = field(default_factory=dict)
    proposals: _Proposals = _Proposals()
    stages: tuple[_Stage, ...] = ()
    train_seconds: float = 0.0
    train_disk_mib: float = 0.0


def check_metrics(text: bytes, path: Path) -> Metrics:
    """The JSON in a run's `metrics.json`.

    Raises:
        InputError: naming the value that is missing or of another type.
    """
    try:
        metrics = parse_typed(text, Metrics, path, WHAT)
    except InputError as error:  # of a configuration that refuses its values
        named = error.line.startswith(f"{path}: ")
        raise InputError(error.line if named else f"{path}: not of {WHAT}: {error.line}") from None
    data = json.loads(text)["config"]["data"]
    if data.get("is") != "DataConfig" or "name" not in data:
        # Its defaults would have another data set drawn.
        raise InputError(f"{path}: not of {WHAT}: config.data says of no data set")
    if not metrics.classes:
        raise InputError(f"{path}: not of {WHAT}: no classes")
    if not {"objects", *KINDS} <= metrics.result.mistakes.all.keys():
        raise InputError(f"{path}: not of {WHAT}: result.mistakes.all: a kind is missing")
    return metrics
