"""YOLOv3's two trainings: of the priors' shapes, and of the network (sections 2.3 and 2.5)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.rivals.yolov3.clusters import cluster
from benchmarks.rivals.yolov3.config import LossConfig
from benchmarks.rivals.yolov3.jitter import jitter
from benchmarks.rivals.yolov3.network import YOLOv3
from benchmarks.rivals.yolov3.priors import EACH, STRIDES
from fast_rcnn.config import DetectionConfig, ScaleConfig, TrainConfig
from fast_rcnn.train import choose_learners
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from stages.data.records import Record, TrainingData
from stages.errors import InputError
from stages.resize import size_at
from stages.store import Artifact, Job, stage
from stages.training.image_batches import ImageBatches, images_to_learn_from
from stages.training.loop import train
from stages.training.sgd import Rates
from stages.writing import replacing

NEW = ("further.", "heads.")  # prefixes of what no pre-training fills
NOTHING = InputError("YOLOv3 needs objects in the training split")


@stage(version=1)
def find_priors(job: Job, data: TrainingData, shorter: int, longest: int) -> None:
    """Cluster the training boxes, at the size of test. Writes `priors.json`: nine widths and heights.

    Raises:
        InputError: no training image has an object.
    """
    sizes = [_sizes(record, shorter, longest) for record in data.train]
    together = np.concatenate([np.zeros((0, 2)), *sizes])
    if len(together) == 0:
        raise NOTHING
    found = cluster(together, EACH * len(STRIDES))
    # Digits that do not depend on the processor.
    (job.folder / "priors.json").write_text(json.dumps(np.round(found, 2).tolist()))


def _sizes(record: Record, shorter: int, longest: int) -> np.ndarray:
    """Widths and heights of a record's objects in pixels of the scaled image, [., 2]."""
    height, width = size_at(record.height, record.width, shorter, longest)
    boxes = record.boxes[~record.iscrowd]
    return (boxes[:, 2:] - boxes[:, :2]) * [width / record.width, height / record.height]


def read_priors(found: Artifact) -> tuple[tuple[float, float], ...]:
    """What `find_priors` wrote."""
    sizes = json.loads((found.path / "priors.json").read_text())
    return tuple((float(width), float(height)) for width, height in sizes)


@stage(version=2)
def train_yolov3(
    job: Job,
    data: TrainingData,
    weights: Weights,
    name: Name,
    priors: Artifact,
    width: int,
    scales: tuple[int, ...],
    longest: int,
    images: int,
    jitter_by: float,
    loss: LossConfig,
    config: TrainConfig,
    clip_norm: float | None = None,
) -> None:
    """Train the whole network at once. Writes `weights.pt`, `YOLOv3`'s state.

    Args:
        weights: of the backbone.
        priors: see `find_priors`.
        jitter_by, clip_norm: see `Config`. The other arguments: see `Config`.

    Raises:
        InputError: no training image has an object.
    """
    torch.manual_seed(config.sgd.seed)
    model = YOLOv3(
        build_backbone(name, weights),
        data.classes,
        read_priors(priors),
        width,
        ScaleConfig(train=tuple(scales), longest=longest),
        DetectionConfig(),
        loss,
    )
    choose_learners(model, name, config.learn)
    usable = images_to_learn_from(data.train)
    if len(usable) == 0:
        raise NOTHING
    batches = ImageBatches(data.train, usable, images, config.mirror, config.sgd.seed)
    rates = Rates(NEW, config.new_layer_factor, config.bias_factor, bias_decay=False)

    def losses_of(model: YOLOv3, batch: dict[str, Any]) -> dict[str, Tensor]:
        return _losses(model, batch, jitter_by)

    train(job, model, batches, losses_of, config.sgd, rates, "YOLOv3", clip_norm)
    with replacing(job.folder / "weights.pt") as file:
        torch.save(model.cpu().state_dict(), file)


def _losses(model: YOLOv3, batch: dict[str, Any], jitter_by: float) -> dict[str, Tensor]:
    images, targets = batch["images"], batch["targets"]
    if jitter_by:
        pairs = zip(images, targets, strict=True)
        changed = [jitter(*pair, jitter_by, model.backbone.mean) for pair in pairs]
        images, targets = [image for image, _ in changed], [target for _, target in changed]
    return model.losses(images, targets)
