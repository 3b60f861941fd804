"""A finished Faster R-CNN on disk: `model.json` and `weights.pt`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fast_rcnn.config import DetectionConfig, ScaleConfig
from fast_rcnn.detector import check_scale
from faster_rcnn.config import ProposalConfig, RPNConfig
from faster_rcnn.network import FasterRCNN, build_untrained
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone, load_built
from stages.device import DType, choose_dtype
from stages.errors import InputError
from stages.typed_json import read_typed
from stages.writing import replacing

WHAT = "a finished Faster R-CNN"


@dataclass(frozen=True)
class Description:
    """What `model.json` says: all that is needed to build the detector again.

    Attributes:
        cells: see `fast_rcnn.detector.Description`.
    """

    paper: Literal["faster"]
    backbone: Name
    classes: tuple[str, ...]
    scale: ScaleConfig
    rpn: RPNConfig
    proposals: ProposalConfig
    detection: DetectionConfig
    cells: Literal["by centres"] = "by centres"


def save(folder: Path, description: Description, state: dict[str, Tensor]) -> None:
    """Write a detector that `load` reads.

    Args:
        state: `FasterRCNN.state_dict()`, after `fold`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(dataclasses.asdict(description), indent=1))
    with replacing(folder / "weights.pt") as file:
        torch.save(state, file)


def load(folder: Path, device: str) -> FasterRCNN:
    """A saved detector, on `device`, ready to detect, in the device's best type.

    Raises:
        InputError: naming the file that is missing or broken.
    """
    path = folder / "model.json"
    description = read_typed(path, Description, WHAT)
    if len(description.scale.test) != 1:
        raise InputError(f"{path}: not of {WHAT}: scale.test: takes one")
    check_scale(description.scale, path, WHAT)
    rpn, proposals = description.rpn, description.proposals
    above_0: list[float] = [
        *description.scale.test,
        description.scale.longest,
        rpn.width,
        proposals.after,
    ]
    above_0 += [*rpn.anchors.sizes, *rpn.anchors.ratios, description.detection.per_class]
    above_0 += [1 if proposals.before is None else proposals.before, len(rpn.anchors.sizes)]
    if min(above_0) <= 0 or not rpn.anchors.ratios or not description.classes:
        raise InputError(f"{path}: not of {WHAT}: a size or number is missing or not above 0")
    unbuildable = f"{folder / 'model.json'}: not of {WHAT}"
    model = load_built(lambda: build(description), folder / "weights.pt", unbuildable)
    return ready(model, description.detection.dtype, device)


def build(description: Description) -> FasterRCNN:
    """The network that a description is of, with random weights."""
    backbone = build_backbone(description.backbone, Weights(None, "random"))
    return build_untrained(
        backbone,
        description.classes,
        description.rpn,
        description.scale,
        proposals=description.proposals,
        detection=description.detection,
    )


def ready(model: FasterRCNN, dtype: DType, device: str) -> FasterRCNN:
    """`model` itself, changed to detect: on the device, all but its outputs in `dtype`.

    Scores and offsets are float32: bfloat16 would place a box of 500 pixels to the nearest two.
    """
    model.eval().requires_grad_(False)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if choose_dtype(dtype, device) == "bfloat16":
        for part in (model.backbone.trunk, model.backbone.head, model.rpn.conv):
            part.to(torch.bfloat16)
    return model
