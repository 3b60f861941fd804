"""A finished Fast R-CNN on disk: `model.json` and `weights.pt`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fast_rcnn.config import (
    DetectionConfig,
    ScaleConfig,
    SVDConfig,
)
from fast_rcnn.network import FastRCNN
from fast_rcnn.svd import compress, two_layers
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone, load_built
from stages.device import DType, choose_dtype
from stages.errors import InputError
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.typed_json import read_typed
from stages.writing import replacing

WHAT = "a finished Fast R-CNN"
LARGEST = 2**13  # side of an image, in pixels: VGG16 needs gigabytes for it


@dataclass(frozen=True)
class Description:
    """What `model.json` says: all that is needed to build the detector again.

    Attributes:
        cells: how a RoI finds its own on the map: by where they look, `Backbone.shift`. A file that does
            not say so is of a detector that was trained without, and is refused.
    """

    paper: Literal["fast"]
    backbone: Name
    classes: tuple[str, ...]
    top: int | None
    proposals: SelectiveSearchConfig
    scale: ScaleConfig
    detection: DetectionConfig
    svd: SVDConfig = field(default_factory=SVDConfig)
    cells: Literal["by centres"] = "by centres"


def save(folder: Path, description: Description, state: dict[str, Tensor]) -> None:
    """Write a detector that `load` reads.

    Args:
        state: `FastRCNN.state_dict()`, after `fold`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(dataclasses.asdict(description), indent=1))
    with replacing(folder / "weights.pt") as file:
        torch.save(state, file)


def load(folder: Path, device: str) -> FastRCNN:
    """A saved detector, on `device`, ready to detect, in the device's best type.

    Raises:
        InputError: naming the file that is missing or broken.
    """
    description = read_description(folder / "model.json")
    unbuildable = f"{folder / 'model.json'}: not of {WHAT}"
    model = load_built(lambda: build(description), folder / "weights.pt", unbuildable)
    return ready(model, description.detection.dtype, device)


def ready(model: FastRCNN, dtype: DType, device: str) -> FastRCNN:
    """`model` itself, changed to detect: on the device, its trunk and head in `dtype`."""
    model.eval().requires_grad_(False)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if choose_dtype(dtype, device) == "bfloat16":
        model.backbone.trunk.to(torch.bfloat16)
        model.backbone.head.to(torch.bfloat16)
    return model


def build(description: Description) -> FastRCNN:
    """The network that a description is of, with random weights."""
    backbone = build_backbone(description.backbone, Weights(None, "random"))
    model = FastRCNN(
        backbone,
        description.classes,
        description.scale,
        detection=description.detection,
        proposals=description.proposals,
        top=description.top,
    )
    compress(model.backbone, description.svd, two_layers)
    return model


def check_scale(scale: ScaleConfig, path: Path, what: str) -> None:
    """Refuse a description's test scales that no image is seen at.

    Raises:
        InputError: one is not above 0, or above `LARGEST`.
    """
    sides = [*scale.test, scale.longest, scale.window_side]
    if min(sides) < 1 or max(sides) > LARGEST:
        raise InputError(f"{path}: not of {what}: scale: sides of 1 to {LARGEST} pixels")


def read_description(path: Path) -> Description:
    """What `model.json` says.

    Raises:
        InputError: it is missing, or says something else.
    """
    description = read_typed(path, Description, WHAT)
    scale, svd, limits = description.scale, description.svd, description.detection
    whole = [*scale.test, *scale.train, scale.longest, scale.window_side, limits.per_class]
    whole += [value for value in (svd.fc6, svd.fc7, description.top) if value is not None]
    if not scale.test or min(whole) < 0:
        raise InputError(f"{path}: not of {WHAT}: a scale is missing, or a number below 0")
    check_scale(scale, path, WHAT)
    if not description.classes:
        raise InputError(f"{path}: not of {WHAT}: no classes")
    return description
