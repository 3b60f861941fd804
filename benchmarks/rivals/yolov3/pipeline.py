"""YOLOv3, stage by stage: trained, tested and reported as our own papers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.rivals.yolov3.config import Config, check
from benchmarks.rivals.yolov3.detector import YOLOV3, Description, load, save
from benchmarks.rivals.yolov3.train import find_priors, read_priors, train_yolov3
from fast_rcnn.config import DetectionConfig, ScaleConfig
from stages.backbones.config import Name
from stages.backbones.weights import find_weights, load_state
from stages.data.difficult import training_split
from stages.data.load import load_data
from stages.data.records import Dataset, Record
from stages.detect import Detection, detect_split
from stages.evaluation.stage import evaluate_detections
from stages.report import metrics_of, result_line, stage_table
from stages.store import Artifact, Job, Store, stage


@dataclass(frozen=True)
class Finished:
    """What training and testing made."""

    data: Dataset
    priors: Artifact
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
    learnt = training_split(data, config.difficult)
    scale = config.scale
    priors = store.run(find_priors, learnt, *scale.test, scale.longest)
    trained = store.run(
        train_yolov3,
        learnt,
        find_weights(config.backbone, store),
        config.backbone.name,
        priors,
        config.width,
        scale.train,
        scale.longest,
        config.images,
        config.jitter,
        config.loss,
        config.train,
        config.clip_norm,
    )
    model = store.run(
        assemble,
        data.classes,
        priors,
        trained,
        config.backbone.name,
        config.width,
        scale,
        config.detection,
    )
    detections = store.run(detect, data, model)
    evaluation = store.run(evaluate_detections, data, detections)
    return Finished(data, priors, trained, model, detections, evaluation)


@stage(version=1)
def assemble(
    job: Job,
    classes: tuple[str, ...],
    priors: Artifact,
    trained: Artifact,
    name: Name,
    width: int,
    scale: ScaleConfig,
    detection: DetectionConfig,
) -> None:
    """Put weights, priors and what to do with them into one folder that `load` reads."""
    description = Description(
        YOLOV3, name, tuple(classes), read_priors(priors), width, scale, detection
    )
    save(job.folder, description, load_state(trained.path / "weights.pt"))


@stage(version=1)
def detect(job: Job, data: Dataset, model: Artifact) -> None:
    """Detect in the test split. Writes `detections.json`."""
    yolo = load(model.path, job.device)

    def detect_one(image: Tensor, _: Record) -> dict[str, Detection]:
        return {"detections": yolo([image])[0]}

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
        YOLOV3,
        config.backbone.name,
        finished.data,
        {"result": finished.evaluation.path / "detections.json"},
        detections,
        None,
        (finished.priors, finished.trained, finished.model),
        used,
    )
    summary = f"{stage_table(metrics['stages'])}\n{result_line('YOLOv3', metrics['result'])}"
    return metrics, summary, {"detections.json": detections, "model": finished.model.path}
