"""torchvision's Faster and Mask R-CNN over MobileNetV2 with a feature pyramid, as it builds it over V3.

n detections in an image of H by W.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _mobilenet_extractor
from torchvision.models.detection.image_list import ImageList

from benchmarks.rivals.config import Stride
from benchmarks.rivals.trunk import (
    STAGE_AT,
    STAGES,
    Transform,
    give_float32,
    learning_stages,
    mobilenet,
)
from stages.backbones.weights import Weights
from stages.stopwatch import Stopwatch

# What `fasterrcnn_mobilenet_v3_large_fpn` has, all of it on each map.
ANCHOR_SIZES = (32, 64, 128, 256, 512)
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
RPN_SCORE = 0.05
THRESHOLD = 0.5  # of a mask's probabilities; torchvision leaves it to the user


def build_two_stage(
    weights: Weights,
    classes: int,
    shorter: int,
    longest: int,
    finest_stride: Stride,
    trainable_layers: int,
    masks: bool,
) -> FasterRCNN:
    """The network, its new layers initialised from torch's global generator.

    Args:
        weights: of the classification network, in any form that `build_backbone` reads.
        classes: how many, without the background.
        shorter, longest, finest_stride, trainable_layers: see `Config`.
        masks: whether it is Mask R-CNN.

    Raises:
        InputError: as `build_backbone`.

    Source: torchvision's `_fasterrcnn_mobilenet_v3_large_fpn`.
    """
    returned = list(range(STAGE_AT[finest_stride], STAGES))
    learning = learning_stages(weights, trainable_layers)
    network, cut = mobilenet(weights)
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
    model.transform = Transform(model.transform, cut.mean, cut.std)
    give_float32(model.backbone, model.rpn.head, model.roi_heads.box_predictor)
    if masks:
        give_float32(model.roi_heads.mask_predictor)
        # torchvision's rule for ReLUs starts logits of 20 over MobileNet's large maps, and training
        # diverged within 50 steps; this is Detectron's start.
        nn.init.normal_(model.roi_heads.mask_predictor.mask_fcn_logits.weight, std=0.001)
    return model


def find_in_two_stages(
    network: FasterRCNN,
    batch: ImageList,
    maps: Mapping[str, Tensor],
    size: tuple[int, int],
    watch: Stopwatch,
) -> dict[str, Tensor]:
    """What torchvision's own call does after the convolutions, taken apart for the watch.

    Args:
        batch: one image, resized; maps: its pyramid.
        size: H and W of the image as it was.

    Returns:
        `boxes`, `labels`, `scores` of n detections and of Mask R-CNN `masks` bool [n, H, W].
    """
    with watch("RPN"):
        proposals, _ = network.rpn(batch, maps)
    with watch("RoI heads"):
        found, _ = network.roi_heads(maps, proposals, batch.image_sizes)
    with watch("pasting"):
        result: dict[str, Tensor]
        (result,) = network.transform.postprocess(found, batch.image_sizes, [size])
        if "masks" in result:
            result["masks"] = result["masks"][:, 0] >= THRESHOLD
    return result
