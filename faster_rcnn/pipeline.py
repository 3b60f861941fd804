"""Faster R-CNN, stage by stage (paper, figure 2 and section 3.2): no proposals from outside."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fast_rcnn.config import DetectionConfig, ScaleConfig
from faster_rcnn.alternating import alternate
from faster_rcnn.config import Config, ProposalConfig, RPNConfig
from faster_rcnn.detector import Description, load, save
from faster_rcnn.loss import settle
from faster_rcnn.pictures import draw_pictures
from faster_rcnn.propose import propose_with
from faster_rcnn.train import RPN_LAYERS, TRUNK, train_jointly
from stages.backbones.config import Name
from stages.backbones.weights import find_weights, load_state
from stages.data.difficult import training_split
from stages.data.load import load_data
from stages.data.records import Dataset, Record
from stages.detect import Detection, detect_split
from stages.errors import InputError
from stages.evaluation.stage import evaluate_detections
from stages.store import Artifact, Job, Store, stage
from stages.training.image_batches import check_step


@dataclass(frozen=True)
class Trained:
    """What training and testing made.

    Attributes:
        rpn, detector: the trainings whose weights the model is made of; the same if joint.
        proposals: the model's own, of the test split.
        training: what train time is the sum of.
    """

    data: Dataset
    rpn: Artifact
    detector: Artifact
    training: tuple[Artifact, ...]
    model: Artifact
    proposals: Artifact
    detections: Artifact
    evaluation: Artifact


@dataclass(frozen=True)
class Finished(Trained):
    """The artifacts a finished run is reported from."""

    pictures: Artifact


def run(config: Config, store: Store) -> Finished:
    """Every stage of Faster R-CNN, those already done found in the store."""
    done = train_and_test(config, store)
    pictures = store.run(draw_pictures, done.data, done.proposals, done.model, done.detections)
    return Finished(**vars(done), pictures=pictures)


def train_and_test(config: Config, store: Store) -> Trained:
    """From images to the evaluated detections of the test split.

    Raises:
        InputError: several scales at test, or nothing but boxes to learn; or as the trainings.
    """
    if len(config.scale.test) != 1:
        raise InputError("scale.test: Faster R-CNN sees an image at one size")
    for chosen in (config.joint.train, config.alternating.rpn, config.alternating.detector):
        if chosen.learn == "boxes":
            raise InputError("learn boxes: is Fast R-CNN's stage-wise training, not Faster R-CNN's")
    if config.training == "alternating":
        check_step(config.alternating.rpn_images, store.ranks)
        check_step(config.alternating.sampling.images, store.ranks)
    else:
        check_step(config.joint.sampling.images, store.ranks)
    data = load_data(config.data, store)
    rpn, detector, training = train(config, data, store)
    model = assemble_from(config, data, rpn, detector, store)
    # What the detector will see, to be measured and drawn.
    proposals = propose_with(config, data, rpn, config.proposals, "test", store)
    detections = store.run(detect, data, model)
    evaluation = store.run(evaluate_detections, data, detections)
    return Trained(
        data, rpn, detector, (*training, model), model, proposals, detections, evaluation
    )


def train(
    config: Config, data: Dataset, store: Store
) -> tuple[Artifact, Artifact, tuple[Artifact, ...]]:
    """The trainings that hold the RPN and the detector, over the same convolutions; and all stages."""
    learnt = training_split(data, config.difficult)
    weights = find_weights(config.backbone, store)
    if config.training == "alternating":
        steps = alternate(config, learnt, weights, store)
        return steps.shared_rpn, steps.shared_detector, steps.all
    joint = store.run(
        train_jointly,
        learnt,
        weights,
        config.backbone.name,
        config.scale.train,
        config.scale.longest,
        settle(config.rpn, "joint"),
        config.loss,
        config.joint,
    )
    return joint, joint, (joint,)


def assemble_from(
    config: Config, data: Dataset, rpn: Artifact, detector: Artifact, store: Store
) -> Artifact:
    """The finished detector; `config` may ask it to look otherwise than in training."""
    return store.run(
        assemble,
        data.classes,
        rpn,
        detector,
        config.backbone.name,
        config.scale,
        settle(config.rpn, config.training),
        config.proposals,
        config.detection,
    )


@stage(version=2)
def assemble(
    job: Job,
    classes: tuple[str, ...],
    rpn: Artifact,
    detector: Artifact,
    name: Name,
    scale: ScaleConfig,
    rpn_config: RPNConfig,
    proposals: ProposalConfig,
    detection: DetectionConfig,
) -> None:
    """Put the RPN and the detector over the convolutions they share, and what to do with them, together.

    Raises:
        ValueError: their convolutions are not the same.
    """
    proposing, detecting = (load_state(part.path / "weights.pt") for part in (rpn, detector))
    for key in (key for key in detecting if key.startswith(TRUNK)):
        if not proposing[key].equal(detecting[key]):
            raise ValueError(f"{key} is not shared")
    own = {key: value for key, value in proposing.items() if key.startswith(RPN_LAYERS)}
    description = Description("faster", name, classes, scale, rpn_config, proposals, detection)
    save(job.folder, description, {**detecting, **own})


@stage(version=3, together=True)
def detect(job: Job, data: Dataset, model: Artifact) -> None:
    """Detect in the test split.

    Writes `detections.json` and, the proposals' own boxes with the same scores, `unregressed.json`.
    """
    faster = load(model.path, job.device)

    def detect_one(image: Tensor, record: Record) -> dict[str, Detection]:
        ((scores, moved, proposed),) = faster.score([image])
        still = proposed[:, None].expand_as(moved)
        return {
            "detections": faster.suppress(scores, moved, proposed),
            "unregressed": faster.suppress(scores, still, proposed),
        }

    detect_split(job, data, detect_one)
