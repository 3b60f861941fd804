"""The finished R-CNN: proposals, a network, SVMs and box regressors behind torchvision's call.

R windows of an image, K classes, D features, n detections.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rcnn_v1.config import DetectionConfig
from rcnn_v1.extract import Extractor, WindowNetwork
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from stages.boxes import clip, decode
from stages.device import DType, choose_dtype
from stages.errors import InputError, one_line
from stages.proposals.propose import propose
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.stopwatch import OFF, Stopwatch
from stages.suppress import suppress
from stages.tensor_files import refuse_compressed
from stages.typed_json import read_typed
from stages.writing import replacing


@dataclass(frozen=True)
class DetectorDescription:
    """What `model/model.json` says of any detector whose network's features go to SVMs."""

    paper: str
    backbone: Name
    classes: tuple[str, ...]
    layer: str
    dtype: DType
    top: int | None
    proposals: SelectiveSearchConfig
    detection: DetectionConfig


@dataclass(frozen=True)
class Description(DetectorDescription):
    """R-CNN's: all that is needed to build it again."""

    context: float


class RCNN(nn.Module):
    """R-CNN at test time (section 2.2), and SPPnet, which has another network.

    Args:
        network: the frozen feature extractor, which looks at an image.
        svms: `weights` [K, D], `bias` [K], `scale`; see `train_svms`.
        regressors: `weights` [K, 4, P], `bias` [K, 4]; see `train_box_regressors`.
    """

    svm_weights: Tensor
    svm_bias: Tensor
    box_weights: Tensor
    box_bias: Tensor

    def __init__(
        self,
        description: DetectorDescription,
        network: Extractor[Tensor],
        svms: dict[str, np.ndarray],
        regressors: dict[str, np.ndarray],
    ) -> None:
        super().__init__()
        self.description = description
        self.network = network
        self.backbone = network.backbone  # registered, so that `state_dict` holds it
        self.classes = description.classes
        self.watch: Stopwatch = OFF
        device = network.device
        for name, value in (
            ("svm_weights", svms["weights"] * svms["scale"]),
            ("svm_bias", svms["bias"]),
            ("box_weights", regressors["weights"].reshape(-1, regressors["weights"].shape[-1])),
            ("box_bias", regressors["bias"]),
        ):
            self.register_buffer(name, torch.from_numpy(np.asarray(value, np.float32)).to(device))

    def forward(
        self, images: Sequence[Tensor], proposals: Sequence[Tensor] | None = None
    ) -> list[dict[str, Tensor]]:
        """Detect.

        Args:
            images: each [3, H, W], uint8 or float in [0, 1], RGB.
            proposals: each float [R, 4] xyxy; without them selective search makes them, on the CPU.

        Returns:
            for each image `boxes` float32 [n, 4], `labels` int64 [n], `scores` float32 [n] (the
            SVMs' margins, not probabilities), best first.
        """
        results = []
        for index, image in enumerate(images):
            boxes = self.propose(image) if proposals is None else proposals[index]
            scores, moved = self.score(image, boxes)
            results.append(self.suppress(scores, moved))
        return results

    def propose(self, image: Tensor) -> Tensor:
        """Selective search's best boxes, float32 [R, 4]."""
        with self.watch("proposals"):
            return propose(image, self.description.proposals, self.description.top)

    @torch.inference_mode()
    def score(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Every window's SVM scores, [R, K], and its box moved by each class's regressor, [R, K, 4]."""
        device = self.network.device
        boxes = boxes.to(device)
        classes = len(self.classes)
        scores, offsets = [boxes.new_zeros(0, classes)], [boxes.new_zeros(0, classes, 4)]
        for pooled in self.network.pooled(image, boxes, self.watch):
            with self.watch("head"):
                features = self.network.until(self.description.layer, pooled)
            with self.watch("SVMs and boxes"):
                # Both were learnt from half-precision features, and are computed in single.
                scores.append(features.half().float() @ self.svm_weights.T + self.svm_bias)
                raw = pooled.flatten(1).half().float() @ self.box_weights.T
                offsets.append(raw.unflatten(1, (classes, 4)) + self.box_bias)
        with self.watch("SVMs and boxes"):
            moved = clip(decode(boxes[:, None], torch.cat(offsets)), image.shape[1], image.shape[2])
        return torch.cat(scores), moved

    @torch.inference_mode()
    def suppress(self, scores: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """The detections among scored boxes: the best of each class, then greedy suppression.

        Args:
            scores: [R, K]; boxes: [R, K, 4], already clipped.
        """
        with self.watch("NMS"):
            limits = self.description.detection
            return suppress(scores, boxes, limits.per_class, limits.nms_iou)


def save(
    folder: Path,
    description: DetectorDescription,
    weights: dict[str, Tensor],
    svms: dict[str, np.ndarray],
    regressors: dict[str, np.ndarray],
) -> None:
    """Write a detector that `load` reads: `model.json`, `weights.pt`, `svms.npz`, `regressors.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(dataclasses.asdict(description), indent=1))
    with replacing(folder / "weights.pt") as file:
        torch.save(weights, file)
    np.savez(folder / "svms.npz", **svms)  # type: ignore[arg-type]
    np.savez(folder / "regressors.npz", **regressors)  # type: ignore[arg-type]


def load(folder: Path, device: str) -> RCNN:
    """A saved detector, on `device`.

    Raises:
        InputError: naming the file that is missing or broken.
    """
    description = read_typed(folder / "model.json", Description, "a finished R-CNN")
    check_description(description, folder / "model.json")
    if not 0 <= description.context < 0.5:  # of the frame, on each side
        raise InputError(f"{folder / 'model.json'}: not of a finished R-CNN: no frame for a box")
    backbone = build_backbone(description.backbone, Weights(folder / "weights.pt", ""))
    network = WindowNetwork(
        backbone,
        device,
        choose_dtype(description.dtype, device),
        description.context,
        description.detection.batch,
    )
    pooled = (backbone.channels, backbone.roi_size, backbone.roi_size)
    return RCNN(description, network, *read_parts(folder, description, network, pooled))


def read_parts(
    folder: Path,
    description: DetectorDescription,
    network: Extractor[Tensor],
    pooled_shape: tuple[int, ...],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A saved detector's SVMs and regressors.

    Args:
        pooled_shape: of one window, as the network's `until` takes it.

    Raises:
        InputError: naming the file that is missing or broken, or does not fit the network.
    """
    weight = next(network.backbone.head.parameters())
    pooled = torch.zeros(1, *pooled_shape, dtype=weight.dtype, device=weight.device)
    try:
        with torch.inference_mode():
            width = network.until(description.layer, pooled).shape[1]
    except ValueError as error:  # no such layer
        raise InputError(f"{folder / 'model.json'}: {error}") from None
    k = len(description.classes)
    svms = {"weights": (k, width), "bias": (k,), "scale": ()}
    regressors = {"weights": (k, 4, network.pooled_size), "bias": (k, 4)}
    return _read_arrays(folder / "svms.npz", svms), _read_arrays(
        folder / "regressors.npz", regressors
    )


def check_description(description: DetectorDescription, path: Path) -> None:
    """Refuse numbers that nothing is detected with.

    Raises:
        InputError: naming the file.
    """
    limits, top = description.detection, description.top
    if (
        min(limits.batch, limits.per_class, 1 if top is None else top) < 1
        or not description.classes
    ):
        raise InputError(f"{path}: not of a finished detector: a number below 1, or no classes")


def _read_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Arrays of finite real numbers, by name.

    Raises:
        InputError: the file cannot be read, or one of them is of another shape.
    """
    try:
        refuse_compressed(path)
        with np.load(path) as file:
            arrays = {name: file[name] for name in shapes}
    except Exception as error:  # NumPy fails on rubbish in every way there is
        raise InputError(f"{path}: not of a finished detector: {one_line(error)[:200]}") from None
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind not in "fiu":
            raise InputError(
                f"{path}: {name}: shape {array.shape} of {array.dtype}, not {shape} of numbers"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name}: not finite")
    return arrays
