"""A finished detector of torchvision's on disk, and behind the call that all our detectors answer.

n detections in an image.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.rivals.config import Kind, Stride
from benchmarks.rivals.torchvision_detectors import Network, build, find
from fast_rcnn.detector import LARGEST
from stages.backbones.weights import Weights, load_built
from stages.device import DType, autocast, choose_dtype
from stages.errors import InputError
from stages.stopwatch import OFF, Stopwatch
from stages.typed_json import read_typed
from stages.writing import replacing

Paper = Literal["torchvision-faster", "torchvision-mask", "ssd", "retinanet"]

FASTER: Paper = "torchvision-faster"
MASK: Paper = "torchvision-mask"
SSD: Paper = "ssd"
RETINANET: Paper = "retinanet"
PAPERS: dict[Kind, Paper] = {"faster": FASTER, "mask": MASK, "ssd": SSD, "retinanet": RETINANET}
WHAT = "a finished detector of torchvision's"
KINDS = {paper: kind for kind, paper in PAPERS.items()}


@dataclass(frozen=True)
class Description:
    """What `model.json` says: all that is needed to build the detector again.

    Attributes:
        shorter, longest: in pixels of the resized image; of SSD's square the same.
    """

    paper: Paper
    classes: tuple[str, ...]
    shorter: int
    longest: int
    finest_stride: Stride
    dtype: DType


class Detector(nn.Module):
    """torchvision's network, image by image, timed by part.

    Args:
        network: on its device, ready to detect.
        classes: its classes' names, the background not among them.
        dtype: "bfloat16": it multiplies under autocast.
    """

    def __init__(self, network: Network, classes: Sequence[str], dtype: str) -> None:
        super().__init__()
        self.network = network
        self.classes = tuple(classes)
        self.dtype = dtype
        self.watch: Stopwatch = OFF

    @torch.inference_mode()
    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Detections of each image, which do not depend on the others.

        Args:
            images: each [3, H, W], uint8 or float in [0, 1], RGB.

        Returns:
            for each image `boxes` float32 [n, 4], `labels` int64 [n], `scores` float32 [n], best first,
            and of Mask R-CNN `masks` bool [n, H, W].
        """
        device = next(self.network.parameters()).device
        with autocast(device.type, self.dtype):
            return [find(self.network, image.to(device), self.watch) for image in images]


def save(folder: Path, description: Description, state: dict[str, Tensor]) -> None:
    """Write a detector that `load` reads.

    Args:
        state: of torchvision's network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(dataclasses.asdict(description), indent=1))
    with replacing(folder / "weights.pt") as file:
        torch.save(state, file)


def load(folder: Path, device: str) -> Detector:
    """A saved detector, on `device`, ready to detect.

    Raises:
        InputError: naming the file that is missing or broken.
    """
    about = read_description(folder / "model.json")
    network = load_built(
        lambda: build(
            KINDS[about.paper],
            Weights(None, "random"),
            len(about.classes),
            about.shorter,
            about.longest,
            about.finest_stride,
        ),
        folder / "weights.pt",
        f"{folder / 'model.json'}: not of {WHAT}",
    )
    network.eval().requires_grad_(False).to(device)
    dtype = choose_dtype(about.dtype, device)
    if dtype == "bfloat16":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Detector(network, about.classes, dtype).eval()


def read_description(path: Path) -> Description:
    """What `model.json` says.

    Raises:
        InputError: it is missing, or says something else.
    """
    description = read_typed(path, Description, WHAT)
    sides = (description.shorter, description.longest)
    if not description.classes or min(sides) < 1 or max(sides) > LARGEST:
        raise InputError(
            f"{path}: not of {WHAT}: no classes, or a side that is not 1 to {LARGEST} pixels"
        )
    if description.paper == SSD and description.shorter != description.longest:
        raise InputError(f"{path}: not of {WHAT}: SSD's image is no square")
    return description
