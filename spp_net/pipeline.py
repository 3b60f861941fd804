"""SPPnet, stage by stage (paper, section 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from rcnn_v1 import detector
from rcnn_v1.box_regression import fit_regressors
from rcnn_v1.config import BoxRegressionConfig, DetectionConfig, FeaturesConfig
from rcnn_v1.features import write_features
from rcnn_v1.pipeline import detect_both_ways, feature_layer, read_trained
from rcnn_v1.svm import train_svms
from spp_net.config import Config, PyramidConfig
from spp_net.detector import Description, load
from spp_net.fine_tune import fine_tune
from spp_net.maps import MapCache, cache_maps, cache_mirrored_maps
from spp_net.network import PyramidNetwork, add_pyramid, check_backbone
from spp_net.pictures import draw_pictures
from stages.backbones.config import Name
from stages.backbones.weights import find_weights, load_state
from stages.data.difficult import training_split
from stages.data.load import load_data
from stages.data.parts import TrainingSplit
from stages.data.records import Dataset, TrainingData
from stages.evaluation.stage import evaluate_detections
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.proposals.stage import find_proposals
from stages.store import Artifact, Job, Store, stage
from stages.training.image_batches import check_step


@dataclass(frozen=True)
class Trained:
    """What training and testing made."""

    data: Dataset
    proposals: Artifact
    maps: tuple[Artifact, ...]  # a scale each
    training: tuple[Artifact, ...]  # what train time is the sum of
    model: Artifact
    detections: Artifact
    evaluation: Artifact


@dataclass(frozen=True)
class Finished(Trained):
    """The artifacts a finished run is reported from."""

    pictures: Artifact


def run(config: Config, store: Store) -> Finished:
    """Every stage of SPPnet, those already done found in the store."""
    done = train_and_test(config, store)
    pictures = store.run(
        draw_pictures, done.data, done.proposals, done.model, done.detections, config.top
    )
    return Finished(**vars(done), pictures=pictures)


def train_and_test(config: Config, store: Store) -> Trained:
    """From images to the evaluated detections of the test split."""
    name, top, pyramid = config.backbone.name, config.top, config.pyramid
    check_backbone(name)
    take = dataclasses.replace(config.features, layer=feature_layer(name, config.features.layer))
    tune = config.fine_tune
    if tune.sgd.iterations:
        check_step(tune.positives + tune.backgrounds, store.ranks, "windows")  # before any search
    data = load_data(config.data, store)
    learnt = training_split(data, config.difficult)  # faults of the data are found first
    weights = find_weights(config.backbone, store)  # a file that does not fit costs no search
    found = find_proposals(config.proposals, config.proposals_file, data, store)
    proposals = found.train

    # One pass over every image at each scale; all that follows reads its maps.
    maps = tuple(
        store.run(
            cache_maps, TrainingSplit(data), weights, name, scale, pyramid.longest, take.dtype
        )
        for scale in pyramid.scales
    )
    untuned = network = store.run(add_pyramid, weights, name, pyramid.levels)
    training = [*maps, network]
    windows = (learnt, proposals, maps)
    if tune.sgd.iterations:
        mirrored = tuple(
            store.run(
                cache_mirrored_maps,
                TrainingSplit(data),
                weights,
                name,
                scale,
                pyramid.longest,
                take.dtype,
            )
            for scale in (pyramid.scales if tune.mirror else ())
        )
        network = store.run(fine_tune, *windows, mirrored, untuned, name, top, pyramid.levels, tune)
        training += [*mirrored, network]
    features = store.run(cache_features, *windows, network, name, top, pyramid, take)
    svms = store.run(train_svms, learnt, proposals, features, top, config.svms)
    # Of the pyramid, which fine-tuning leaves as it is: of the untuned network, the same for both.
    regressors = store.run(
        train_box_regressors, *windows, untuned, name, top, pyramid, config.box_regression
    )
    training += [features, svms, regressors]

    model = store.run(
        assemble,
        data.classes,
        network,
        svms,
        regressors,
        name,
        top,
        pyramid,
        take,
        config.proposals,
        config.detection,
    )
    detections = store.run(detect, data, found.all, model)
    evaluation = store.run(evaluate_detections, data, detections)
    return Trained(data, found.all, maps, tuple(training), model, detections, evaluation)


@stage(version=1, together=True)
def cache_features(
    job: Job,
    data: TrainingData,
    proposals: Artifact,
    maps: Sequence[Artifact],
    network: Artifact,
    name: Name,
    top: int | None,
    pyramid: PyramidConfig,
    config: FeaturesConfig,
) -> None:
    """Features of every window of the training split, as R-CNN's but from the cached maps."""
    file = network.path / "weights.pt"
    extractor = PyramidNetwork.load(name, file, job.device, config.dtype, pyramid, config.batch)
    look = MapCache(maps, data.train).of
    write_features(job, data.train, proposals, top, extractor, config.layer, look)


@stage(version=2)
def train_box_regressors(
    job: Job,
    data: TrainingData,
    proposals: Artifact,
    maps: Sequence[Artifact],
    network: Artifact,
    name: Name,
    top: int | None,
    pyramid: PyramidConfig,
    config: BoxRegressionConfig,
) -> None:
    """Fit every class's regressor to the pyramids of its windows, as R-CNN's to pool5."""
    file = network.path / "weights.pt"
    extractor = PyramidNetwork.load(name, file, job.device, config.dtype, pyramid, config.batch)
    fit_regressors(job, data, proposals, top, extractor, config, MapCache(maps, data.train).of)


@stage(version=1)
def assemble(
    job: Job,
    classes: tuple[str, ...],
    network: Artifact,
    svms: Artifact,
    regressors: Artifact,
    name: Name,
    top: int | None,
    pyramid: PyramidConfig,
    features: FeaturesConfig,
    proposals: SelectiveSearchConfig,
    detection: DetectionConfig,
) -> None:
    """Put the trained parts together into one folder that `spp_net.detector.load` reads."""
    description = Description(
        "spp",
        name,
        classes,
        features.layer,
        features.dtype,
        top,
        proposals,
        detection,
        pyramid=pyramid,
    )
    state = load_state(network.path / "weights.pt")
    detector.save(job.folder, description, state, *read_trained(svms, regressors))


@stage(version=2, together=True)
def detect(job: Job, data: Dataset, proposals: Artifact, model: Artifact) -> None:
    """Detect in the test split, with the proposals that are cached.

    Writes `detections.json` and, the same without box regression, `unregressed.json`.
    """
    detect_both_ways(job, data, proposals, load(model.path, job.device))
