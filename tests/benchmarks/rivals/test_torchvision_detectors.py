"""The network is torchvision's, and its geometry stays float32 where it multiplies in bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.misc import FrozenBatchNorm2d

from benchmarks.rivals.config import Kind, Stride
from benchmarks.rivals.torchvision_detectors import NEW, build, to_float
from benchmarks.rivals.train import losses_of
from stages.backbones.networks import classifier
from stages.backbones.normalisation import CAFFE
from stages.backbones.weights import Weights, build_backbone

RANDOM = Weights(None, "random")
SHORTER, LONGEST, CLASSES = 64, 100, 3
KINDS: tuple[Kind, ...] = ("faster", "ssd", "retinanet")  # Mask R-CNN's trunk is Faster's


@pytest.fixture(scope="module")
def ours() -> FasterRCNN:
    torch.manual_seed(0)
    return build("faster", RANDOM, CLASSES, SHORTER, LONGEST, 32)


@pytest.fixture(scope="module")
def theirs(ours: FasterRCNN) -> FasterRCNN:
    """The same, by torchvision's own words alone."""
    backbone = mobilenet_backbone(
        backbone_name="mobilenet_v2",
        weights=None,
        fpn=True,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=6,
    )
    anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
    model = FasterRCNN(
        backbone,
        CLASSES + 1,
        min_size=SHORTER,
        max_size=LONGEST,
        rpn_anchor_generator=anchors,
        rpn_score_thresh=0.05,
    )
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


def test_losses_are_torchvisions(ours: FasterRCNN, theirs: FasterRCNN) -> None:
    images = photographs()
    boxes = [torch.tensor([[5.0, 6, 30, 40], [0, 0, 60, 48]]), torch.tensor([[20.0, 10, 50, 70]])]
    labels = [torch.tensor([1, 3]), torch.tensor([2])]
    # The first image's second object is a crowd.
    crowds = [torch.tensor([False, True]), torch.tensor([False])]
    batch = {
        "images": images,
        "targets": [
            {"boxes": b, "labels": k, "iscrowd": c, "difficult": c, "image_id": n}
            for n, (b, k, c) in enumerate(zip(boxes, labels, crowds, strict=True))
        ],
    }
    torch.manual_seed(5)
    got = losses_of(ours.train(), batch)
    torch.manual_seed(5)
    wanted = theirs.train()(
        [image / 255 for image in images],
        [
            {"boxes": boxes[0][:1], "labels": labels[0][:1]},
            {"boxes": boxes[1], "labels": labels[1]},
        ],
    )
    assert got.keys() == wanted.keys()
    assert set(got) == {
        "loss_classifier",
        "loss_box_reg",
        "loss_objectness",
        "loss_rpn_box_reg",
    }
    for name, loss in wanted.items():
        assert torch.equal(got[name], loss), name
        assert bool(torch.isfinite(loss))


def test_boxes_stay_float32_under_autocast(ours: FasterRCNN) -> None:
    # An anchor at 1,000 pixels, to the pixel.
    images = ImageList(torch.zeros(1, 3, 32, 1024), [(32, 1024)])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        maps = ours.eval().backbone(images.tensors)
        [anchors] = ours.rpn.anchor_generator(images, list(maps.values()))
        [boxes], _ = ours.rpn(images, maps)
        scores, offsets = ours.roi_heads.box_predictor(torch.zeros(2, 1024))
    assert {values.dtype for values in (*maps.values(), anchors, boxes, scores, offsets)} == {
        torch.float32
    }
    # Ratio 1, size 32, at the last of the cells.
    assert [976, -16, 1008, 16] in anchors.tolist()


def test_multiplies_in_bfloat16_under_autocast(ours: FasterRCNN) -> None:
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        plain = ours.backbone(pixels)["0"]
        with torch.autocast("cpu", torch.bfloat16):
            rounded = ours.backbone(pixels)["0"]
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert not torch.equal(plain, plain.bfloat16().float())


