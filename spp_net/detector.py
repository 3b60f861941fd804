"""The finished SPPnet: R-CNN's detector around another network (SPPnet, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rcnn_v1.detector import RCNN, DetectorDescription, check_description, read_parts
from spp_net.config import PyramidConfig
from spp_net.network import PyramidNetwork, check_backbone
from stages.errors import InputError
from stages.typed_json import read_typed

LARGEST = 2**13  # side of an image, in pixels: VGG16 needs gigabytes for it


@dataclass(frozen=True)
class Description(DetectorDescription):
    """All that is needed to build an SPPnet again."""

    pyramid: PyramidConfig


def load(folder: Path, device: str) -> RCNN:
    """A saved detector (see `rcnn_v1.detector.save`), on `device`.

    Raises:
        InputError: naming the file that is missing or broken.
    """
    description, network = load_network(folder, device)
    return RCNN(
        description, network, *read_parts(folder, description, network, (network.pooled_size,))
    )


def load_network(folder: Path, device: str) -> tuple[Description, PyramidNetwork]:
    """What a saved detector says of itself, and its network.

    Raises:
        InputError: naming the file that is missing or broken.
    """
    path = folder / "model.json"
    description = read_typed(path, Description, "a finished SPPnet")
    check_description(description, path)
    pyramid = description.pyramid
    sides = [*pyramid.scales, pyramid.longest, *pyramid.levels]
    sides += [] if pyramid.window_side is None else [pyramid.window_side]
    if not (pyramid.scales and pyramid.levels) or min(sides) < 1 or max(sides) > LARGEST:
        raise InputError(f"{path}: not of a finished SPPnet: pyramid: sides of 1 to {LARGEST}")
    check_backbone(description.backbone)
    network = PyramidNetwork.load(
        description.backbone,
        folder / "weights.pt",
        device,
        description.dtype,
        description.pyramid,
        description.detection.batch,
    )
    return description, network
