"""torchvision's RetinaNet over MobileNetV2: two heads on every cell of a pyramid, and the focal loss.

The paper: Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", ICCV 2017 (arXiv
1708.02002). n detections in an image of H by W.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _mobilenet_extractor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

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

WIDTH = 256  # channels of the pyramid
ANCHOR_RATIOS = (0.5, 1.0, 2.0)


def build_retinanet(
    weights: Weights,
    classes: int,
    shorter: int,
    longest: int,
    finest_stride: Stride,
    trainable_layers: int,
) -> RetinaNet:
    """The network, its new layers initialised from torch's global generator.

    A map for each stride from the finest to 32, the last from the trunk's last layer, and P6 and P7
    on top (section 4, "Feature Pyramid Network Backbone"): from stride 8 on the paper's five. Every
    part but the trunk is as in torchvision's `retinanet_resnet50_fpn`.

    Args:
        weights: of the classification network, in any form that `build_backbone` reads.
        classes: how many, without the background.
        shorter, longest, finest_stride, trainable_layers: see `Config`.

    Raises:
        InputError: as `build_backbone`.
    """
    returned = [*range(STAGE_AT[finest_stride], STAGE_AT[32]), STAGES - 1]
    network, cut = mobilenet(weights)
    backbone = _mobilenet_extractor(
        network,
        True,
        learning_stages(weights, trainable_layers),
        returned,
        LastLevelP6P7(WIDTH, WIDTH),
    )
    strides = [finest_stride * 2**level for level in range(len(returned) + 2)]
    model = RetinaNet(
        backbone,
        classes + 1,
        min_size=shorter,
        max_size=longest,
        anchor_generator=AnchorGenerator(
            tuple(anchor_sizes(stride) for stride in strides), (ANCHOR_RATIOS,) * len(strides)
        ),
    )
    model.transform = Transform(model.transform, cut.mean, cut.std)
    give_float32(model.backbone, model.head)
    return model


def anchor_sizes(stride: int) -> tuple[int, int, int]:
    """Sides in pixels of the squares of a map's anchors: three to an octave, the first 4 strides."""
    return (4 * stride, int(4 * stride * 2 ** (1 / 3)), int(4 * stride * 2 ** (2 / 3)))


def find_by_retinanet(
    network: RetinaNet,
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
        `boxes`, `labels`, `scores` of n detections.
    """
    levels = list(maps.values())
    with watch("heads"):
        outputs = network.head(levels)
    with watch("NMS"):
        (anchors,) = network.anchor_generator(batch, levels)
        of_a_cell = network.anchor_generator.num_anchors_per_location()[0]
        counts = [of_a_cell * level.shape[-2] * level.shape[-1] for level in levels]
        by_level = {name: list(values.split(counts, dim=1)) for name, values in outputs.items()}
        found = network.postprocess_detections(
            by_level, [list(anchors.split(counts))], batch.image_sizes
        )
        result: dict[str, Tensor]
        (result,) = network.transform.postprocess(found, batch.image_sizes, [size])
        # torchvision's has a score for the background too, which no object ever taught it.
        objects = result["labels"] > 0
        return {name: values[objects] for name, values in result.items()}
