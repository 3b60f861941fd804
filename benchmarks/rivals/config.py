"""What torchvision's own detectors are trained by: its defaults, on the data our papers are trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stages.backbones.config import BackboneConfig, PretrainConfig
from stages.data.load import DataConfig
from stages.data.shapes import ShapesConfig
from stages.device import DType
from stages.errors import InputError
from stages.training.sgd import SGDConfig

Kind = Literal["faster", "mask", "ssd", "retinanet"]
Stride = Literal[4, 8, 16, 32]

TITLES: dict[Kind, str] = {
    "faster": "torchvision's Faster R-CNN",
    "mask": "torchvision's Mask R-CNN",
    "ssd": "torchvision's SSD",
    "retinanet": "torchvision's RetinaNet",
}
# Of the first map. 32 is what torchvision makes of a MobileNet for its R-CNNs: two maps, both at that
# stride. 8 is RetinaNet's P3 (section 4). SSD's is what its trunk has.
OWN_STRIDES: dict[Kind, Stride] = {"faster": 32, "mask": 32, "ssd": 16, "retinanet": 8}


# Of SSD's image, in pixels: the last of its six maps is then made from one of more than a cell. From a
# single cell, oneDNN's gradient of a strided 3x3 convolution in bfloat16 reads memory that nobody wrote
# (PyTorch 2.11 on a CPU with AVX-512): now and then it is not finite.
LEAST_SQUARE = 257


@dataclass(frozen=True)
class Config:
    """All of a detector of torchvision's that is not torchvision's default.

    Attributes:
        kind: Faster R-CNN, Mask R-CNN, SSD or RetinaNet.
        backbone: its name is `mobilenet_v2`; no other is built here.
        difficult: whether VOC's difficult objects are learnt.
        shorter, longest: side in pixels of the resized image, in training and test; as our papers'
            (torchvision: 800 and 1333). Not SSD's.
        square: side in pixels of the square that SSD resizes an image to, whatever its shape was (its
            section 3; 512 is its other). `LEAST_SQUARE` or more.
        finest_stride: of the pyramid's maps, in pixels of the resized image; None: the kind's own, see
            `OWN_STRIDES`. SSD has no other.
        trainable_layers: stages of the trunk that learn, counted from its end, of six; all where the
            weights are random. (torchvision's SSDLite: six.)
        images: of a step.
        mirror: whether every other image by chance is mirrored.
        sgd: the schedule. Its default is that of torchvision's references (0.02 for 16 images a step,
            26 epochs, a tenth after 16 and again after 22), for 2 images and VOC 2007's 5,011. Their
            RetinaNet learns at half the rate: `--sgd.lr 1.25e-3`. Their SSD learns of 32 images a step,
            120 epochs long: `--images 32 --sgd.lr 2e-3 --sgd.weight-decay 5e-4 --sgd.iterations 18800
            --sgd.lr-steps 12500 17200`; and of random crops and colours (SSD, section 2.2), which our
            loop has for none of the kinds.
        clip_norm: a longer gradient is shortened to this length; torchvision's references do not. Over
            MobileNet its Mask R-CNN took one outlier's step at iteration 334 and diverged.
        new_layer_factor: how much faster learns what no pre-training fills: pyramid or extra layers, RPN
            and heads.
        dtype: of the network in detection; "auto": as our papers', so that a plot of speeds compares
            detectors; "float32": as torchvision's come.
    """

    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(name="mobilenet_v2"))
    kind: Kind = "faster"
    difficult: bool = False
    shorter: int = 600
    longest: int = 1000
    square: int = 300
    finest_stride: Stride | None = None
    trainable_layers: Literal[0, 1, 2, 3, 4, 5, 6] = 3
    images: int = 2
    mirror: bool = True
    sgd: SGDConfig = field(
        default_factory=lambda: SGDConfig(
            lr=2.5e-3,
            iterations=65_000,
            lr_steps=(40_000, 55_000),
            weight_decay=1e-4,
            warmup=1000,
        )
    )
    new_layer_factor: float = 1.0
    clip_norm: float | None = None
    dtype: DType = "auto"


def check(config: Config) -> None:
    """Before anything is trained.

    Raises:
        InputError: the network is not built here, or there would be nothing to learn from.
    """
    if config.backbone.name != "mobilenet_v2":
        raise InputError(
            f"BACKBONE={config.backbone.name}: torchvision's detectors are built on mobilenet_v2 only"
        )
    if config.clip_norm is not None and not config.clip_norm > 0:
        raise InputError(f"--clip-norm {config.clip_norm}: takes more than 0")
    for option, value in (
        ("--shorter", config.shorter),
        ("--longest", config.longest),
        ("--square", config.square),
        ("--images", config.images),
    ):
        if value < 1:
            raise InputError(f"{option} {value}: takes 1 or more")
    if config.kind == "ssd" and config.square < LEAST_SQUARE:
        raise InputError(f"--square {config.square}: SSD's six maps need {LEAST_SQUARE} or more")
    if config.kind == "ssd" and stride_of(config) != OWN_STRIDES["ssd"]:
        raise InputError(f"--finest-stride {config.finest_stride}: of SSD it is 16")


def sides_of(config: Config) -> tuple[int, int]:
    """In pixels of the resized image: how long its shorter side is, and how long its longer at most.

    Of SSD's square both the same.
    """
    if config.kind == "ssd":
        return config.square, config.square
    return config.shorter, config.longest


def stride_of(config: Config) -> Stride:
    """Of the finest map: as asked for, or the kind's own."""
    return config.finest_stride or OWN_STRIDES[config.kind]


PRESETS = {
    "paper": Config(),
    # With Fast R-CNN's drawn data and size of them; minutes on two cores.
    "small": Config(
        data=DataConfig(shapes=ShapesConfig(train=260, test=100)),
        shorter=576,
        square=512,
        sgd=SGDConfig(lr=5e-3, iterations=400, lr_steps=(300,), weight_decay=1e-4, warmup=50),
    ),
    # Seconds: every stage runs, nothing is learnt. For tests.
    "micro": Config(
        data=DataConfig(shapes=ShapesConfig(train=8, test=4, width=128, height=96)),
        backbone=BackboneConfig(
            name="mobilenet_v2",
            weights="none",
            pretrain=PretrainConfig(objects=64, held_out=16, sgd=SGDConfig(lr=0.02, iterations=4)),
        ),
        shorter=96,
        square=LEAST_SQUARE,
        sgd=SGDConfig(lr=1e-3, iterations=3),
    ),
}
