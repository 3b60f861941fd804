"""SSD is torchvision's, on the maps of SSDLite and the default boxes of SSD, and stays float32 there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _mobilenet_extractor
from torchvision.ops.misc import FrozenBatchNorm2d

from benchmarks.rivals.ssd import RATIOS, SCALES
from benchmarks.rivals.torchvision_detectors import Network, build
from benchmarks.rivals.train import losses_of
from stages.backbones.weights import Weights

RANDOM = Weights(None, "random")
SIDE = 96


@pytest.fixture(scope="module")
def ours() -> Network:
    torch.manual_seed(0)
    return build("ssd", RANDOM, 3, SIDE, SIDE, 16)


def photographs() -> list[Tensor]:
    """Two images of noise, uint8, of different sizes."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        for size in ((48, 60), (80, 70))
    ]


def losses(ours: Network, theirs: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """By our loop and by torchvision's call, of two images; the first's second object is a crowd."""
    boxes = [torch.tensor([[5.0, 6, 30, 40], [0, 0, 60, 48]]), torch.tensor([[20.0, 10, 50, 70]])]
    labels, crowds = [torch.tensor([1, 3]), torch.tensor([2])], [[False, True], [False]]
    targets = [
        {"boxes": b, "labels": k, "iscrowd": torch.tensor(c)}
        for b, k, c in zip(boxes, labels, crowds, strict=True)
    ]
    got = losses_of(ours.train(), {"images": photographs(), "targets": targets})
    wanted = theirs.train()(
        [image / 255 for image in photographs()],
        [
            {"boxes": boxes[0][:1], "labels": labels[0][:1]},
            {"boxes": boxes[1], "labels": labels[1]},
        ],
    )
    return got, wanted


@pytest.fixture(scope="module")
def theirs(ours: Network) -> SSD:
    """The same, by torchvision's own words alone."""
    network = mobilenet_v2(weights=None, norm_layer=FrozenBatchNorm2d)
    network.features[14].block = network.features[14].conv
    boxes = DefaultBoxGenerator(RATIOS, scales=SCALES)
    channels, each = [576, 1280, 512, 256, 256, 128], boxes.num_anchors_per_location()
    model = SSD(
        _mobilenet_extractor(network, 6, None),  # type: ignore[arg-type]
        boxes,
        (SIDE, SIDE),
        4,
        head=SSDLiteHead(channels, each, 4, None),  # type: ignore[arg-type]
    )
    state = ours.state_dict()
    assert {key for key in state if key.startswith("transform.")} == {
        "transform.mean",
        "transform.std",
    }
    model.load_state_dict({key: value for key, value in state.items() if key[:10] != "transform."})
    return model


def test_losses_are_torchvisions(ours: Network, theirs: SSD) -> None:
    got, wanted = losses(ours, theirs)
    assert got.keys() == wanted.keys() == {"classification", "bbox_regression"}
    for name, loss in wanted.items():
        assert torch.equal(got[name], loss), name
        assert bool(torch.isfinite(loss))


def test_default_boxes_are_torchvisions(ours: Network) -> None:
    with torch.device("meta"):
        plain = ssd300_vgg16(weights=None, weights_backbone=None).anchor_generator
    assert ours.anchor_generator.aspect_ratios == plain.aspect_ratios
    assert ours.anchor_generator.scales == plain.scales


@pytest.mark.parametrize(
    ("side", "cells"), [(300, [19, 10, 5, 3, 2, 1]), (512, [32, 16, 8, 4, 2, 1])]
)
def test_the_maps(ours: Network, side: int, cells: list[int]) -> None:
    with torch.inference_mode():
        maps = ours.eval().backbone(torch.zeros(1, 3, side, side))
    assert [values.shape[-1] for values in maps.values()] == cells
    assert [values.shape[1] for values in maps.values()] == [576, 1280, 512, 256, 256, 128]


def test_every_image_becomes_a_square(ours: Network) -> None:
    batch, _ = ours.eval().transform([image / 255 for image in photographs()])
    assert batch.tensors.shape == (2, 3, SIDE, SIDE)
    assert batch.image_sizes == [(SIDE, SIDE)] * 2


def test_new_layers_keep_maps_as_large_as_they_are(ours: Network) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 1280, 16, 16).relu()
    with torch.inference_mode():
        for block in ours.backbone.extra[:3]:
            before, maps = maps, block(maps)
            assert 0.3 < float(maps.std() / before.std()) < 3
    biases = [p for name, p in ours.named_parameters() if "extra" in name and p.ndim == 1]
    assert len(biases) == 12  # a convolution's each, and no norm's


def test_boxes_stay_float32_under_autocast(ours: Network) -> None:
    images = ImageList(torch.rand(1, 3, 1000, 1000), [(1000, 1000)])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        maps = list(ours.eval().backbone(images.tensors).values())
        outputs = ours.head(maps)
        [boxes] = ours.anchor_generator(images, maps)
    assert {t.dtype for t in (*maps, *outputs.values(), boxes)} == {torch.float32}
    # The finest map's last cell: 63 of them, the square of 0.07.
    last = torch.tensor([62.5 / 63 * 1000 - 35, 62.5 / 63 * 1000 + 35])[[0, 0, 1, 1]]
    assert (boxes - last).abs().amax(dim=1).min() < 1e-3
    # The multiplications were bfloat16's.
    assert torch.equal(maps[-1], maps[-1].bfloat16().float())


def test_no_class_is_ahead_at_the_start(ours: Network) -> None:
    torch.manual_seed(0)
    maps = [torch.randn(1, channels, 4, 4).relu() for channels in (576, 1280, 512, 256, 256, 128)]
    with torch.inference_mode():
        logits = ours.head(maps)["cls_logits"]
    assert 0.003 < float(logits.std()) < 0.2
