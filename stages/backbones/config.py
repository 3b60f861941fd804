"""Which backbone, and where its weights come from. Light to import: no network is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stages.training.sgd import SGDConfig

Name = Literal["tiny", "squeezenet1_1", "mobilenet_v2", "alexnet", "vgg16", "resnet18", "resnet50"]
Expected = Literal["auto", "caffe", "torchvision", "tf"]


@dataclass(frozen=True)
class PretrainConfig:
    """How a backbone learns to classify drawn objects.

    Attributes:
        objects: different ones drawn to learn from; each is seen mirrored too.
        held_out: others, drawn to measure the accuracy on.
        batch: objects a step.
        sgd: the schedule.
        seed: of the objects, which come from another stream than any data set's scenes.
    """

    objects: int = 10_000
    held_out: int = 500
    batch: int = 64
    sgd: SGDConfig = field(
        default_factory=lambda: SGDConfig(lr=0.05, iterations=750, lr_steps=(500, 680), warmup=50)
    )
    seed: int = 1


@dataclass(frozen=True)
class BackboneConfig:
    """Which network, and what it knows at the start.

    Attributes:
        name: the network.
        weights: "default" (torchvision's ImageNet weights, downloaded; for `tiny`: "drawn"),
            "drawn" (pre-trained by us to classify drawn objects), "none" (random), or a file, .pth or
            .safetensors: a state dict of torchvision's network or of our backbone.
        pretrain: how "drawn" is trained.
        normalisation: of the images that the weights expect: "caffe" (BGR, 0 to 255, less a mean),
            "torchvision" (RGB, 0 to 1, less ImageNet's mean, over its deviation), "tf" (RGB, -1 to 1);
            "auto": what the file says, else torchvision's.
    """

    name: Name = "tiny"
    weights: str = "default"
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    normalisation: Expected = "auto"
