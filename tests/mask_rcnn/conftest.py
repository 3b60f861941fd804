"""A small Mask R-CNN whose answers differ from RoI to RoI, and toy data with masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco
from torch import Tensor

from fast_rcnn.config import SamplingConfig, ScaleConfig
from faster_rcnn.config import AnchorConfig, LabelConfig, ProposalConfig, RPNConfig, RPNLossConfig
from mask_rcnn.config import MaskConfig, MaskDetectionConfig, NetworkConfig, PyramidConfig
from mask_rcnn.detector import Description, build
from mask_rcnn.network import MaskRCNN

SMALL = Description(
    "mask",
    "tiny",
    ("cat", "dog", "never"),
    ScaleConfig(train=(96,), test=(96,), longest=160),
    NetworkConfig(
        pyramid=PyramidConfig(finest=8, width=16, canonical_side=48.0),
        fc=32,
        mask=MaskConfig(convs=1, width=16, fc=32),
    ),
    RPNConfig(
        width=16,
        anchors=AnchorConfig(sizes=(16.0, 32.0, 64.0)),
        labels=LabelConfig(anchors=64, inside=False),
        loss=RPNLossConfig(scale="python"),
    ),
    ProposalConfig(before=200, after=30, least_side=4.0),
    MaskDetectionConfig(dtype="float32"),
)
TRAIN_PROPOSALS = ProposalConfig(before=300, after=60, least_side=4.0)
SAMPLING = SamplingConfig(images=2, rois=16, background_iou=(0.0, 0.5))


@torch.no_grad()
def lively(description: Description = SMALL) -> MaskRCNN:
    """The network of a description, the same every time, ready to detect."""
    torch.manual_seed(5)
    model = build(description)
    model.train_proposals, model.sampling = TRAIN_PROPOSALS, SAMPLING
    weights: dict[Tensor, float] = {
        model.rpn.conv.weight: 0.05,
        model.rpn.scores.weight: 0.5,
        model.rpn.offsets.weight: 0.1,
        model.predictor.scores.weight: 0.3,
        model.predictor.offsets.weight: 0.05,
    }
    for weight, deviation in weights.items():
        weight.normal_(std=deviation)
    if model.mask_head is not None:
        model.mask_head.logits.get_parameter("weight").normal_(std=0.5)
    return model.eval()


def ellipse(box: np.ndarray, height: int, width: int) -> np.ndarray:
    x1, y1, x2, y2 = box.tolist()
    across = (np.arange(width) + 0.5 - (x1 + x2) / 2) / (x2 - x1)
    down = (np.arange(height) + 0.5 - (y1 + y2) / 2) / (y2 - y1)
    return across**2 + down[:, None] ** 2 <= 0.25


def with_masks(data: Any, draw: Callable[[np.ndarray, int, int], np.ndarray] = ellipse) -> Any:
    """Toy data whose objects have masks: what `draw` makes of (box, height, width)."""
    records = []
    for record in data.train:
        masks = [draw(box, record.height, record.width) for box in record.boxes]
        runs = [coco.encode(np.asfortranarray(mask, np.uint8))["counts"] for mask in masks]
        records.append(dataclasses.replace(record, segmentations=tuple(runs)))
    return dataclasses.replace(data, train=records)
