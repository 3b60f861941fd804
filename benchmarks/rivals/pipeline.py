"""torchvision's detectors, stage by stage: trained, tested and reported as our own papers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.rivals.config import TITLES, Config, Kind, Stride, check, sides_of, stride_of
from benchmarks.rivals.detector import PAPERS, Description, load, save
from benchmarks.rivals.train import train_torchvision
from mask_rcnn.rle import encode
from stages.backbones.weights import find_weights, load_state
from stages.data.difficult import training_split
from stages.data.load import load_data
from stages.data.records import Dataset, Record
from stages.detect import Detection, detect_split
from stages.device import DType
from stages.evaluation.stage import evaluate_detections
from stages.report import metrics_of, result_line, stage_table
from stages.store import Artifact, Job, Store, stage


@dataclass(frozen=True)
class Finished:
    """What training and testing made."""

    data: Dataset
    trained: Artifact
    model: Artifact
    detections: Artifact
    evaluation: Artifact


def run(config: Config, store: Store) -> Finished:
    """Every stage, those already done found in the store.

    Raises:
        InputError: as `check`, and as the stages.
    """
    check(config)
    data = load_data(config.data, store)
    (shorter, longest), finest_stride = sides_of(config), stride_of(config)
    trained = store.run(
        train_torchvision,
        training_split(data, config.difficult),
        config.kind,
        find_weights(config.backbone, store),
        shorter,
        longest,
        finest_stride,
        config.trainable_layers,
        config.images,
        config.mirror,
        config.sgd,
        config.new_layer_factor,
        config.clip_norm,
    )
    model = store.run(
        assemble,
        config.kind,
        data.classes,
        trained,
        shorter,
        longest,
        finest_stride,
        config.dtype,
    )
    detections = store.run(detect, data, model)
    evaluation = store.run(evaluate_detections, data, detections)
    return Finished(data, trained, model, detections, evaluation)


@stage(version=2)
def assemble(
    job: Job,
    kind: Kind,
    classes: tuple[str, ...],
    trained: Artifact,
    shorter: int,
    longest: int,
    finest_stride: Stride,
    dtype: DType,
) -> None:
    """Put weights and what to do with them into one folder that `load` reads."""
    description = Description(PAPERS[kind], tuple(classes), shorter, longest, finest_stride, dtype)
    save(job.folder, description, load_state(trained.path / "weights.pt"))


@stage(version=2)
def detect(job: Job, data: Dataset, model: Artifact) -> None:
    """Detect in the test split. Writes `detections.json`."""
    detector = load(model.path, job.device)

    def detect_one(image: Tensor, _: Record) -> dict[str, Detection]:
        found: dict[str, Any] = detector([image])[0]
        if "masks" in found:
            found["segmentation"] = encode(found.pop("masks"))
        return {"detections": found}

    detect_split(job, data, detect_one)


def report(
    config: Config, finished: Finished, used: Sequence[Artifact]
) -> tuple[dict[str, Any], str, dict[str, Path]]:
    """`metrics.json`'s content, its summary as text, and files to copy, by name.

    Args:
        used: see `metrics_of`.
    """
    detections = finished.detections.path / "detections.json"
    metrics = metrics_of(
        PAPERS[config.kind],
        config.backbone.name,
        finished.data,
        {"result": finished.evaluation.path / "detections.json"},
        detections,
        None,
        (finished.trained, finished.model),
        used,
    )
    result = metrics["result"]
    what = f"{TITLES[config.kind]}{', boxes' if config.kind == 'mask' else ''}"
    lines = [stage_table(metrics["stages"]), result_line(what, result)]
    if "masks" in result:
        lines.append(result_line("masks", {**result["masks"], "images": result["images"]}))
    files = {"detections.json": detections, "model": finished.model.path}
    return metrics, "\n".join(lines), files
