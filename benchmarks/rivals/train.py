"""Training torchvision's Faster or Mask R-CNN: our loop and batches, torchvision's losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from benchmarks.rivals.config import Stride
from benchmarks.rivals.torchvision_detectors import NEW, build, to_float
from stages.backbones.weights import Weights
from stages.data.records import Dataset, Record
from stages.errors import InputError
from stages.store import Job, stage
from stages.training.image_batches import ImageBatches
from stages.training.loop import train
from stages.training.sgd import Rates, SGDConfig
from stages.writing import replacing


@stage(version=2)
def train_torchvision(
    job: Job,
    data: Dataset,
    weights: Weights,
    shorter: int,
    longest: int,
    finest_stride: Stride,
    trainable_layers: int,
    images: int,
    mirror: bool,
    sgd: SGDConfig,
    new_layer_factor: float,
    masks: bool,
) -> None:
    """Train RPN, detector and perhaps masks at once. Writes `weights.pt`, the state of torchvision's network.

    Args:
        weights: of the trunk. The other arguments: see `Config`.

    Raises:
        InputError: no training image has an object or, for masks, one with a mask.
    """
    torch.manual_seed(sgd.seed)
    model = build(
        weights, len(data.classes), shorter, longest, finest_stride, trainable_layers, masks
    )
    usable = images_to_learn_from(data.train)
    if masks:
        usable = usable[[data.train[image].has_masks for image in usable]]
    if len(usable) == 0:
        what = "objects with masks" if masks else "objects"
        raise InputError(f"torchvision's detector needs {what} in the training split")
    batches = ImageBatches(data.train, usable, images, mirror, sgd.seed, masks=masks)
    rates = Rates(NEW, new_layer_factor)
    title = f"torchvision's {'Mask' if masks else 'Faster'} R-CNN"
    train(job, model, batches, losses_of, sgd, rates, title)
    with replacing(job.folder / "weights.pt") as file:
        torch.save(model.cpu().state_dict(), file)


def images_to_learn_from(records: Sequence[Record]) -> np.ndarray:
    """Indices of the images with an object that is no crowd."""
    return np.flatnonzero([bool((~record.iscrowd).any()) for record in records])


def losses_of(model: FasterRCNN, batch: dict[str, Any]) -> dict[str, Tensor]:
    """torchvision's own losses of a batch of `ImageBatches`."""
    images = [to_float(image) for image in batch["images"]]
    return model(images, [objects_of(target) for target in batch["targets"]])  # type: ignore[no-any-return]


def objects_of(target: Mapping[str, Any]) -> dict[str, Tensor]:
    """torchvision's target without crowds, which are background to it as it knows no third."""
    kept = ~target["iscrowd"]
    names = ("boxes", "labels", "masks")
    return {key: target[key][kept] for key in names if key in target}
