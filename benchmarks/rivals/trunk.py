"""MobileNetV2 as torchvision's detectors take it: whole, its batch norm frozen."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from benchmarks.rivals.config import Stride
from stages.backbones.backbone import Backbone, normalise
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.backbones.networks import classifier
from stages.backbones.weights import Weights, build_backbone

STAGES = 6  # of the trunk, each but the last begun by a stride; the last two are both at 1/32
STAGE_AT: dict[Stride, int] = {4: 1, 8: 2, 16: 3, 32: 4}


class Transform(GeneralizedRCNNTransform):
    """torchvision's, whose mean and deviation are saved with the weights that expect them.

    Args:
        given: torchvision's, with the sizes; mean, std: [3, 1, 1], RGB, of pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, given: GeneralizedRCNNTransform, mean: Tensor, std: Tensor) -> None:
        super().__init__(
            given.min_size,
            given.max_size,
            mean.flatten().tolist(),
            std.flatten().tolist(),
            given.size_divisible,
            given.fixed_size,
        )
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def normalize(self, image: Tensor) -> Tensor:
        """Float [3, H, W] in [0, 1] as the weights expect it; called by torchvision."""
        return normalise(image, self.mean, self.std)


def mobilenet(weights: Weights) -> tuple[nn.Module, Backbone]:
    """torchvision's classification network with its weights, in one piece, and ours, which knows its images.

    Batch norm is frozen, also where torchvision would learn it: under random weights.

    Args:
        weights: in any form that `build_backbone` reads.

    Raises:
        InputError: as `build_backbone`.
    """
    cut = build_backbone("mobilenet_v2", weights)
    freeze_batch_norm(cut, carry=False)  # as it comes
    network = classifier("mobilenet_v2")
    # Put together again what our papers cut in two.
    network.features = nn.Sequential(
        *cut.trunk.children(), *cut.head.get_submodule("blocks").children()
    )
    return network, cut


def learning_stages(weights: Weights, trainable_layers: int) -> int:
    """How many of the trunk's stages learn, counted from its end: all where its weights are random."""
    return STAGES if weights.path is None else trainable_layers


def give_float32(*parts: nn.Module) -> None:
    """Have parts of a network give float32, also where autocast has them multiply in bfloat16.

    torchvision makes anchors in the type of the maps and boxes in the type of the offsets. Under
    autocast that is bfloat16, which knows only every fourth pixel beyond 512: even the objects' own
    boxes would be rounded.
    """
    for part in parts:
        part.register_forward_hook(_in_float32)


def _in_float32(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    """The same output, whose tensors are float32."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return type(output)((key, value.float()) for key, value in output.items())
    return type(output)(_in_float32(_module, _inputs, value) for value in output)
