"""torchvision's Faster and Mask R-CNN over MobileNetV2 with a feature pyramid, as it builds it over V3.

N images of a batch.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _mobilenet_extractor

from benchmarks.rivals.config import Stride
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.backbones.networks import classifier
from stages.backbones.weights import Weights, build_backbone

STAGES = 6  # of the trunk, each but the last begun by a stride; the last two are both at 1/32
STAGE_AT: dict[Stride, int] = {4: 1, 8: 2, 16: 3, 32: 4}
NEW = ("backbone.fpn.", "rpn.", "roi_heads.")  # prefixes of what no pre-training fills
# What `fasterrcnn_mobilenet_v3_large_fpn` has, all of it on each map.
ANCHOR_SIZES = (32, 64, 128, 256, 512)
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
RPN_SCORE = 0.05


def build(
    weights: Weights,
    classes: int,
    shorter: int,
    longest: int,
    finest_stride: Stride = 32,
    trainable_layers: int = 3,
    masks: bool = False,
) -> FasterRCNN:
    """The network, its new layers initialised from torch's global generator.

    Batch norm is frozen, also where torchvision would learn it: under random weights.

    Args:
        weights: of the classification network, in any form that `build_backbone` reads.
        classes: how many, without the background.
        shorter, longest, finest_stride, trainable_layers, masks: see `Config`.

    Raises:
        InputError: as `build_backbone`.

    Source: torchvision's `_fasterrcnn_mobilenet_v3_large_fpn`.
    """
    cut = build_backbone("mobilenet_v2", weights)
    freeze_batch_norm(cut, carry=False)  # as it comes
    network = classifier("mobilenet_v2")
    # Put together again what our papers cut in two.
    network.features = nn.Sequential(
        *cut.trunk.children(), *cut.head.get_submodule("blocks").children()
    )
    learning = STAGES if weights.path is None else trainable_layers
    returned = list(range(STAGE_AT[finest_stride], STAGES))
    backbone = _mobilenet_extractor(network, True, learning, returned)
    levels = len(returned) + 1  # and one more, pooled from the coarsest
    model = (MaskRCNN if masks else FasterRCNN)(
        backbone,
        classes + 1,
        min_size=shorter,
        max_size=longest,
        rpn_anchor_generator=AnchorGenerator((ANCHOR_SIZES,) * levels, (ANCHOR_RATIOS,) * levels),
        rpn_score_thresh=RPN_SCORE,
    )
    # torchvision makes anchors in the type of the maps and boxes in the type of the offsets. Under
    # autocast that is bfloat16, which knows only every fourth pixel beyond 512: even the objects' own
    # boxes would be rounded. So these give float32, and only multiply in bfloat16.
    parts = [model.backbone, model.rpn.head, model.roi_heads.box_predictor]
    if masks:
        parts.append(model.roi_heads.mask_predictor)
    for part in parts:
        part.register_forward_hook(_in_float32)
    return model


def _in_float32(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    """The same output, whose tensors are float32."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return type(output)((key, value.float()) for key, value in output.items())
    return type(output)(_in_float32(_module, _inputs, value) for value in output)


def to_float(image: Tensor) -> Tensor:
    """An image uint8 or float in [0, 1], as float32 in [0, 1]: torchvision's takes no other."""
    return image.float() / 255 if not image.is_floating_point() else image.float()
