"""4-step alternating training: two networks that come to share their convolutions (section 3.2)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from fast_rcnn.train import train_detector
from faster_rcnn.config import Config
from faster_rcnn.loss import settle
from faster_rcnn.propose import propose_with
from faster_rcnn.train import train_rpn
from stages.backbones.weights import Weights
from stages.data.records import TrainingData
from stages.store import Artifact, Store


@dataclass(frozen=True)
class Steps:
    """What the four steps leave. The convolutions of the last three are the same.

    Attributes:
        rpn, detector: of steps 1 and 2, each with convolutions of its own.
        shared_rpn, shared_detector: of steps 3 and 4.
        proposals, shared_proposals: for steps 2 and 4, of the training split.
    """

    rpn: Artifact
    proposals: Artifact
    detector: Artifact
    shared_rpn: Artifact
    shared_proposals: Artifact
    shared_detector: Artifact

    @property
    def all(self) -> tuple[Artifact, ...]:
        """In the order they are made."""
        return tuple(vars(self).values())


def alternate(config: Config, data: TrainingData, weights: Weights, store: Store) -> Steps:
    """The four steps.

    Args:
        data: what to learn from.
        weights: the backbone's, pre-trained on ImageNet.
    """
    rpn, proposals, detector = first_steps(config, data, weights, store)
    # 3. The RPN's own layers over the detector's convolutions, which stay as they are.
    shared_rpn = _train_rpn(config, data, weights, store, detector)
    # 4. The detector's own layers, over the same convolutions, on step 3's proposals.
    limits = config.alternating.proposals
    shared_proposals = propose_with(config, data, shared_rpn, limits, "train", store)
    shared = _train_detector(config, data, weights, shared_proposals, store, detector)
    return Steps(rpn, proposals, detector, shared_rpn, shared_proposals, shared)


def first_steps(
    config: Config, data: TrainingData, weights: Weights, store: Store
) -> tuple[Artifact, Artifact, Artifact]:
    """Steps 1 and 2: two networks that share nothing yet. The RPN, its proposals, the detector."""
    # 1. The RPN, from ImageNet.
    rpn = _train_rpn(config, data, weights, store, None)
    # 2. Fast R-CNN, from ImageNet, on step 1's proposals.
    proposals = propose_with(config, data, rpn, config.alternating.proposals, "train", store)
    return rpn, proposals, _train_detector(config, data, weights, proposals, store, None)


def _train_rpn(
    config: Config, data: TrainingData, weights: Weights, store: Store, detector: Artifact | None
) -> Artifact:
    return store.run(
        train_rpn,
        data,
        weights,
        config.backbone.name,
        config.scale.train,
        config.scale.longest,
        settle(config.rpn, "alternating"),
        config.alternating.rpn_images,
        config.alternating.rpn,
        detector,
    )


def _train_detector(
    config: Config,
    data: TrainingData,
    weights: Weights,
    proposals: Artifact,
    store: Store,
    start: Artifact | None,
) -> Artifact:
    own = config.alternating.detector
    return store.run(
        train_detector,
        data,
        proposals,
        weights,
        config.backbone.name,
        None,
        config.scale.train,
        config.scale.longest,
        config.alternating.sampling,
        config.loss,
        own if start is None else dataclasses.replace(own, learn="head"),
        start,
        start is not None,
    )