@pytest.mark.parametrize("finest, strides", [(32, [32, 32, 64]), (8, [8, 16, 32, 32, 64])])
def test_strides_of_the_pyramid(finest: Stride, strides: list[int]) -> None:
    model = build("faster", RANDOM, CLASSES, SHORTER, LONGEST, finest).eval()
    with torch.inference_mode():
        maps = model.backbone(torch.zeros(1, 3, 128, 192))
        [found] = model([torch.rand(3, 64, 96)])
    assert [192 // values.shape[-1] for values in maps.values()] == strides
    assert model.rpn.anchor_generator.num_anchors_per_location() == [15] * len(strides)
    assert found["boxes"].shape[1] == 4


def learning(model: nn.Module) -> set[int]:
    """The blocks of the trunk that learn; everything new does."""
    named = dict(model.named_parameters())
    assert all(parameter.requires_grad for name, parameter in named.items() if name.startswith(NEW))
    trunk = [name for name in named if not name.startswith(NEW) and named[name].requires_grad]
    # SSD has it in two parts, the cut within block 14.
    at = {"body": 0, "features.0": 0, "features.1": 14}
    return {
        start + int(name.removeprefix(f"backbone.{part}.").split(".")[0])
        for name in trunk
        for part, start in at.items()
        if name.startswith(f"backbone.{part}.")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_put_in_and_the_early_stages_kept(kind: Kind, tmp_path: Path) -> None:
    network = classifier("mobilenet_v2")
    # Batch norm that does something.
    network.features[0][1].running_mean.fill_(0.25)
    torch.save(network.state_dict(), tmp_path / "torchvisions.pth")
    cut = build_backbone("mobilenet_v2", Weights(tmp_path / "torchvisions.pth", "a"))
    torch.save(cut.state_dict(), tmp_path / "ours.pt")
    for name in ("torchvisions.pth", "ours.pt"):
        model = build(kind, Weights(tmp_path / name, name), CLASSES, SHORTER, SHORTER, 16)
        assert learning(model) == set(range(7, 19))
        state = model.backbone.state_dict()
        for key, value in network.features.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                assert torch.equal(state[place(kind, key)], value), key
        assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    still = build(kind, Weights(tmp_path / name, name), 1, 64, 64, 16, trainable_layers=0)
    assert learning(still) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_for_other_images_get_them(kind: Kind, tmp_path: Path) -> None:
    network = classifier("mobilenet_v2")
    torch.save(network.state_dict(), tmp_path / "caffe.pth")
    weights = Weights(tmp_path / "caffe.pth", "", CAFFE)
    model = build(kind, weights, CLASSES, SHORTER, SHORTER, 16)
    first = next(m.weight for m in model.backbone.modules() if isinstance(m, nn.Conv2d))
    assert torch.equal(first, network.features[0][0].weight.flip(1))
    image = torch.tensor([200.0, 100.0, 0.0])[:, None, None] / 255  # red most
    seen = model.transform.normalize(image).flatten().tolist()
    assert seen == pytest.approx([200 - 122.7717, 100 - 115.9465, -102.9801], abs=1e-3)
    # The numbers are saved with the weights, whatever network they are put into.
    other = build(kind, Weights(None, "random"), CLASSES, SHORTER, SHORTER, 16)
    assert other.transform.normalize(image).flatten().tolist() != seen
    other.load_state_dict(model.state_dict())
    assert other.transform.normalize(image).flatten().tolist() == seen


def place(kind: Kind, key: str) -> str:
    """Where in the detector's backbone a parameter of the trunk is."""
    block, _, rest = key.partition(".")
    if kind != "ssd":
        return f"body.{key}"
    if int(block) < 14:
        return f"features.0.{key}"
    if int(block) > 14:
        return f"features.1.{int(block) - 14}.{rest}"
    _, layer, rest = rest.split(".", 2)
    return f"features.0.14.{rest}" if layer == "0" else f"features.1.0.{layer}.{rest}"


@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_learn_everywhere(kind: Kind) -> None:
    assert learning(build(kind, RANDOM, 1, 64, 64, 16)) == set(range(19))


def test_to_float() -> None:
    image = torch.tensor([[[0, 51, 255]]], dtype=torch.uint8)
    assert to_float(image).tolist() == [[[0.0, pytest.approx(0.2), 1.0]]]
    assert torch.equal(to_float(to_float(image)), to_float(image))
