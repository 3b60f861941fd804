"""Training torchvision's detectors: our loop and batches, torchvision's losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.rivals.config import TITLES, Kind, Stride
from benchmarks.rivals.torchvision_detectors import NEW, Network, build, to_float
from stages.backbones.weights import Weights
from stages.data.images import check_masks
from stages.data.records import Record, TrainingData
from stages.errors import InputError
from stages.store import Job, stage
from stages.training.image_batches import ImageBatches, images_to_learn_from
from stages.training.loop import train
from stages.training.sgd import Rates, SGDConfig
from stages.writing import replacing


@stage(version=4)
def train_torchvision(
    job: Job,
    data: TrainingData,
    kind: Kind,
    weights: Weights,
    shorter: int,
    longest: int,
    finest_stride: Stride,
    trainable_layers: int,
    images: int,
    mirror: bool,
    sgd: SGDConfig,
    new_layer_factor: float,
    clip_norm: float | None = None,
) -> None:
    """Train all of the network at once. Writes `weights.pt`, the state of torchvision's network.

    Args:
        weights: of the trunk.
        shorter, longest: see `sides_of`; finest_stride: see `stride_of`. The other arguments: see
            `Config`.

    Raises:
        InputError: no training image has an object or, for masks, objects that all have one; or one
            has more masks than `check_masks` lets pass.
    """
    torch.manual_seed(sgd.seed)
    classes, masks = len(data.classes), kind == "mask"
    model = build(kind, weights, classes, shorter, longest, finest_stride, trainable_layers)
    usable = images_to_learn_from(data.train)
    if masks:
        # Of an image without objects all is known.
        usable = usable[[with_all_masks(data.train[image]) for image in usable]]
    if not any(len(data.train[image].boxes) for image in usable):
        what = "objects with masks" if masks else "objects"
        raise InputError(f"{TITLES[kind]} needs {what} in the training split")
    for image in usable if masks else []:
        check_masks(data.train[image])  # torchvision has all of an image's drawn at once
    batches = ImageBatches(data.train, usable, images, mirror, sgd.seed, masks=masks)
    rates = Rates(NEW, new_layer_factor)
    train(job, model, batches, losses_of, sgd, rates, TITLES[kind], clip_norm)
    with replacing(job.folder / "weights.pt") as file:
        torch.save(model.cpu().state_dict(), file)


def with_all_masks(record: Record) -> bool:
    """Whether each object that is no crowd has a mask: torchvision would learn that others are empty."""
    return bool((record.with_mask | record.iscrowd).all())


def losses_of(model: Network, batch: dict[str, Any]) -> dict[str, Tensor]:
    """torchvision's own losses of a batch of `ImageBatches`."""
    images = [to_float(image) for image in batch["images"]]
    return model(images, [objects_of(target) for target in batch["targets"]])  # type: ignore[no-any-return]


def objects_of(target: Mapping[str, Any]) -> dict[str, Tensor]:
    """torchvision's target without crowds, which are background to it as it knows no third."""
    kept = ~target["iscrowd"]
    names = ("boxes", "labels", "masks")
    return {key: target[key][kept] for key in names if key in target}
