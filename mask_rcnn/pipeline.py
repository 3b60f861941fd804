"""Mask R-CNN, stage by stage (paper, figure 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fast_rcnn.config import ScaleConfig
from faster_rcnn.config import ProposalConfig, RPNConfig
from faster_rcnn.loss import settle
from faster_rcnn.propose import propose_split
from mask_rcnn.config import Config, MaskDetectionConfig, NetworkConfig
from mask_rcnn.detector import Description, load, save
from mask_rcnn.network import layout_of
from mask_rcnn.pictures import draw_pictures
from mask_rcnn.rle import encode
from mask_rcnn.train import train_network
from stages.backbones.config import Name
from stages.backbones.weights import find_weights, load_state
from stages.data.difficult import training_split
from stages.data.load import load_data
from stages.data.records import Dataset, Record
from stages.detect import Detection, detect_split
from stages.errors import InputError
from stages.evaluation.stage import evaluate_detections
from stages.report import metrics_of, result_line, stage_table
from stages.store import Artifact, Job, Store, stage
from stages.training.image_batches import check_step


@dataclass(frozen=True)
class Trained:
    """What training and testing made.

    Attributes:
        trained: the weights; model: the finished detector.
        detections: boxes with their masks.
    """

    data: Dataset
    trained: Artifact
    model: Artifact
    detections: Artifact
    evaluation: Artifact


@dataclass(frozen=True)
class Finished(Trained):
    """The artifacts a finished run is reported from.

    Attributes:
        proposals: the RPN's, of the test split.
    """

    proposals: Artifact
    pictures: Artifact


def run(config: Config, store: Store) -> Finished:
    """Every stage of Mask R-CNN, those already done found in the store."""
    done = train_and_test(config, store)
    proposals = store.run(propose, done.data, done.model)
    pictures = store.run(draw_pictures, done.data, proposals, done.model, done.detections)
    return Finished(**vars(done), proposals=proposals, pictures=pictures)


def train_and_test(config: Config, store: Store) -> Trained:
    """From images to the evaluated detections of the test split.

    Raises:
        InputError: several scales at test, or nothing but boxes to learn; or as the stages.
    """
    if len(config.scale.test) != 1:
        raise InputError("scale.test: Mask R-CNN sees an image at one size")
    if config.train.train.learn == "boxes":
        raise InputError("learn boxes: is Fast R-CNN's stage-wise training, not Mask R-CNN's")
    layout_of(config.backbone.name, config.network, config.rpn)  # before anything is made for it
    training, _ = proposals_of(config)
    check_step(config.train.sampling.images, store.ranks)
    data = load_data(config.data, store)
    trained = store.run(
        train_network,
        training_split(data, config.difficult),
        find_weights(config.backbone, store),
        config.backbone.name,
        config.scale.train,
        config.scale.longest,
        config.network,
        settle(config.rpn, "joint"),
        config.loss,
        dataclasses.replace(config.train, proposals=training),
    )
    model = assemble_from(config, data, trained, store)
    detections = store.run(detect, data, model)
    evaluation = store.run(evaluate_detections, data, detections)
    return Trained(data, trained, model, detections, evaluation)


def assemble_from(config: Config, data: Dataset, trained: Artifact, store: Store) -> Artifact:
    """The finished detector; `config` may ask it to look otherwise than in training."""
    return store.run(
        assemble,
        data.classes,
        trained,
        config.backbone.name,
        config.scale,
        config.network,
        settle(config.rpn, "joint"),
        proposals_of(config)[1],
        config.detection,
    )


def proposals_of(config: Config) -> tuple[ProposalConfig, ProposalConfig]:
    """In training and at test, with as many candidates before NMS as the maps call for."""
    training, test = config.train.proposals, config.proposals
    if config.network.features == "fpn":
        return training, test
    return (
        dataclasses.replace(training, before=config.one_map.train),
        dataclasses.replace(test, before=config.one_map.test),
    )


@stage(version=1)
def assemble(
    job: Job,
    classes: tuple[str, ...],
    trained: Artifact,
    name: Name,
    scale: ScaleConfig,
    network: NetworkConfig,
    rpn: RPNConfig,
    proposals: ProposalConfig,
    detection: MaskDetectionConfig,
) -> None:
    """Put the weights and what to do with them into one folder that `load` reads."""
    description = Description("mask", name, classes, scale, network, rpn, proposals, detection)
    save(job.folder, description, load_state(trained.path / "weights.pt"))


@stage(version=2, together=True)
def propose(job: Job, data: Dataset, model: Artifact) -> None:
    """The RPN's proposals in the test split. Writes what `search_selectively` writes."""
    propose_split(job, data, load(model.path, job.device), "test")


@stage(version=3, together=True)
def detect(job: Job, data: Dataset, model: Artifact) -> None:
    """Detect in the test split. Writes `detections.json`, each with its mask as run lengths."""
    mask_rcnn = load(model.path, job.device)

    def detect_one(image: Tensor, record: Record) -> dict[str, Detection]:
        (found,) = mask_rcnn([image])
        of_boxes = {key: found[key] for key in ("boxes", "labels", "scores")}
        if "masks" not in found:
            return {"detections": of_boxes}
        return {"detections": {**of_boxes, "segmentation": encode(found["masks"])}}

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
        "mask",
        config.backbone.name,
        finished.data,
        {"result": finished.evaluation.path / "detections.json"},
        detections,
        finished.proposals,
        (finished.trained, finished.model),
        used,
    )
    result = metrics["result"]
    lines = [stage_table(metrics["stages"]), result_line("boxes", result)]
    if "masks" in result:
        lines.append(result_line("masks", {**result["masks"], "images": result["images"]}))
    files = {
        "detections.json": detections,
        "model": finished.model.path,
        **{path.name: path for path in finished.pictures.path.glob("*.png")},
    }
    return metrics, "\n".join(lines), files
