"""The whole network: its call, its losses, and Faster R-CNN where it has no masks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mask_rcnn.network
from faster_rcnn.config import ProposalConfig
from faster_rcnn.network import FasterRCNN
from mask_rcnn.config import MaskConfig
from mask_rcnn.detector import ready
from mask_rcnn.loss import mask_targets
from mask_rcnn.network import MaskRCNN
from mask_rcnn.paste import paste
from mask_rcnn.roi_align import RoIPooling
from stages.errors import InputError
from stages.stopwatch import Stopwatch
from tests.mask_rcnn.conftest import SMALL, lively

LOSSES = ["objectness", "rpn_boxes", "classification", "boxes", "masks"]
NOTHING = ProposalConfig(before=200, after=30, least_side=1e4)  # no side is as long


def blocks(height: int, width: int, seed: int = 5) -> Tensor:
    """Blocks of colour. uint8 [3, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 256, (3, 4, 5), generator=generator).float()
    picture = F.interpolate(colours[None], (height, width), mode="nearest")[0]
    noise = 24 * torch.rand(picture.shape, generator=generator) - 12
    return (picture + noise).clamp(0, 255).to(torch.uint8)


def target_of(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    size: tuple[int, int],
    crowd: Sequence[bool] = (),
) -> dict[str, Tensor]:
    """Each mask is the left half of its box."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(y1) : int(y2), int(x1) : int((x1 + x2) / 2)] = True
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4).float(),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "iscrowd": torch.tensor(list(crowd) or [False] * len(boxes), dtype=torch.bool),
        "masks": masks,
    }


ZERO = torch.zeros(1, dtype=torch.int64)
PICTURE = blocks(72, 100)
IMAGES = [blocks(72, 100, 1), blocks(80, 90, 2)]
TARGETS = [
    target_of([[10, 10, 50, 50], [60, 20, 95, 70]], [2, 3], (72, 100)),
    target_of([[20, 5, 60, 40]], [1], (80, 90)),
]


def assert_near(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """The same detections, but for the last digits; a pixel may be on either side of the threshold."""
    assert one["labels"].tolist() == other["labels"].tolist()
    torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(one["boxes"], other["boxes"], rtol=1e-3, atol=1e-2)
    assert (one["masks"] != other["masks"]).float().mean() < 1e-3


def without_masks(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in found.items() if key != "masks"}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


MODEL = lively()  # not to be changed


# Detections ----------------------------------------------------------------------------------


def test_it_is_called_as_torchvisions_are() -> None:
    found = MODEL([PICTURE, PICTURE[:, :60]])
    assert len(found) == 2
    for detections, height in zip(found, (72, 60), strict=True):
        n = len(detections["scores"])
        assert n > 3
        assert detections["boxes"].shape == (n, 4)
        assert detections["labels"].dtype == torch.int64
        assert (detections["scores"].diff() <= 0).all()
        assert detections["masks"].shape == (n, height, 100)
        assert detections["masks"].dtype == torch.bool
        assert not any(value.requires_grad for value in detections.values())
        area = (detections["boxes"][:, 2:] - detections["boxes"][:, :2]).prod(dim=1).sum()
        assert 0.1 < detections["masks"].sum() / area < 0.9


def test_a_mask_lies_in_its_box() -> None:
    (found,) = MODEL([PICTURE])
    y, x = torch.arange(72) + 0.5, torch.arange(100) + 0.5
    for mask, (x1, y1, x2, y2) in zip(found["masks"], found["boxes"], strict=True):
        within = ((y >= y1) & (y < y2))[:, None] & ((x >= x1) & (x < x2))
        assert not mask[~within].any()


@torch.inference_mode()
def test_masks_by_hand() -> None:
    """Of each detection the RoI is its box, in pixels of the scaled image."""
    assert MODEL.mask_head is not None
    ratio = torch.tensor([133 / 100, 96 / 72] * 2)
    _, maps = MODEL.look([PICTURE])
    (found,) = MODEL([PICTURE])
    for mask, box, label in zip(found["masks"], found["boxes"], found["labels"], strict=True):
        roi = torch.cat([torch.zeros(1), box * ratio])[None]
        chances = MODEL.mask_head(MODEL.mask_pool(maps)(roi))[:, label - 1].sigmoid()
        expected = paste(chances, box[None], 72, 100)[0]
        assert (mask != expected).sum() <= 1  # one of them at once may round otherwise


def test_the_mask_is_of_the_detections_class_and_box() -> None:
    model = lively()
    assert model.mask_head is not None
    with torch.no_grad():  # all of the box for class 2, nothing for 1 and 3
        model.mask_head.logits.weight.zero_()  # type: ignore[operator, union-attr]
        model.mask_head.logits.bias.copy_(torch.tensor([-9.0, 9.0, -9.0]))  # type: ignore[operator, union-attr]
    (found,) = model([PICTURE])
    is_2 = found["labels"] == 2
    assert is_2.any() and not is_2.all()
    full = paste(torch.ones(len(is_2), 28, 28), found["boxes"], 72, 100)
    assert torch.equal(found["masks"], full & is_2[:, None, None])


def test_images_of_several_sizes_are_detected_in_as_each_is_alone() -> None:
    # All are 96 x 128 in the frame when alone too: nothing differs but the sums' order.
    images = [blocks(96, 128, 1), blocks(72, 96, 2), blocks(95, 127, 3)]
    for together, image in zip(MODEL(images), images, strict=True):
        assert len(together["scores"]) > 3
        assert together["masks"].shape[1:] == image.shape[1:]
        assert_near(together, MODEL([image])[0])


def test_no_image() -> None:
    assert MODEL([]) == []


def test_bytes_and_floats_are_the_same_image() -> None:
    assert_same(MODEL([PICTURE])[0], MODEL([PICTURE.float() / 255])[0])


def test_nothing_found() -> None:
    model = lively()
    model.proposals = NOTHING
    for found, image in zip(model(IMAGES), IMAGES, strict=True):
        assert found["masks"].shape == (0, *image.shape[1:])
        assert found["masks"].dtype == torch.bool
        assert found["boxes"].shape == (0, 4)


def test_nothing_found_in_one_of_two() -> None:
    # 30 pixels of a small image's own are more of it than of a large one's.
    model = lively()
    model.proposals = replace(NOTHING, least_side=30.0)
    none, some = model([blocks(20, 28), PICTURE])
    assert none["masks"].shape == (0, 20, 28)
    assert len(some["masks"]) > 0
    assert_near(some, model([PICTURE])[0])


def test_only_the_best_of_an_image_get_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    few = lively()
    few.detection = replace(few.detection, per_image=2)
    asked: list[int] = []
    plain = MaskRCNN.mask_logits

    def note(self: MaskRCNN, head: Any, maps: Any, rois: Tensor) -> Tensor:
        asked.append(len(rois))
        return plain(self, head, maps, rois)

    monkeypatch.setattr(MaskRCNN, "mask_logits", note)
    found = few(IMAGES)
    assert asked == [4]
    for ours, all_of_them in zip(found, MODEL(IMAGES), strict=True):
        assert ours["masks"].shape[0] == 2
        assert_near(ours, {key: value[:2] for key, value in all_of_them.items()})


def test_the_threshold_is_of_a_pixels_probability() -> None:
    areas = []
    for threshold in (0.2, 0.5, 0.8):
        other = lively()
        other.detection = replace(other.detection, mask_threshold=threshold)
        areas.append(int(other([PICTURE])[0]["masks"].sum()))
    assert areas[0] > areas[1] > areas[2]
    assert areas[1] == int(MODEL([PICTURE])[0]["masks"].sum())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 200), (15, 15)])
def test_the_smallest_images(height: int, width: int) -> None:
    model = lively()
    model.proposals = replace(model.proposals, least_side=0.0)
    (found,) = model([blocks(height, width)])
    assert found["masks"].shape == (len(found["scores"]), height, width)


def test_bfloat16_is_near() -> None:
    rounded = ready(lively(), "bfloat16", "cpu")
    assert rounded.mask_head is not None
    assert {p.dtype for p in rounded.mask_head.features.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in rounded.mask_head.logits.parameters()} == {torch.float32}
    # The same boxes given, so that their masks can be compared.
    (found,) = MODEL([PICTURE])
    boxes = without_masks(found)
    masks = []
    with torch.inference_mode():
        for network in (MODEL, rounded):
            _, maps, ratios = network.score_on_maps([PICTURE])
            masks.append(network.add_masks([PICTURE], [boxes], maps, ratios)[0]["masks"])
    inside = masks[0] | masks[1]
    assert 0 < (masks[0] != masks[1]).sum() < 0.05 * inside.sum()
    (ours,) = rounded([PICTURE])
    assert ours["boxes"].dtype == ours["scores"].dtype == torch.float32
    assert float(ours["scores"][0]) == pytest.approx(float(found["scores"][0]), abs=0.05)


def test_it_tells_where_its_time_went() -> None:
    model = lively()
    model.watch = Stopwatch()
    model([PICTURE])
    assert set(model.watch.seconds) == {
        "convolutions",
        "RPN",
        "top-k and NMS of proposals",
        "pooling",
        "head",
        "boxes",
        "NMS",
        "masks",
        "pasting",
    }


# Losses --------------------------------------------------------------------------------------


def losses_of(
    model: MaskRCNN, targets: Sequence[dict[str, Tensor]], images: Sequence[Tensor] = IMAGES
) -> dict[str, Tensor]:
    torch.manual_seed(1)
    losses: dict[str, Tensor] = model.train()(images, targets)
    return losses


def mask_loss_of(targets: Sequence[dict[str, Tensor]]) -> float:
    return losses_of(lively(), targets)["masks"].item()


def test_while_it_trains_the_call_gives_losses() -> None:
    losses = losses_of(lively(), TARGETS)
    assert list(losses) == LOSSES
    assert all(value.ndim == 0 and value.item() > 0 for value in losses.values())
    with pytest.raises(ValueError, match="targets"):
        lively().train()(IMAGES)


@torch.no_grad()
def test_the_mask_loss_by_hand() -> None:
    """Each positive RoI by itself: its own class's mask against the part of the mask within it."""
    model = lively()
    assert model.mask_head is not None
    torch.manual_seed(1)
    _, seen = model.learn(IMAGES, TARGETS)
    each = []
    for n, (sample, target) in enumerate(zip(seen.samples, TARGETS, strict=True)):
        assert (sample.labels == 0).any()
        for roi, label, index in zip(sample.rois, sample.labels, sample.objects, strict=True):
            if label:
                placed = torch.cat([torch.tensor([float(n)]), roi])[None]
                logits = model.mask_head(model.mask_pool(seen.maps)(placed))[0, label - 1]
                own = target["masks"][index]
                wanted = mask_targets(own[None], ZERO, (roi / seen.batch.ratios[n])[None], 28)[0]
                each.append(F.binary_cross_entropy_with_logits(logits, wanted.float()))
    assert len(each) >= 3
    expected = torch.stack(each).mean().item()
    assert mask_loss_of(TARGETS) == pytest.approx(expected, rel=1e-5)


