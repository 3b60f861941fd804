"""Training the RPN alone, and the whole network jointly (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fast_rcnn.config import LossConfig, ScaleConfig, TrainConfig
from fast_rcnn.train import choose_learners
from faster_rcnn.config import JointConfig, RPNConfig
from faster_rcnn.labels import POSITIVE, label_anchors
from faster_rcnn.loss import settle
from faster_rcnn.network import FasterRCNN, build_untrained
from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone, fill, load_state
from stages.boxes import encode
from stages.data.records import Record, TrainingData
from stages.errors import InputError
from stages.ranks import Ranks
from stages.resize import frame_of, size_at
from stages.store import Artifact, Job, stage
from stages.training.image_batches import ImageBatches, images_to_learn_from
from stages.training.loop import train
from stages.training.sgd import Rates
from stages.writing import replacing

TRUNK, RPN_LAYERS = "backbone.trunk.", "rpn."
IMAGES = ("backbone.mean", "backbone.std")  # what the trunk's weights expect of an image


@stage(version=4, together=True)
def train_rpn(
    job: Job,
    data: TrainingData,
    weights: Weights,
    name: Name,
    scales: tuple[int, ...],
    longest: int,
    rpn: RPNConfig,
    images: int,
    config: TrainConfig,
    detector: Artifact | None = None,
) -> None:
    """Train the RPN (steps 1 and 3 of the alternating training).

    Writes `weights.pt`: of `FasterRCNN`'s state the trunk, with the images it expects, and the RPN.

    Args:
        scales, longest: see `ScaleConfig`.
        images: of a batch.
        detector: Fast R-CNN's training whose convolutions to take, and to leave as they are; None:
            they start from the backbone's weights, and learn.

    Raises:
        InputError: no training image has an object.
    """
    torch.manual_seed(config.sgd.seed)
    backbone = build_backbone(name, weights)
    model = build_untrained(
        backbone,
        data.classes,
        settle(rpn, "alternating"),
        ScaleConfig(tuple(scales), longest=longest),
    )
    if detector is not None:
        load_parts(model, detector, TRUNK)
    choose_learners(model, name, config.learn)
    still = ("backbone.head.", "predictor.", *([] if detector is None else [TRUNK]))
    for key, parameter in model.named_parameters():
        if key.startswith(still):
            parameter.requires_grad_(False)
    set_statistics(model, data.train, max(scales), longest)
    batches = _batches(data, images, config, job.ranks)
    rates = _rates(backbone, config)
    train(job, model, batches, _rpn_losses, config.sgd, rates, "RPN")
    if not job.ranks.leads:
        return
    model.rpn.fold()
    parts = (TRUNK, RPN_LAYERS, *IMAGES)
    state = {k: v for k, v in model.cpu().state_dict().items() if k.startswith(parts)}
    with replacing(job.folder / "weights.pt") as file:
        torch.save(state, file)


@stage(version=4, together=True)
def train_jointly(
    job: Job,
    data: TrainingData,
    weights: Weights,
    name: Name,
    scales: tuple[int, ...],
    longest: int,
    rpn: RPNConfig,
    loss: LossConfig,
    config: JointConfig,
) -> None:
    """Approximate joint training: the losses summed. Writes `weights.pt`, `FasterRCNN`'s state.

    Args:
        scales, longest: see `ScaleConfig`.

    Raises:
        InputError: no training image has an object.
    """
    torch.manual_seed(config.train.sgd.seed)
    backbone = build_backbone(name, weights)
    model = build_untrained(
        backbone,
        data.classes,
        rpn,
        ScaleConfig(tuple(scales), longest=longest),
        train_proposals=config.proposals,
        sampling=config.sampling,
        loss=loss,
    )
    model.box_std = torch.tensor(config.box_std)
    choose_learners(model, name, config.train.learn)
    set_statistics(model, data.train, max(scales), longest)
    batches = _batches(data, config.sampling.images, config.train, job.ranks)
    rates = _rates(backbone, config.train)
    train(job, model, batches, _losses, config.train.sgd, rates, "Faster R-CNN")
    if not job.ranks.leads:
        return
    model.fold()
    with replacing(job.folder / "weights.pt") as file:
        torch.save(model.cpu().state_dict(), file)


def load_parts(model: FasterRCNN, trained: Artifact, *prefixes: str) -> None:
    """Put those parts of a training's weights into the model, strictly.

    With the trunk comes what it expects of an image.

    Args:
        prefixes: of the parameters' names, each of a whole submodule: "backbone.trunk.".

    Raises:
        InputError: the file does not hold them.
    """
    path = trained.path / "weights.pt"
    state = load_state(path)
    for prefix in prefixes:
        part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        fill(model.get_submodule(prefix.removesuffix(".")), part, path)
    if TRUNK in prefixes and set(IMAGES) <= state.keys():
        expected = (state[name] for name in IMAGES)
        model.backbone.mean, model.backbone.std = expected


def set_statistics(
    model: FasterRCNN, records: Sequence[Record], shorter: int, longest: int
) -> None:
    """Mean and deviation of the targets of all positive anchors, where the RPN's loss asks for them."""
    rpn = model.rpn
    if rpn.config.loss.scale != "matlab":
        return
    offsets = []
    anchors: dict[tuple[int, int], Tensor] = {}
    for record in records:
        height, width = size_at(record.height, record.width, shorter, longest)
        frame = frame_of([(height, width)])
        if frame not in anchors:
            with torch.no_grad():
                anchors[frame] = torch.cat(rpn.anchors(model.maps(torch.zeros(1, 3, *frame))))
        every = anchors[frame]
        ratio = torch.tensor([width / record.width, height / record.height] * 2)
        boxes = torch.from_numpy(record.boxes[~record.iscrowd]) * ratio
        labels, nearest = label_anchors(every, boxes, (height, width), rpn.config.labels)
        positive = labels == POSITIVE
        if positive.any():
            offsets.append(encode(every[positive], boxes[nearest[positive]]))
    if offsets:
        together = torch.cat(offsets)
        rpn.box_mean = together.mean(dim=0)
        rpn.box_std = together.std(dim=0, correction=0).clamp(min=0.01)


def _rpn_losses(model: FasterRCNN, batch: dict[str, Any]) -> dict[str, Tensor]:
    return model.rpn_losses(batch["images"], batch["targets"])


def _losses(model: FasterRCNN, batch: dict[str, Any]) -> dict[str, Tensor]:
    return model.losses(batch["images"], batch["targets"])


def _batches(data: TrainingData, images: int, config: TrainConfig, ranks: Ranks) -> ImageBatches:
    usable = images_to_learn_from(data.train)
    if len(usable) == 0:
        raise InputError("Faster R-CNN needs objects in the training split")
    return ImageBatches(data.train, usable, images, config.mirror, config.sgd.seed, ranks=ranks)


def _rates(backbone: Backbone, config: TrainConfig) -> Rates:
    new = ("rpn.", "predictor.", *(f"backbone.{prefix}" for prefix in backbone.new))
    return Rates(new, config.new_layer_factor, config.bias_factor, bias_decay=False)
