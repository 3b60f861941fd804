"""Training Mask R-CNN: RPN, boxes and masks at once (section 3.1, "Training")."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fast_rcnn.config import LossConfig, ScaleConfig
from fast_rcnn.train import choose_learners
from faster_rcnn.config import JointConfig, RPNConfig
from faster_rcnn.train import set_statistics
from mask_rcnn.config import NetworkConfig
from mask_rcnn.network import MaskRCNN, build_untrained
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from stages.data.images import check_masks
from stages.data.records import Dataset
from stages.errors import InputError
from stages.ranks import Ranks
from stages.store import Job, stage
from stages.training.image_batches import ImageBatches
from stages.training.loop import train
from stages.training.sgd import Rates
from stages.writing import replacing


@stage(version=5, together=True)
def train_network(
    job: Job,
    data: Dataset,
    weights: Weights,
    name: Name,
    scales: tuple[int, ...],
    longest: int,
    network: NetworkConfig,
    rpn: RPNConfig,
    loss: LossConfig,
    config: JointConfig,
) -> None:
    """The five losses summed, approximate joint training as today's codes do it.

    The paper's tables are of an RPN trained apart, features unshared; learning all at once brought it
    1.2 points of box AP and 0.6 of mask AP (appendix, "Enhanced results": "End-to-end training").
    Writes `weights.pt`, `MaskRCNN`'s state.

    Args:
        scales, longest: see `ScaleConfig`.

    Raises:
        InputError: no training image has an object, or none that has one has masks.
    """
    torch.manual_seed(config.train.sgd.seed)
    backbone = build_backbone(name, weights)
    model = build_untrained(
        backbone,
        data.classes,
        network,
        rpn,
        ScaleConfig(tuple(scales), longest=longest),
        train_proposals=config.proposals,
        sampling=config.sampling,
        loss=loss,
    )
    model.box_std = torch.tensor(config.box_std)
    trunk = "backbone.trunk.body." if network.features == "fpn" else "backbone.trunk."
    choose_learners(model, name, config.train.learn, trunk)
    set_statistics(model, data.train, max(scales), longest)
    batches = _batches(data, config, model.mask_head is not None, job.ranks)
    new = (
        *("rpn.", "predictor.", "mask_head."),
        *(f"backbone.{prefix}" for prefix in model.backbone.new),
    )
    rates = Rates(new, config.train.new_layer_factor, config.train.bias_factor, bias_decay=False)
    train(job, model, batches, _losses, config.train.sgd, rates, "Mask R-CNN")
    if not job.ranks.leads:
        return
    model.fold()
    with replacing(job.folder / "weights.pt") as file:
        torch.save(model.cpu().state_dict(), file)


def _losses(model: MaskRCNN, batch: dict[str, Any]) -> dict[str, Tensor]:
    return model.losses(batch["images"], batch["targets"])


def _batches(data: Dataset, config: JointConfig, masks: bool, ranks: Ranks) -> ImageBatches:
    with_objects = np.array([bool((~record.iscrowd).any()) for record in data.train])
    if not with_objects.any():
        raise InputError("Mask R-CNN needs objects in the training split")
    with_masks = np.array([record.has_masks for record in data.train])
    if masks and not (with_objects & with_masks).any():
        raise InputError(
            f"{data.name}: no training image has masks (VOC: SegmentationObject/, COCO: segmentation); "
            "--network.mask.branch none trains boxes alone"
        )
    usable = np.flatnonzero(with_objects)
    for record in [*data.train, *data.test] if masks else []:
        check_masks(record)  # now, not when the image's turn comes, nor after the training
    images, training = config.sampling.images, config.train
    return ImageBatches(
        data.train, usable, images, training.mirror, training.sgd.seed, masks=masks, ranks=ranks
    )
