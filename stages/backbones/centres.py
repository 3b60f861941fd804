"""Where in the image a trunk's cells look.

A cell's centre is the middle of the pixels that it sees. Centres stand `Backbone.stride` apart; where the
first one is follows from the padding. It is given in continuous pixels from the image's edge: pixel i's own
centre is at i + 0.5. Layers padded by half their filter keep it on the first pixel. Fast and Faster R-CNN's
released CaffeNet and ZF are padded so: cell i looks at pixel 16 i, and RoI pooling may take x / 16.
torchvision's AlexNet and SqueezeNet pad less. `Backbone.shift` is how much further right and down than the
released network's their cells look, and what pooling takes off a box:

    network        here  released                          shift
    tiny            0.5  none: its own                         0
    alexnet        15.5  0.5, CaffeNet's                      15
    squeezenet1_1  15.5  0.5, CaffeNet's, which it stands for 15
    vgg16           8.0  8.0, its own                          0
    mobilenet_v2    0.5  none: its own                         0
    resnet18        0.5  none: its own                         0
    resnet50        0.5  0.5, its own (Mask R-CNN)             0

VGG16's 8.0 comes from its poolings of 2x2; the released code takes x / 16 with it too, and so do we.
SPPnet does not pool at x / 16: `spp_net.projection` takes the first centre itself.
"""

from __future__ import annotations

from torch import nn

SIDE_PATHS = ("downsample",)  # a residual block's second way, as long as its first


def first_centre(trunk: nn.Module) -> float:
    """Where the centre of the map's first cell lies, in continuous pixels from the image's edge.

    Args:
        trunk: layers in the order of their use, side by side only where all ways are as long. One map comes
            out of it.
    """
    centre, stride = 0.5, 1
    for name, module in trunk.named_modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d)) and not _beside(name):
            size, step, padding = (
                value if isinstance(value, int) else int(value[0])
                for value in (module.kernel_size, module.stride, module.padding)
            )
            centre += ((size - 1) / 2 - padding) * stride
            stride *= step
    return centre


def _beside(name: str) -> bool:
    return any(part in SIDE_PATHS for part in name.split("."))
