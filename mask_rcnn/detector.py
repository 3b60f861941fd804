"""A finished Mask R-CNN on disk: `model.json` and `weights.pt`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fast_rcnn.config import ScaleConfig
from fast_rcnn.detector import check_scale
from faster_rcnn.config import ProposalConfig, RPNConfig
from faster_rcnn.detector import ready as ready_faster
from mask_rcnn.config import MaskDetectionConfig, NetworkConfig
from mask_rcnn.network import MaskRCNN, build_untrained
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone, load_built
from stages.device import DType, choose_dtype
from stages.errors import InputError
from stages.typed_json import read_typed
from stages.writing import replacing

WHAT = "a finished Mask R-CNN"
# The paper's are 2 and 4. A description may ask for a billion.
MOST_POINTS, MOST_CONVS = 16, 64


@dataclass(frozen=True)
class Description:
    """What `model.json` says: all that is needed to build the detector again."""

    paper: Literal["mask"]
    backbone: Name
    classes: tuple[str, ...]
    scale: ScaleConfig
    network: NetworkConfig
    rpn: RPNConfig
    proposals: ProposalConfig
    detection: MaskDetectionConfig


def save(folder: Path, description: Description, state: dict[str, Tensor]) -> None:
    """Write a detector that `load` reads.

    Args:
        state: `MaskRCNN.state_dict()`, after `fold`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(dataclasses.asdict(description), indent=1))
    with replacing(folder / "weights.pt") as file:
        torch.save(state, file)


def load(folder: Path, device: str) -> MaskRCNN:
    """A saved detector, on `device`, ready to detect, in the device's best type.

    Raises:
        InputError: naming the file that is missing or broken.
    """
    path = folder / "model.json"
    description = read_typed(path, Description, WHAT)
    _check(description, path)
    unbuildable = f"{folder / 'model.json'}: not of {WHAT}"
    model = load_built(lambda: build(description), folder / "weights.pt", unbuildable)
    return ready(model, description.detection.dtype, device)


def _check(description: Description, path: Path) -> None:
    if len(description.scale.test) != 1:
        raise InputError(f"{path}: not of {WHAT}: scale.test: takes one")
    check_scale(description.scale, path, WHAT)
    rpn, proposals, network = description.rpn, description.proposals, description.network
    detection = description.detection
    above_0: list[float] = [
        *description.scale.test,
        description.scale.longest,
        rpn.width,
        *rpn.anchors.sizes,
        *rpn.anchors.ratios,
        len(rpn.anchors.sizes),
        len(rpn.anchors.ratios),
        proposals.after,
        1 if proposals.before is None else proposals.before,
        detection.per_class,
        1 if detection.per_image is None else detection.per_image,
        network.pyramid.width,
        network.pyramid.canonical_side,
        network.pool.points + 1,
        network.pool.box_side,
        network.pool.mask_side,
        network.fc,
        network.mask.convs + 1,
        network.mask.width,
        network.mask.fc,
    ]
    if min(above_0) <= 0 or not description.classes:
        raise InputError(f"{path}: not of {WHAT}: a size or number is missing or not above 0")
    if network.pool.points > MOST_POINTS or network.mask.convs > MOST_CONVS:
        raise InputError(f"{path}: not of {WHAT}: network: more points or convs than any has")


def build(description: Description) -> MaskRCNN:
    """The network that a description is of, with random weights."""
    return build_untrained(
        build_backbone(description.backbone, Weights(None, "random")),
        description.classes,
        description.network,
        description.rpn,
        description.scale,
        proposals=description.proposals,
        detection=description.detection,
    )


def ready(model: MaskRCNN, dtype: DType, device: str) -> MaskRCNN:
    """`model` itself, changed to detect: on the device, all but its outputs in `dtype`."""
    ready_faster(model, dtype, device)
    if model.mask_head is not None and choose_dtype(dtype, device) == "bfloat16":
        model.mask_head.features.to(torch.bfloat16)
    return model
