"""torchvision's SSD over MobileNetV2: default boxes on six maps of one square image.

The paper: Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg, "SSD: Single Shot MultiBox Detector", ECCV 2016
(arXiv 1512.02325). On a MobileNet its layers are SSDLite's: Sandler, Howard, Zhu, Zhmoginov, Chen,
"MobileNetV2", CVPR 2018 (arXiv 1801.04381), section 6.2. n detections in an image of H by W.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _mobilenet_extractor
from torchvision.ops.misc import Conv2dNormActivation

from benchmarks.rivals.trunk import Transform, give_float32, learning_stages, mobilenet
from stages.backbones.weights import Weights
from stages.stopwatch import Stopwatch

# Of `ssd300_vgg16`: on each map, finest first, ratios beside 1; and sides of the boxes as parts of the
# image's, the last for what lies between it and the one before. SSDLite's own begin at a fifth.
RATIOS = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
SCALES = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
FIRST = 0.003  # standard deviation of the predictors' weights: logits of about a tenth
C4 = 14  # the trunk's block that begins stride 32: its expansion is the last map at stride 16


def build_ssd(weights: Weights, classes: int, square: int, trainable_layers: int) -> SSD:
    """The network, its new layers initialised from torch's global generator.

    Maps as SSDLite's: the expansion at stride 16, the trunk's last at 32, and four extra layers' of half
    the side each. Where torchvision's extra layers and heads have batch norms, which the few images of our
    steps would spoil, these have biases. Thresholds, NMS and hard negatives are `SSD`'s defaults.

    Args:
        weights: of the classification network, in any form that `build_backbone` reads.
        classes: how many, without the background.
        square, trainable_layers: see `Config`.

    Raises:
        InputError: as `build_backbone`.

    Source: torchvision's `ssdlite320_mobilenet_v3_large`.
    """
    network, cut = mobilenet(weights)
    # MobileNetV3's blocks call `block` what V2's call `conv`.
    first = network.get_submodule(f"features.{C4}")
    first.block = first.conv
    learning = learning_stages(weights, trainable_layers)
    backbone = _mobilenet_extractor(network, learning, None)  # type: ignore[arg-type]
    boxes = DefaultBoxGenerator(RATIOS, scales=SCALES)
    channels = retrieve_out_channels(backbone, (square, square))
    head = SSDLiteHead(channels, boxes.num_anchors_per_location(), classes + 1, None)  # type: ignore[arg-type]
    for part in (backbone.extra, head):
        _initialise(part)
    _predict_little_at_first(head)
    model = SSD(backbone, boxes, (square, square), classes + 1, head=head)
    model.transform = Transform(model.transform, cut.mean, cut.std)
    give_float32(model.backbone, model.head)
    return model


def _initialise(part: nn.Module) -> None:
    """So that maps keep their size on the way: torchvision's 0.03 leaves that to the batch norms."""
    for layer in part.modules():
        if isinstance(layer, Conv2dNormActivation):
            nn.init.kaiming_normal_(layer[0].weight, nonlinearity="relu")


def _predict_little_at_first(head: SSDLiteHead) -> None:
    """So that no class is ahead at the start: torchvision's 0.03 leaves that to the batch norms, too.

    Without them its logits are about 1 on the trunk's 1,280 channels, the loss is twice that of equal
    chances and its gradient in the hundreds: after 40 steps every channel was 0 for any image.
    """
    for predictor in head.modules():
        if isinstance(predictor, nn.Conv2d) and predictor.groups == 1:
            nn.init.normal_(predictor.weight, std=FIRST)


def find_by_ssd(
    network: SSD,
    batch: ImageList,
    maps: Mapping[str, Tensor],
    size: tuple[int, int],
    watch: Stopwatch,
) -> dict[str, Tensor]:
    """What torchvision's own call does after the convolutions, taken apart for the watch.

    Args:
        batch: one image, resized; maps: the six.
        size: H and W of the image as it was.

    Returns:
        `boxes`, `labels`, `scores` of n detections.
    """
    levels = list(maps.values())
    with watch("heads"):
        outputs = network.head(levels)
    with watch("NMS"):
        boxes = network.anchor_generator(batch, levels)
        found = network.postprocess_detections(outputs, boxes, batch.image_sizes)
        result: dict[str, Tensor]
        (result,) = network.transform.postprocess(found, batch.image_sizes, [size])
    return result
