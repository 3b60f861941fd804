"""Which images a network's weights expect: the order of their channels, their range, mean and deviation."""

from __future__ import annotations

from dataclasses import dataclass

Channels = tuple[float, float, float]

# What torchvision's weights expect: RGB in [0, 1], less this mean, over this deviation.
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalisation:
    """What is done to an image before it goes into the network.

    Attributes:
        mean, std: per channel, in RGB order whatever the weights' is, of pixels in [0, 1].
        bgr: whether the weights' first layer takes blue first. Images here are RGB everywhere, so it
            is that layer's weights that are turned round, once, when they are loaded.
    """

    mean: Channels
    std: Channels
    bgr: bool = False


TORCHVISION = Normalisation(IMAGENET_MEAN, IMAGENET_STD)
# The released Caffe codes' (py-faster-rcnn's PIXEL_MEANS): 0 to 255, in no deviation's units.
CAFFE = Normalisation((122.7717 / 255, 115.9465 / 255, 102.9801 / 255), (1 / 255,) * 3, bgr=True)
TF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# By the name that the command line and files of weights call them.
NORMALISATIONS = {"caffe": CAFFE, "torchvision": TORCHVISION, "tf": TF}
IN_WORDS = {
    "caffe": "BGR, 0 to 255, less a mean",
    "torchvision": "RGB, 0 to 1, less ImageNet's mean, over its deviation",
    "tf": "RGB, -1 to 1",
}
