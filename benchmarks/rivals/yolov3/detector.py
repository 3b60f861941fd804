"""A finished YOLOv3 on disk: `model.json` and `weights.pt`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from benchmarks.rivals.yolov3.config import BACKBONES, LossConfig
from benchmarks.rivals.yolov3.network import YOLOv3
from benchmarks.rivals.yolov3.priors import EACH, STRIDES
from fast_rcnn.config import DetectionConfig, ScaleConfig
from fast_rcnn.detector import check_scale
from stages.backbones.config import Name
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.backbones.weights import Weights, build_backbone, load_built
from stages.device import DType, choose_dtype
from stages.errors import InputError
from stages.typed_json import read_typed
from stages.writing import replacing

YOLOV3: Literal["yolov3"] = "yolov3"
WHAT = "a finished YOLOv3"


@dataclass(frozen=True)
class Description:
    """What `model.json` says: all that is needed to build the detector again.

    Attributes:
        priors: nine widths and heights, in pixels of the scaled image, smallest area first.
        width: see `Config`.
    """

    paper: Literal["yolov3"]
    backbone: Name
    classes: tuple[str, ...]
    priors: tuple[tuple[float, float], ...]
    width: int
    scale: ScaleConfig
    detection: DetectionConfig


def save(folder: Path, description: Description, state: dict[str, Tensor]) -> None:
    """Write a detector that `load` reads.

    Args:
        state: `YOLOv3.state_dict()`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(dataclasses.asdict(description), indent=1))
    with replacing(folder / "weights.pt") as file:
        torch.save(state, file)


def load(folder: Path, device: str) -> YOLOv3:
    """A saved detector, on `device`, ready to detect, in the device's best type.

    Raises:
        InputError: naming the file that is missing or broken.
    """
    description = read_description(folder / "model.json")
    unbuildable = f"{folder / 'model.json'}: not of {WHAT}"
    model = load_built(lambda: build(description), folder / "weights.pt", unbuildable)
    return ready(model, description.detection.dtype, device)


def read_description(path: Path) -> Description:
    """What `model.json` says.

    Raises:
        InputError: it is missing, or says something else.
    """
    about = read_typed(path, Description, WHAT)
    fault = None
    if about.backbone not in BACKBONES:
        fault = f"backbone: takes {', '.join(BACKBONES)}"
    elif len(about.scale.test) != 1:
        fault = "scale.test: takes one"
    elif len(about.priors) != EACH * len(STRIDES):
        fault = f"priors: takes {EACH * len(STRIDES)}"
    elif about.width < 4 or about.width % 4:
        fault = "width: takes multiples of 4"
    elif not about.classes:
        fault = "no classes"
    else:
        above_0 = [*about.scale.test, about.scale.longest, about.detection.per_class]
        if min(*above_0, *(side for prior in about.priors for side in prior)) <= 0:
            fault = "a size or number is not above 0"
    if fault:
        raise InputError(f"{path}: not of {WHAT}: {fault}")
    check_scale(about.scale, path, WHAT)
    return about


def build(about: Description) -> YOLOv3:
    """The network that a description is of, with random weights."""
    return YOLOv3(
        build_backbone(about.backbone, Weights(None, "random")),
        about.classes,
        about.priors,
        about.width,
        about.scale,
        about.detection,
        LossConfig(),
    )


def ready(model: YOLOv3, dtype: DType, device: str) -> YOLOv3:
    """`model` itself, changed to detect: on the device, its batch norms frozen, all but outputs in `dtype`.

    Outputs are float32, as our papers' are: bfloat16 knows offsets to three digits.
    """
    model.eval().requires_grad_(False)
    freeze_batch_norm(model)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if choose_dtype(dtype, device) == "bfloat16":
        for part in (model.backbone.trunk, model.further, model.heads):
            part.to(torch.bfloat16)
        for head in model.heads.scales:
            head.get_submodule("outputs").float()
    return model
