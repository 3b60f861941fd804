"""A finished Fast R-CNN on disk: `model.json` and `weights.pt`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

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
from stages.backbones.weights import Weights, build_backbone, fill, load_state
from stages.device import DType, choose_dtype
from stages.errors import InputError, one_line
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.writing import replacing


@dataclass(frozen=True)
class Description:
    """What `model.json` says: all that is needed to build the detector again."""

    paper: str
    backbone: Name
    classes: tuple[str, ...]
    top: int | None
    proposals: SelectiveSearchConfig
    scale: ScaleConfig
    detection: DetectionConfig
    svd: SVDConfig = field(default_factory=SVDConfig)


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
    model = build(description)
    fill(model, load_state(folder / "weights.pt"), folder / "weights.pt")
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


def read_description(path: Path) -> Description:
    """What `model.json` says.

    Raises:
        InputError: it is missing, or says something else.
    """
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(fields["classes"], list):
            raise TypeError("its classes are no list")
        fields["classes"] = tuple(fields["classes"])
        scale: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in fields["scale"].items()
        }
        fields["scale"] = ScaleConfig(**scale)
        fields["proposals"] = SelectiveSearchConfig(**fields["proposals"])
        fields["detection"] = DetectionConfig(**fields["detection"])
        fields["svd"] = SVDConfig(**fields["svd"])
        description = Description(**fields)
        _check(description)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not of a finished Fast R-CNN: {one_line(error)}") from None
    return description


def _check(description: Description) -> None:
    """What a file can say that no training wrote.

    Raises:
        ValueError: saying what.
    """
    if description.backbone not in get_args(Name):
        raise ValueError(f"no network is called {description.backbone!r}")
    if description.paper != "fast":
        raise ValueError(f"of paper {description.paper!r}")
    if description.detection.dtype not in get_args(DType):
        raise ValueError(f"no dtype is called {description.detection.dtype!r}")
    scale, svd, limits = description.scale, description.svd, description.detection
    whole = [*scale.test, *scale.train, scale.longest, scale.window_side, limits.per_class]
    whole += [value for value in (svd.fc6, svd.fc7, description.top) if value is not None]
    if not scale.test or not all(isinstance(value, int) and value >= 0 for value in whole):
        raise ValueError("a scale, rank or limit is no whole number")
    if not isinstance(limits.nms_iou, float):
        raise ValueError("nms_iou is no number")
    if not description.classes or not all(isinstance(name, str) for name in description.classes):
        raise ValueError("its classes are no names")
