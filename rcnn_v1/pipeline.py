"""R-CNN, stage by stage (paper, figure 1 and section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rcnn_v1 import detector
from rcnn_v1.box_regression import train_box_regressors
from rcnn_v1.config import Config, DetectionConfig, FeaturesConfig
from rcnn_v1.detector import Description, load
from rcnn_v1.features import cache_features
from rcnn_v1.fine_tune import fine_tune
from rcnn_v1.pictures import draw_pictures
from rcnn_v1.svm import train_svms
from stages.backbones.config import Name
from stages.backbones.networks import crop_size
from stages.backbones.weights import Weights, build_backbone, find_weights
from stages.data.load import load_data
from stages.data.records import Dataset, Record
from stages.detect import Detection, detect_split
from stages.errors import expand
from stages.evaluation.stage import evaluate_detections
from stages.proposals.cache import Proposals
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.proposals.stage import ProposalFile, import_proposals, search_selectively
from stages.store import Artifact, Job, Store, stage


@dataclass(frozen=True)
class Finished:
    """The artifacts a finished run is reported from."""

    data: Dataset
    proposals: Artifact
    training: tuple[Artifact, ...]  # what train time is the sum of
    model: Artifact
    detections: Artifact
    evaluation: Artifact
    pictures: Artifact


def run(config: Config, store: Store) -> Finished:
    """Every stage of R-CNN, those already done found in the store."""
    name, top, context = config.backbone.name, config.top, config.context
    data = load_data(config.data, store)
    if config.proposals_file is None:
        proposals = store.run(search_selectively, data, config.proposals)
    else:
        proposals = store.run(
            import_proposals, data, ProposalFile.at(expand(config.proposals_file))
        )
    weights = find_weights(config.backbone, store)

    training: list[Artifact] = []
    tuned: Weights | None = None
    if config.fine_tune.sgd.iterations:
        training.append(
            store.run(fine_tune, data, proposals, weights, name, top, context, config.fine_tune)
        )
        tuned = Weights(training[0].path / "weights.pt", training[0].fingerprint)
    features = store.run(
        cache_features, data, proposals, weights, tuned, name, top, context, config.features
    )
    svms = store.run(train_svms, data, proposals, features, top, config.svms)
    regressors = store.run(
        train_box_regressors,
        data,
        proposals,
        weights,
        tuned,
        name,
        top,
        context,
        config.box_regression,
    )
    training += [features, svms, regressors]

    model = store.run(
        assemble,
        data.classes,
        tuned or weights,
        svms,
        regressors,
        name,
        top,
        context,
        config.features,
        config.proposals,
        config.detection,
    )
    detections = store.run(detect, data, proposals, model)
    evaluation = store.run(evaluate_detections, data, detections)
    pictures = store.run(draw_pictures, data, proposals, detections, crop_size(name), context)
    return Finished(data, proposals, tuple(training), model, detections, evaluation, pictures)


@stage(version=1)
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
        "rcnn", name, classes, features.layer, context, features.dtype, top, proposals, detection
    )
    with np.load(svms.path / "svms.npz") as s, np.load(regressors.path / "regressors.npz") as r:
        parts = dict(s), dict(r)
    state = build_backbone(name, weights).state_dict()
    detector.save(job.folder, description, state, *parts)


@stage(version=1)
def detect(job: Job, data: Dataset, proposals: Artifact, model: Artifact) -> None:
    """Detect in the test split, with the proposals that are cached.

    Writes `detections.json` and, the same without box regression, `unregressed.json`.
    """
    rcnn = load(model.path, job.device)
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
