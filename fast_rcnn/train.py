"""Training Fast R-CNN: one stage, where R-CNN needed four (section 2.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fast_rcnn.config import LossConfig, SamplingConfig, ScaleConfig, TrainConfig
from fast_rcnn.network import FastRCNN
from fast_rcnn.sampling import lowest_background
from fast_rcnn.targets import statistics
from stages.backbones.config import Name
from stages.backbones.networks import early_layers_of
from stages.backbones.weights import Weights, build_backbone, fill, load_state
from stages.data.records import Dataset
from stages.errors import InputError
from stages.proposals.cache import Proposals
from stages.proposals.windows import Windows, training_windows
from stages.store import Artifact, Job, stage
from stages.training.image_batches import ImageBatches
from stages.training.loop import train
from stages.training.sgd import Rates
from stages.writing import replacing


def losses_of(model: FastRCNN, batch: dict[str, Any]) -> dict[str, Tensor]:
    """The model's own losses, of a batch of `ImageBatches`."""
    return model.losses(batch["images"], batch["targets"], batch["proposals"])


@stage(version=6, together=True)
def train_detector(
    job: Job,
    data: Dataset,
    proposals: Artifact,
    weights: Weights,
    name: Name,
    top: int | None,
    scales: tuple[int, ...],
    longest: int,
    sampling: SamplingConfig,
    loss: LossConfig,
    config: TrainConfig,
    start: Artifact | None = None,
    keep_boxes: bool = False,
) -> None:
    """Train the whole network at once. Writes `weights.pt`, `FastRCNN`'s state.

    Args:
        scales, longest: see `ScaleConfig`.
        start: a training whose weights to start from; keep_boxes: those of the box layer too.

    Raises:
        InputError: no training image has an object or a background RoI.
    """
    torch.manual_seed(config.sgd.seed)
    backbone = build_backbone(name, weights)
    scale = ScaleConfig(train=tuple(scales), longest=longest)
    model = FastRCNN(backbone, data.classes, scale, sampling, loss)
    if start is not None:
        fresh = {
            f"predictor.offsets.{k}": v for k, v in model.predictor.offsets.state_dict().items()
        }
        path = start.path / "weights.pt"
        fill(model, {**load_state(path), **({} if keep_boxes else fresh)}, path)
    choose_learners(model, backbone.name, config.learn)
    reader = Proposals(proposals.path / "proposals.h5")
    windows = training_windows(data.train, reader, top)
    model.box_mean, model.box_std = statistics(
        data.train, windows, len(data.classes), sampling.positive_iou
    )
    if start is not None and keep_boxes:
        model.predictor.unfold(model.box_mean, model.box_std)
    usable = images_to_learn_from(windows, len(data.train), sampling)
    if len(usable) == 0:
        raise InputError("Fast R-CNN needs objects or background beside them in the training split")
    batches = ImageBatches(
        data.train,
        usable,
        sampling.images,
        config.mirror,
        config.sgd.seed,
        reader,
        top,
        ranks=job.ranks,
    )
    new = ("predictor.", *(f"backbone.{prefix}" for prefix in backbone.new))
    rates = Rates(new, config.new_layer_factor, config.bias_factor, bias_decay=False)
    train(job, model, batches, losses_of, config.sgd, rates, "Fast R-CNN")
    if not job.ranks.leads:
        return
    model.fold()
    with replacing(job.folder / "weights.pt") as file:
        torch.save(model.cpu().state_dict(), file)


def choose_learners(
    model: nn.Module, name: Name, learn: str, trunk: str = "backbone.trunk."
) -> None:
    """Keep the layers that do not learn as they are (section 4.5); see `TrainConfig.learn`.

    Args:
        model: a detector, its parts called as `FastRCNN`'s, on the backbone of that name.
        trunk: where in it the backbone's own trunk is.
    """
    early = tuple(layer.replace("trunk.", trunk, 1) for layer in early_layers_of(name))
    still = {
        "all": (),
        "head": (trunk,),
        "boxes": ("backbone.", "predictor.scores."),
        "default": early,
    }[learn]
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(not key.startswith(still))


def images_to_learn_from(windows: Windows, images: int, config: SamplingConfig) -> np.ndarray:
    """Indices of the images with a RoI that qualifies: without one a step would learn nothing."""
    low, high = lowest_background(config), config.background_iou[1]
    overlap = windows.overlap
    useful = (overlap >= config.positive_iou) | ((overlap >= low) & (overlap < high))
    return np.flatnonzero(np.bincount(windows.image[useful], minlength=images))
