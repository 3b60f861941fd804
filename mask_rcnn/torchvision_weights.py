"""torchvision's trained detectors in our classes: `fasterrcnn_resnet50_fpn`, `maskrcnn_resnet50_fpn`.

K classes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import detection as zoo

from fast_rcnn.config import ScaleConfig
from faster_rcnn.config import ProposalConfig
from mask_rcnn.config import Config, MaskConfig, NetworkConfig, PoolConfig
from mask_rcnn.detector import Description
from stages.device import DType
from stages.errors import InputError, one_line

# From torchvision's names to ours; what is left of a name stays.
_NAMES = (
    ("backbone.body.", "backbone.trunk.body."),
    ("rpn.head.conv.0.0.", "rpn.conv."),
    ("rpn.head.cls_logits.", "rpn.scores."),
    ("rpn.head.bbox_pred.", "rpn.offsets."),
    ("roi_heads.box_head.fc6.", "backbone.head.fc6.0."),
    ("roi_heads.box_head.fc7.", "backbone.head.fc7.0."),
    ("roi_heads.box_predictor.cls_score.", "predictor.scores."),
    ("roi_heads.box_predictor.bbox_pred.", "predictor.offsets."),
    ("roi_heads.mask_predictor.conv5_mask.", "mask_head.features.8."),
    ("roi_heads.mask_predictor.mask_fcn_logits.", "mask_head.logits."),
    *(
        (f"backbone.fpn.inner_blocks.{n}.0.", f"backbone.trunk.pyramid.inner.{n}.")
        for n in range(4)
    ),
    *(
        (f"backbone.fpn.layer_blocks.{n}.0.", f"backbone.trunk.pyramid.outer.{n}.")
        for n in range(4)
    ),
    *((f"roi_heads.mask_head.{n}.0.", f"mask_head.features.{2 * n}.") for n in range(4)),
)
_BOX_UNIT = (10.0, 10.0, 5.0, 5.0)  # its box layer's outputs are so many times ours
_OUR_EPS = 1e-5  # of batch norm


def describe(classes: tuple[str, ...], masks: bool, dtype: DType = "auto") -> Description:
    """Of a network whose detections are torchvision's, its options as they come.

    Args:
        classes: K names, background not among them.
        masks: whether it is `maskrcnn_resnet50_fpn`.
        dtype: of the network.
    """
    paper = Config()
    anchors = dataclasses.replace(paper.rpn.anchors, centre=0.0, as_torchvision=True)
    pool = PoolConfig(half_pixel=False)
    mask = MaskConfig(branch="fcn" if masks else "none")
    return Description(
        "mask",
        "resnet50",
        classes,
        ScaleConfig(train=(800,), test=(800,), longest=1333, down=True),
        NetworkConfig(pool=pool, mask=mask),
        dataclasses.replace(paper.rpn, anchors=anchors),
        ProposalConfig(before=1000, after=1000, least_side=0.0),
        dataclasses.replace(paper.detection, rounded=True, dtype=dtype),
    )


def convert(state: dict[str, Tensor], path: Path, eps: float = _OUR_EPS) -> dict[str, Tensor]:
    """`MaskRCNN`'s state from that of torchvision's detector, of whatever version it wrote.

    Args:
        state: `maskrcnn_resnet50_fpn`'s, or `fasterrcnn_resnet50_fpn`'s.
        path: of the file, for errors.
        eps: that torchvision's batch norms add to variances: 0 for its published COCO weights.

    Raises:
        InputError: it is of something else.
    """
    try:
        classes = len(state["roi_heads.box_predictor.cls_score.weight"])
        masks = any(key.startswith("roi_heads.mask_head.") for key in state)
        build = zoo.maskrcnn_resnet50_fpn if masks else zoo.fasterrcnn_resnet50_fpn
        network = build(weights=None, weights_backbone=None, num_classes=classes)
        network.load_state_dict(state)  # which renames what older versions called otherwise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"{path}: not weights of torchvision's fasterrcnn_resnet50_fpn or maskrcnn_resnet50_fpn: "
            f"{one_line(error)[:120]}"
        ) from None
    ours: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        before, after = next((names for names in _NAMES if key.startswith(names[0])), (key, key))
        ours[after + key.removeprefix(before)] = value
    for kind in ("weight", "bias"):
        # Theirs has offsets for the background, too, which nobody looks at.
        offsets = ours[f"predictor.offsets.{kind}"][4:]
        unit = torch.tensor(_BOX_UNIT, dtype=offsets.dtype).repeat(classes - 1)
        ours[f"predictor.offsets.{kind}"] = offsets / unit.reshape(-1, *[1] * (offsets.dim() - 1))
        if masks:
            ours[f"mask_head.logits.{kind}"] = ours[f"mask_head.logits.{kind}"][1:]
    for key, variance in list(ours.items()):
        if key.endswith("running_var"):
            weight = key.replace("running_var", "weight")
            ours[weight] = ours[weight] * ((variance + _OUR_EPS) / (variance + eps)).sqrt()
    return ours


def coco_classes() -> tuple[str, ...]:
    """Names of COCO's 90 category numbers in order, "N/A" where a number is not in use."""
    names: list[Any] = zoo.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return tuple(names[1:])
