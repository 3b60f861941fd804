"""R-CNN, stage by stage (paper, figure 1 and section 2)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rcnn_v1 import detector
from rcnn_v1.box_regression import train_box_regressors
from rcnn_v1.config import Config, DetectionConfig, FeaturesConfig
from rcnn_v1.detector import RCNN, Description, load
from rcnn_v1.features import cache_features
from rcnn_v1.fine_tune import fine_tune
from rcnn_v1.hard_negatives import find_hard_negatives
from rcnn_v1.pictures import draw_pictures
from rcnn_v1.svm import train_svms
from stages.backbones.config import Name
from stages.backbones.networks import crop_size, layers_of
from stages.backbones.weights import Weights, build_backbone, find_weights
from stages.data.load import load_data
from stages.data.parts import TrainingSplit
from stages.data.records import Dataset, Record
from stages.detect import Detection, detect_split
from stages.errors import InputError
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
    training: tuple[Artifact, ...]  # what train time is the sum of
    tuned: (
        Artifact | None
    )  # the fine-tuned network, the first of `training`; None without fine-tuning
    features: Artifact
    svms: Artifact
    model: Artifact
    detections: Artifact
    evaluation: Artifact


@dataclass(frozen=True)
class Finished(Trained):
    """The artifacts a finished run is reported from."""

    pictures: Artifact


def run(config: Config, store: Store) -> Finished:
    """Every stage of R-CNN, those already done found in the store."""
    done, top = train_and_test(config, store), config.top
    iou = config.svms.negative_iou
    hard = store.run(
        find_hard_negatives, done.data, done.proposals, done.features, done.svms, top, iou
    )
    side = crop_size(config.backbone.name)
    pictures = store.run(
        draw_pictures, done.data, done.proposals, hard, done.detections, side, config.context, top
    )
    return Finished(**vars(done), pictures=pictures)


def train_and_test(config: Config, store: Store) -> Trained:
    """From images to the evaluated detections of the test split: figure 1."""
    name, top, context = config.backbone.name, config.top, config.context
    take = dataclasses.replace(config.features, layer=feature_layer(name, config.features.layer))
    tune = config.fine_tune
    if tune.sgd.iterations:
        check_step(tune.positives + tune.backgrounds, store.ranks, "windows")  # before any search
    data = load_data(config.data, store)
    learnt = TrainingSplit(data)  # faults of the data are found first, before anything is made
    weights = find_weights(config.backbone, store)  # a file that does not fit costs no search
    found = find_proposals(config.proposals, config.proposals_file, data, store)
    proposals = found.train

    training: list[Artifact] = []
    tuned = None
    if tune.sgd.iterations:
        tuned = store.run(fine_tune, learnt, proposals, weights, name, top, context, tune)
        weights = Weights(tuned.path / "weights.pt", tuned.fingerprint)
        training.append(tuned)
    windows = (learnt, proposals, weights, name, top, context)
    features = store.run(cache_features, *windows, take)
    svms = store.run(train_svms, learnt, proposals, features, top, config.svms)
    regressors = store.run(train_box_regressors, *windows, config.box_regression)
    training += [features, svms, regressors]

    model = store.run(
        assemble,
        data.classes,
        weights,
        svms,
        regressors,
        name,
        top,
        context,
        take,
        config.proposals,
        config.detection,
    )
    detections = store.run(detect, data, found.all, model)
    evaluation = store.run(evaluate_detections, data, detections)
    return Trained(
        data, found.all, tuple(training), tuned, features, svms, model, detections, evaluation
    )


def feature_layer(name: Name, wanted: str) -> str:
    """The layer that features are taken from: `wanted`, or the last for `last`.

    Raises:
        InputError: the network has no such layer.
    """
    layers = layers_of(name)
    if wanted not in (*layers, "last"):
        raise InputError(f"{name} has no layer {wanted!r}, but {', '.join(layers)}")
    return layers[-1] if wanted == "last" else wanted


@stage(version=2)
def assemble(
    job: Job,
    classes: tuple[str, ...],
    weights: Weights,
    svms: Artifact,
    regressors: Artifact,
    name: Name,
    top: int | None,
    context: float,
    features: FeaturesConfig,
    proposals: SelectiveSearchConfig,
    detection: DetectionConfig,
) -> None:
    """Put the trained parts together into one folder that `rcnn_v1.detector.load` reads."""
    description = Description(
        "rcnn",
        name,
        classes,
        features.layer,
        features.dtype,
        top,
        proposals,
        detection,
        context=context,
    )
    state = build_backbone(name, weights).state_dict()
    detector.save(job.folder, description, state, *read_trained(svms, regressors))


def read_trained(
    svms: Artifact, regressors: Artifact
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What their stages left."""
    with np.load(svms.path / "svms.npz") as s, np.load(regressors.path / "regressors.npz") as r:
        return dict(s), dict(r)


@stage(version=4, together=True)
def detect(job: Job, data: Dataset, proposals: Artifact, model: Artifact) -> None:
    """Detect in the test split, with the proposals that are cached.

    Writes `detections.json` and, the same without box regression, `unregressed.json`.
    """
    detect_both_ways(job, data, proposals, load(model.path, job.device))


def detect_both_ways(job: Job, data: Dataset, proposals: Artifact, rcnn: RCNN) -> None:
    """`detect` by any detector of the kind, each image looked at once."""
    reader = Proposals(proposals.path / "proposals.h5")

    def detect_one(image: Tensor, record: Record) -> dict[str, Detection]:
        boxes = torch.from_numpy(reader.of(record, rcnn.description.top))
        scores, moved = rcnn.score(image, boxes)
        still = boxes[:, None].expand_as(moved).to(moved.device)
        return {
            "detections": rcnn.suppress(scores, moved),
            "unregressed": rcnn.suppress(scores, still),
        }

    detect_split(job, data, detect_one)
