"""Fast R-CNN, stage by stage (paper, figure 1 and section 2): after the proposals, one training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from fast_rcnn.config import Config, SVDConfig
from fast_rcnn.detector import build, load, read_description, save
from fast_rcnn.pictures import draw_pictures
from fast_rcnn.svd import compress, split
from fast_rcnn.train import train_detector
from stages.backbones.weights import fill, find_weights, load_state
from stages.data.difficult import WithoutDifficult
from stages.data.load import load_data
from stages.data.records import Dataset, Record
from stages.detect import Detection, detect_split
from stages.errors import expand
from stages.evaluation.stage import evaluate_detections
from stages.proposals.cache import Proposals
from stages.proposals.stage import ProposalFile, import_proposals, search_selectively
from stages.store import Artifact, Job, Store, stage


@dataclass(frozen=True)
class Trained:
    """What training and testing made."""

    data: Dataset
    proposals: Artifact
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
    data = load_data(config.data, store)
    proposals = proposals_of(config, data, store)
    model = train_on(config, data, proposals, store)
    training = [model]
    if config.svd != SVDConfig():
        model = store.run(decompose, model, config.svd)
        training.append(model)
    detections = store.run(detect, data, proposals, model)
    evaluation = store.run(evaluate_detections, data, detections)
    return Trained(data, proposals, tuple(training), model, detections, evaluation)


def proposals_of(config: Config, data: Dataset, store: Store) -> Artifact:
    """Both splits' proposals: searched for, or from a file."""
    if config.proposals_file is None:
        return store.run(search_selectively, data, config.proposals)
    return store.run(import_proposals, data, ProposalFile.at(expand(config.proposals_file)))


def train_on(
    config: Config,
    data: Dataset,
    proposals: Artifact,
    store: Store,
    start: Artifact | None = None,
) -> Artifact:
    """The trained detector; `start`: see `train_detector`."""
    return store.run(
        train_detector,
        data if config.difficult else WithoutDifficult(data),
        proposals,
        find_weights(config.backbone, store),
        config.backbone.name,
        config.top,
        config.proposals,
        config.scale,
        config.sampling,
        config.loss,
        config.train,
        config.detection,
        start,
    )


@stage(version=1)
def decompose(job: Job, model: Artifact, config: SVDConfig) -> None:
    """Truncated SVD of a finished model's fully connected layers, without training (section 3.1)."""
    description = read_description(model.path / "model" / "model.json")
    whole = build(description)
    weights = model.path / "model" / "weights.pt"
    fill(whole, load_state(weights), weights)
    compress(whole.backbone, config, split)
    described = dataclasses.replace(description, svd=config)
    save(job.folder / "model", described, whole.state_dict())


@stage(version=1)
def test_otherwise(
    job: Job, model: Artifact, top: int | None, scales: tuple[int, ...], longest: int
) -> None:
    """A finished model that is to look at other scales, or at another number of proposals."""
    source = model.path / "model"
    description = read_description(source / "model.json")
    scale = dataclasses.replace(description.scale, test=tuple(scales), longest=longest)
    described = dataclasses.replace(description, top=top, scale=scale)
    save(job.folder / "model", described, load_state(source / "weights.pt"))


@stage(version=1)
def detect(job: Job, data: Dataset, proposals: Artifact, model: Artifact) -> None:
    """Detect in the test split, with the proposals that are cached.

    Writes `detections.json` and, the RoIs' own boxes with the same scores, `unregressed.json`.
    """
    fast = load(model.path / "model", job.device)
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