def gradients(model: MaskRCNN, targets: Sequence[dict[str, Tensor]], *names: str) -> set[str]:
    """The parameters that these losses reach."""
    losses = losses_of(model, targets)
    torch.stack([losses[name] for name in names]).sum().backward()  # type: ignore[no-untyped-call]
    return {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def test_the_mask_loss_reaches_trunk_pyramid_and_its_own_head_alone() -> None:
    model = lively()
    found = gradients(model, TARGETS, "masks")
    names = [key for key, _ in model.named_parameters()]
    for part in ("backbone.trunk.body.", "mask_head."):
        assert found >= {key for key in names if key.startswith(part)}
    # RoIs as small as these are pooled from the finest map, to which all others are added.
    inner = "backbone.trunk.pyramid.inner."
    assert found >= {key for key in names if key.startswith(inner)}
    assert f"{inner.replace('inner', 'outer')}0.weight" in found
    assert all(key.startswith(("backbone.trunk.", "mask_head.")) for key in found)


def test_no_gradient_through_the_proposals() -> None:
    found = gradients(lively(), TARGETS, "classification", "boxes", "masks")
    assert {key.split(".")[0] for key in found} == {"backbone", "predictor", "mask_head"}


def objects_learnt(
    monkeypatch: pytest.MonkeyPatch, targets: Sequence[dict[str, Tensor]]
) -> list[set[int]]:
    """Of each image, the objects whose masks are learnt."""
    learnt: list[set[int]] = []

    def note(masks: Tensor, objects: Tensor, *more: Any) -> Tensor:
        learnt.append(set(objects.tolist()))
        return mask_targets(masks, objects, *more)

    monkeypatch.setattr(mask_rcnn.network, "mask_targets", note)
    losses = losses_of(lively(), targets)
    assert all(torch.isfinite(value) for value in losses.values())
    return learnt


def test_an_image_without_masks_among_others_trains_its_boxes_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    none = {**TARGETS[1], "masks": torch.zeros(1, 80, 90, dtype=torch.bool)}
    assert objects_learnt(monkeypatch, [TARGETS[0], none]) == [{0, 1}, set()]
    # Nor do they count as masks with nothing in them; all other losses are what they are with masks.
    losses, others = (losses_of(lively(), [TARGETS[0], other]) for other in (none, TARGETS[1]))
    assert {**losses, "masks": 0} == {**others, "masks": 0}
    assert losses["masks"].item() not in (0.0, others["masks"].item())


def test_an_object_with_an_empty_mask_teaches_none(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {**TARGETS[0], "masks": TARGETS[0]["masks"].clone()}
    first["masks"][0] = False
    assert objects_learnt(monkeypatch, [first, TARGETS[1]]) == [{1}, {0}]


def test_no_mask_at_all_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    none = [{**target, "masks": torch.zeros_like(target["masks"])} for target in TARGETS]
    assert objects_learnt(monkeypatch, none) == [set(), set()]
    assert mask_loss_of(none) == 0
    assert gradients(lively(), none, "masks") == set()


def test_crowds_are_not_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first of two: the second's place among all objects is another than among those learnt.
    crowd = {**TARGETS[0], "iscrowd": torch.tensor([True, False])}
    assert objects_learnt(monkeypatch, [crowd, TARGETS[1]]) == [{1}, {0}]
    alone = {key: value[1:] for key, value in TARGETS[0].items()}
    assert mask_loss_of([crowd, TARGETS[1]]) == mask_loss_of([alone, TARGETS[1]])


def test_images_without_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = target_of([], [], (72, 100))
    assert objects_learnt(monkeypatch, [nothing, TARGETS[1]]) == [set(), {0}]
    assert mask_loss_of([nothing, target_of([], [], (80, 90))]) == 0


def test_masks_and_boxes_that_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = {**TARGETS[0], "masks": torch.ones(2, 72, 100, dtype=torch.bool)}
    elsewhere = {**TARGETS[1], "masks": torch.zeros(1, 80, 90, dtype=torch.bool)}
    elsewhere["masks"][0, 70:, 80:] = True
    assert objects_learnt(monkeypatch, [wide, elsewhere]) == [{0, 1}, {0}]
    # All of a RoI is to be the object's, or nothing.
    model = lively()
    assert model.mask_head is not None
    with torch.no_grad():
        model.mask_head.logits.get_parameter("weight").zero_()
        model.mask_head.logits.get_parameter("bias").fill_(1.0)
    chance = torch.tensor(1.0).sigmoid()
    for target, expected in ((wide, -chance.log()), (elsewhere, -(1 - chance).log())):
        height, width = target["masks"].shape[1:]
        losses = losses_of(model, [target], [blocks(height, width)])
        assert losses["masks"].item() == pytest.approx(float(expected), rel=1e-5)


# Faster R-CNN --------------------------------------------------------------------------------


def faster_of(model: MaskRCNN) -> FasterRCNN:
    """`FasterRCNN` of the same parts and weights."""
    own = copy.deepcopy(model)
    faster = FasterRCNN(
        own.backbone,
        own.rpn,
        own.classes,
        own.scale,
        own.proposals,
        own.detection,
        own.train_proposals,
        own.sampling,
        own.loss,
        own.pool,
    )
    faster.predictor = own.predictor
    return faster.eval()


@pytest.mark.parametrize("branch", ["fcn", "none"])
def test_but_for_its_masks_it_is_faster_rcnn(branch: Any) -> None:
    network = replace(SMALL.network, mask=replace(SMALL.network.mask, branch=branch))
    model = lively(replace(SMALL, network=network))
    faster = faster_of(model)
    for found, theirs in zip(model(IMAGES), faster(IMAGES), strict=True):
        assert len(theirs["scores"]) > 3
        assert ("masks" in found) == (branch == "fcn")
        assert_same(without_masks(found), theirs)
    torch.manual_seed(1)
    theirs = faster.train()(IMAGES, TARGETS)
    losses = losses_of(model, TARGETS)
    assert list(losses) == (LOSSES if branch == "fcn" else LOSSES[:4])
    assert_same({key: losses[key] for key in LOSSES[:4]}, theirs)


def test_without_the_branch_targets_need_no_masks() -> None:
    network = replace(SMALL.network, mask=MaskConfig(branch="none"))
    model = lively(replace(SMALL, network=network))
    assert model.mask_head is None
    assert losses_of(model, [without_masks(target) for target in TARGETS]).keys() == {*LOSSES[:4]}


# Other trunks --------------------------------------------------------------------------------


def test_the_branch_is_on_top_of_c4s_last_stage() -> None:
    """Figure 4, left: one last stage for boxes and masks, 14 x 14 to 7 x 7, then a mask of 14 x 14."""
    network = replace(SMALL.network, features="c4")
    model = lively(replace(SMALL, backbone="mobilenet_v2", network=network))
    assert model.shared == ("blocks",)
    assert model.mask_head is not None
    assert (model.mask_pool.side, model.mask_head.side) == (14, 14)
    found = gradients(model, TARGETS, "masks")
    assert any(key.startswith("backbone.head.blocks.") for key in found)
    assert model.eval()([PICTURE])[0]["masks"].shape[1:] == (72, 100)


def test_a_c4_head_that_is_no_convolution_is_not_shared() -> None:
    model = lively(replace(SMALL, network=replace(SMALL.network, features="c4")))
    assert model.shared == ()
    assert model.mask_head is not None
    assert (model.mask_pool.side, model.mask_head.side) == (14, 28)
    found = gradients(model, TARGETS, "masks")
    assert {key.split(".")[1] for key in found if key.startswith("backbone.")} == {"trunk"}


@pytest.mark.parametrize(("backbone", "shift"), [("tiny", 0.0), ("squeezenet1_1", 15.0)])
def test_c4_pools_where_the_networks_cells_look(backbone: Any, shift: float) -> None:
    network = replace(SMALL.network, features="c4")
    model = lively(replace(SMALL, backbone=backbone, network=network))
    for pool in (model.pool, model.mask_pool):
        assert isinstance(pool, RoIPooling)
        assert pool.shift == shift
    found = model.eval()([PICTURE])[0]
    assert found["masks"].shape[1:] == (72, 100)
    assert found["scores"].isfinite().all()


def test_c5_is_one_map_of_the_whole_network() -> None:
    network = replace(SMALL.network, features="c5")
    model = lively(replace(SMALL, backbone="mobilenet_v2", network=network))
    _, maps = model.look([blocks(96, 128)])
    assert [tuple(of_map.shape[1:]) for of_map in maps] == [(1280, 3, 4)]
    assert model([PICTURE])[0]["masks"].shape[1:] == (72, 100)


@pytest.mark.parametrize(
    ("backbone", "features", "sizes", "said"),
    [
        ("tiny", "c5", (16.0,), r"^BACKBONE=tiny: has no C5"),
        ("alexnet", "fpn", (16.0,), r"^BACKBONE=alexnet: .*takes tiny, mobilenet_v2"),
        ("alexnet", "c5", (16.0,), r"^BACKBONE=alexnet: .*takes tiny, mobilenet_v2"),
        ("tiny", "fpn", (16.0, 32.0), r"anchors\.sizes: .* 3 maps, of strides 8, 16, 32; .* 2$"),
        ("mobilenet_v2", "fpn", (16.0,), r"anchors\.sizes: .* 4 maps, of strides 8, 16, 32, 64"),
    ],
)
def test_what_cannot_be_built_is_one_line(
    backbone: Any, features: Any, sizes: tuple[float, ...], said: str
) -> None:
    rpn = replace(SMALL.rpn, anchors=replace(SMALL.rpn.anchors, sizes=sizes))
    network = replace(SMALL.network, features=features)
    with pytest.raises(InputError, match=said) as caught:
        lively(replace(SMALL, backbone=backbone, rpn=rpn, network=network))
    assert "\n" not in caught.value.line
