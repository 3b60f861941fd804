"""Fast R-CNN, stage by stage (paper, figure 1 and section 2): after the proposals, one training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from fast_rcnn.config import Config, DetectionConfig, ScaleConfig, SVDConfig
from fast_rcnn.detector import Description, build, load, read_description, save
from fast_rcnn.pictures import draw_pictures
from fast_rcnn.svd import check_ranks, compress, split
from fast_rcnn.train import train_detector
from stages.backbones.config import Name
from stages.backbones.weights import Weights, fill, find_weights, load_state
from stages.data.difficult import training_split
from stages.data.load import load_data
from stages.data.records import Dataset, Record, TrainingData
from stages.detect import Detection, detect_split
from stages.evaluation.stage import evaluate_detections
from stages.proposals.cache import Proposals
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.proposals.stage import find_proposals
from stages.store import Artifact, Job, Store, stage
from stages.training.image_batches import check_step


@dataclass(frozen=True)
class Trained:
    """What training and testing made."""

    data: Dataset
    proposals: Artifact
    trained: Artifact
    training: tuple[Artifact, ...]  # what train time is the sum of
    model: Artifact
    detections: Artifact
    evaluation: Artifact


@dataclass(frozen=True)
class Finished(Trained):
    """The artifacts a finished run is reported from."""

    pictures: Artifact


def run(config: Config, store: Store) -> Finished:
    """Every stage of Fast R-CNN, those already done found in the store."""
    done = train_and_test(config, store)
    pictures = store.run(
        draw_pictures, done.data, done.proposals, done.model, done.detections, config.top
    )
    return Finished(**vars(done), pictures=pictures)


def train_and_test(config: Config, store: Store) -> Trained:
    """From images to the evaluated detections of the test split."""
    name, svd = config.backbone.name, config.svd
    check_ranks(name, svd)  # before anything is trained
    check_step(config.sampling.images, store.ranks)
    data = load_data(config.data, store)
    training_split(data, config.difficult)  # faults of the data are found first
    weights = find_weights(config.backbone, store)  # a file that does not fit costs no search
    found = find_proposals(config.proposals, config.proposals_file, data, store)
    proposals = found.all
    trained = train_on(config, data, found.train, store, weights=weights)
    model = assemble_from(config, data, trained, store)
    training = [trained, model]
    if svd != SVDConfig():
        model = store.run(decompose, model, svd)
        training.append(model)
    detections = store.run(detect, data, proposals, model)
    evaluation = store.run(evaluate_detections, data, detections)
    return Trained(data, proposals, trained, tuple(training), model, detections, evaluation)


def train_on(
    config: Config,
    data: TrainingData,
    proposals: Artifact,
    store: Store,
    start: Artifact | None = None,
    weights: Weights | None = None,
) -> Artifact:
    """The training; `start`: see `train_detector`; `weights` None: those that `config` names."""
    return store.run(
        train_detector,
        training_split(data, config.difficult),
        proposals,
        weights or find_weights(config.backbone, store),
        config.backbone.name,
        config.top,
        config.scale.train,
        config.scale.longest,
        config.sampling,
        config.loss,
        config.train,
        start,
    )


def assemble_from(config: Config, data: Dataset, trained: Artifact, store: Store) -> Artifact:
    """The finished detector; `config` may ask it to look otherwise than in training."""
    return store.run(
        assemble,
        data.classes,
        trained,
        config.backbone.name,
        config.top,
        config.proposals,
        config.scale,
        config.detection,
    )


@stage(version=2)
def assemble(
    job: Job,
    classes: tuple[str, ...],
    trained: Artifact,
    name: Name,
    top: int | None,
    proposals: SelectiveSearchConfig,
    scale: ScaleConfig,
    detection: DetectionConfig,
) -> None:
    """Put weights and what to do with them into one folder that `fast_rcnn.detector.load` reads.

    Args:
        top, proposals: of selective search, for photographs the detector will be shown.
    """
    description = Description("fast", name, classes, top, proposals, scale, detection)
    save(job.folder, description, load_state(trained.path / "weights.pt"))


@stage(version=2)
def decompose(job: Job, model: Artifact, config: SVDConfig) -> None:
    """Truncated SVD of a finished model's fully connected layers, without training (section 3.1)."""
    description = read_description(model.path / "model.json")
    whole = build(description)
    weights = model.path / "weights.pt"
    fill(whole, load_state(weights), weights)
    compress(whole.backbone, config, split)
    described = dataclasses.replace(description, svd=config)
    save(job.folder, described, whole.state_dict())


@stage(version=3, together=True)
def detect(job: Job, data: Dataset, proposals: Artifact, model: Artifact) -> None:
    """Detect in the test split, with the proposals that are cached.

    Writes `detections.json` and, the RoIs' own boxes with the same scores, `unregressed.json`.
    """
    fast = load(model.path, job.device)
    reader = Proposals(proposals.path / "proposals.h5")

    def detect_one(image: Tensor, record: Record) -> dict[str, Detection]:
        boxes = torch.from_numpy(reader.of(record, fast.top))
        scores, moved = fast.score(image, boxes)
        still = boxes.to(moved.device)[:, None].expand_as(moved)
        return {
            "detections": fast.suppress(scores, moved),
            "unregressed": fast.suppress(scores, still),
        }

    detect_split(job, data, detect_one)
