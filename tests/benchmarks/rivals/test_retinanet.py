"""RetinaNet is torchvision's, on the paper's pyramid, and keeps its geometry float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import _default_anchorgen
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from benchmarks.rivals.config import Stride
from benchmarks.rivals.retinanet import anchor_sizes
from benchmarks.rivals.torchvision_detectors import Network, build
from benchmarks.rivals.train import losses_of
from stages.backbones.weights import Weights

RANDOM = Weights(None, "random")


@pytest.fixture(scope="module")
def ours() -> Network:
    torch.manual_seed(0)
    return build("retinanet", RANDOM, 3, 64, 100, 8)


@pytest.fixture(scope="module")
def theirs(ours: Network) -> RetinaNet:
    """The same, by torchvision's own words alone."""
    backbone = mobilenet_backbone(
        backbone_name="mobilenet_v2",
        weights=None,
        fpn=True,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=6,
        returned_layers=[2, 3, 5],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    model = RetinaNet(backbone, 4, min_size=64, max_size=100)
    state = ours.state_dict()
    assert {key for key in state if key.startswith("transform.")} == {
        "transform.mean",
        "transform.std",
    }
    model.load_state_dict({key: value for key, value in state.items() if key[:10] != "transform."})
    return model


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


def test_losses_are_torchvisions(ours: Network, theirs: RetinaNet) -> None:
    got, wanted = losses(ours, theirs)
    assert got.keys() == wanted.keys() == {"classification", "bbox_regression"}
    for name, loss in wanted.items():
        assert torch.equal(got[name], loss), name
        assert 0 < float(loss.detach()) < 10


def test_anchors_are_torchvisions(ours: Network) -> None:
    assert isinstance(ours.anchor_generator, AnchorGenerator)
    assert ours.anchor_generator.sizes == _default_anchorgen().sizes
    assert ours.anchor_generator.aspect_ratios == _default_anchorgen().aspect_ratios
    assert anchor_sizes(4) == (16, 20, 25)


@pytest.mark.parametrize(
    ("finest", "strides"),
    [(4, [4, 8, 16, 32, 64, 128]), (16, [16, 32, 64, 128]), (32, [32, 64, 128])],
)
def test_a_map_for_each_stride(finest: Stride, strides: list[int]) -> None:
    model = build("retinanet", RANDOM, 3, 64, 100, finest).eval()
    with torch.inference_mode():
        maps = model.backbone(torch.zeros(1, 3, 128, 256))
        [found] = model([torch.rand(3, 64, 96)])
    assert [256 // values.shape[-1] for values in maps.values()] == strides
    assert [sizes[0] for sizes in model.anchor_generator.sizes] == [4 * s for s in strides]
    assert found["boxes"].shape[1] == 4


def test_boxes_stay_float32_under_autocast(ours: Network) -> None:
    images = ImageList(torch.rand(1, 3, 32, 1024), [(32, 1024)])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        maps = list(ours.eval().backbone(images.tensors).values())
        outputs = ours.head(maps)
        [anchors] = ours.anchor_generator(images, maps)
    assert {t.dtype for t in (*maps, *outputs.values(), anchors)} == {torch.float32}
    # Of the finest map's last cell, to the pixel: size 40, ratio 1.
    assert [996, -20, 1036, 20] in anchors.tolist()
    # The multiplications were bfloat16's.
    assert torch.equal(maps[0], maps[0].bfloat16().float())
