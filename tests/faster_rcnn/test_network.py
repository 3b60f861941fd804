"""The whole network: against its parts put together by hand, against Fast R-CNN, and what must not learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign, box_iou

import faster_rcnn.network
from fast_rcnn.config import DetectionConfig, LossConfig, SamplingConfig, ScaleConfig
from fast_rcnn.loss import multi_task_loss
from fast_rcnn.network import FastRCNN
from fast_rcnn.sampling import sample
from faster_rcnn.config import AnchorConfig, LabelConfig, ProposalConfig, RPNConfig
from faster_rcnn.network import FasterRCNN, numbered
from faster_rcnn.proposals import select_proposals
from faster_rcnn.rpn import RPN
from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from stages.boxes import encode
from stages.resize import Batch, resize
from stages.roi_pool import roi_pool
from stages.stopwatch import Stopwatch

RANDOM = Weights(None, "random")
CLASSES = ("cat", "dog", "bird")
SHIFT = {"tiny": 0.0, "squeezenet1_1": 15.0}  # how much further right and down their cells look
SCALE = ScaleConfig(train=(96,), test=(96,), longest=160)
TEST = ProposalConfig(before=200, after=30, least_side=4.0)
TRAIN = ProposalConfig(before=300, after=60, least_side=4.0)
SAMPLING = SamplingConfig(images=2, rois=16, background_iou=(0.0, 0.5))
RPN_CONFIG = RPNConfig(width=16, anchors=AnchorConfig(sizes=(16.0, 32.0, 64.0)))
FOUR = ["objectness", "rpn_boxes", "classification", "boxes"]


def liven(model: FasterRCNN) -> FasterRCNN:
    """Answers that differ from anchor to anchor and from RoI to RoI."""
    with torch.no_grad():
        model.rpn.conv.weight.normal_(std=0.02)
        model.rpn.scores.weight.normal_(std=0.1)
        model.rpn.offsets.weight.normal_(std=0.03)
        model.predictor.scores.weight.normal_(std=0.15)
        model.predictor.offsets.weight.normal_(std=0.03)
        model.predictor.scores.bias.normal_(std=0.1)
        model.predictor.offsets.bias.normal_(std=0.1)
    return model.eval()


def build(
    *,
    name: Name = "tiny",
    scale: ScaleConfig = SCALE,
    rpn: RPNConfig = RPN_CONFIG,
    proposals: ProposalConfig = TEST,
    detection: DetectionConfig | None = None,
    train_proposals: ProposalConfig = TRAIN,
    sampling: SamplingConfig = SAMPLING,
    loss: LossConfig | None = None,
) -> FasterRCNN:
    """The same every time."""
    torch.manual_seed(5)
    backbone = build_backbone(name, RANDOM)
    model = FasterRCNN(
        backbone,
        RPN(backbone.channels, rpn, (backbone.stride,)),
        CLASSES,
        scale,
        proposals,
        detection or DetectionConfig(),
        train_proposals,
        sampling,
        loss or LossConfig(),
    )
    return liven(model)


def blocks(height: int, width: int, seed: int = 5) -> Tensor:
    """Blocks of colour. uint8 [3, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 256, (3, 4, 5), generator=generator).float()
    picture = F.interpolate(colours[None], (height, width), mode="nearest")[0]
    noise = 24 * torch.rand(picture.shape, generator=generator) - 12
    return (picture + noise).clamp(0, 255).to(torch.uint8)


def target_of(
    boxes: Sequence[Sequence[float]], labels: Sequence[int], crowd: Sequence[bool] = ()
) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4).float(),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.zeros(len(boxes), dtype=torch.bool),
        "iscrowd": torch.tensor(list(crowd) or [False] * len(boxes), dtype=torch.bool),
    }


def total(losses: dict[str, Tensor], names: Sequence[str] = FOUR) -> Tensor:
    return torch.stack([losses[name] for name in names]).sum()


def values(losses: dict[str, Tensor]) -> dict[str, float]:
    return {key: value.item() for key, value in losses.items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() == {"boxes", "labels", "scores"}
    assert all(torch.equal(one[key], other[key]) for key in one)


def assert_near(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """The same detections, but for the last digits."""
    assert one["labels"].tolist() == other["labels"].tolist()
    torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(one["boxes"], other["boxes"], rtol=1e-3, atol=1e-2)


MODEL = build()
PICTURE = blocks(72, 100)
IMAGES = [blocks(72, 100, 1), blocks(80, 90, 2)]
TARGETS = [
    target_of([[10, 10, 50, 50], [60, 20, 95, 70]], [2, 3]),
    target_of([[20, 5, 60, 40]], [1]),
]


# Losses --------------------------------------------------------------------------------------


def by_hand(model: FasterRCNN, seed: int) -> dict[str, Tensor]:
    """Figure 2, part by part; the same random numbers in the same order."""
    torch.manual_seed(seed)
    batch = resize(IMAGES, model.backbone, [96, 96], model.scale.longest)
    gt = [t["boxes"] * ratio for t, ratio in zip(TARGETS, batch.ratios, strict=True)]
    the_map = model.backbone.trunk(batch.pixels)
    scores, offsets = model.rpn([the_map])
    anchors = model.rpn.anchors([the_map])
    losses = model.rpn.losses(scores, offsets, anchors, gt, batch.sizes)
    found = select_proposals(
        scores, offsets, anchors, batch.sizes, batch.ratios, model.train_proposals
    )
    class_scores, moves, labels, truths = [], [], [], []
    for n, (boxes, _) in enumerate(found):
        rois = sample(boxes, {**TARGETS[n], "boxes": gt[n]}, model.sampling)
        for roi, label, box in zip(rois.rois, rois.labels, rois.gt_boxes, strict=True):
            placed = torch.cat([torch.zeros(1), roi - SHIFT[model.backbone.name]])[None]
            pooled = roi_pool(the_map[n : n + 1], placed, model.backbone.roi_size, 1 / 16)
            s, m = model.predictor(model.backbone.head(pooled))
            class_scores.append(s)
            moves.append(m)
            labels.append(label)
            truths.append(encode(roi[None], box[None]) / model.box_std)
    detector = multi_task_loss(
        torch.cat(class_scores),
        torch.cat(moves),
        torch.stack(labels),
        torch.cat(truths),
        model.loss,
    )
    return {**losses, **detector}


@pytest.mark.parametrize(
    ("name", "scale"), [("tiny", "paper"), ("tiny", "python"), ("squeezenet1_1", "python")]
)
def test_losses_and_gradients_as_by_hand(name: Name, scale: Any) -> None:
    loss = replace(RPN_CONFIG.loss, scale=scale)
    model = build(name=name, rpn=replace(RPN_CONFIG, loss=loss))
    model.box_std = torch.tensor([0.1, 0.1, 0.2, 0.2])
    expected = by_hand(model, 7)
    total(expected).backward()  # type: ignore[no-untyped-call]
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    torch.manual_seed(7)
    losses = model.losses(IMAGES, TARGETS)
    assert list(losses) == FOUR
    for key in FOUR:
        assert expected[key].item() > 0.001
        torch.testing.assert_close(losses[key], expected[key], rtol=1e-4, atol=1e-6)
    total(losses).backward()  # type: ignore[no-untyped-call]
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        bound = 1e-4 * float(gradients[key].abs().max())
        torch.testing.assert_close(p.grad, gradients[key], rtol=1e-3, atol=bound)


@pytest.mark.parametrize("name", ["tiny", "squeezenet1_1", "alexnet"])
def test_rois_are_pooled_where_the_cells_look(name: Name) -> None:
    """As Fast R-CNN pools them, which is tried on images there."""
    faster = build(name=name)
    fast = FastRCNN(faster.backbone, CLASSES, SCALE)
    maps = torch.randn(1, faster.backbone.channels, 20, 30)
    near = torch.rand(50, 2) * torch.tensor([400.0, 250])
    boxes = torch.cat([near, near + torch.rand(50, 2) * 100], dim=1)
    pooled = faster.pool([maps])(F.pad(boxes, (1, 0)))
    assert torch.equal(pooled, fast.pool([maps], fast.cells(boxes, torch.ones(1, 4))))


def test_while_it_trains_the_call_gives_losses() -> None:
    model = build().train()
    torch.manual_seed(1)
    called = model(IMAGES, TARGETS)
    torch.manual_seed(1)
    assert values(called) == values(model.losses(IMAGES, TARGETS))
    with pytest.raises(ValueError, match="targets"):
        model(IMAGES)


def test_the_rpns_losses_alone_are_those_of_both() -> None:
    model = build().train()
    torch.manual_seed(1)
    together = model.losses(IMAGES, TARGETS)
    torch.manual_seed(1)
    alone = model.rpn_losses(IMAGES, TARGETS)
    assert values(alone) == {key: together[key].item() for key in ("objectness", "rpn_boxes")}


NOTHING = target_of([], [])
CROWD = target_of([[10, 10, 50, 50], [60, 20, 95, 70]], [2, 3], [True, True])
MANY = target_of(
    [[x, y, x + 11, y + 11] for x in range(0, 88, 9) for y in range(0, 60, 9)], [2] * 70
)
WHOLE = target_of([[0, 0, 100, 72]], [1])


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(NOTHING, id="no object"),
        pytest.param(CROWD, id="only crowds"),
        pytest.param(MANY, id="more objects than RoIs"),
        pytest.param(WHOLE, id="the whole image"),
        pytest.param(target_of([[3, 3, 3.5, 3.4]], [1]), id="less than a pixel"),
    ],
)
@pytest.mark.parametrize(
    ("name", "sampling"),
    [("tiny", SAMPLING), ("tiny", SamplingConfig()), ("resnet18", SamplingConfig(rois=4))],
)
def test_images_that_lack_something_give_finite_gradients(
    name: Name, sampling: SamplingConfig, target: dict[str, Tensor]
) -> None:
    model = build(name=name, sampling=sampling).train()
    losses = model([PICTURE], [target])
    assert list(losses) == FOUR
    assert all(torch.isfinite(value) and value.ndim == 0 for value in losses.values())
    total(losses).backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert (model.rpn.scores.weight.grad != 0).any()  # type: ignore[union-attr]
    if target["iscrowd"].all():
        assert losses["rpn_boxes"].item() == losses["boxes"].item() == 0
        # With no object no RoI overlaps one by a tenth: the paper's detector learns nothing then.
        assert (losses["classification"].item() > 0) == (sampling.background_iou[0] == 0)


def test_one_image_with_objects_beside_one_without() -> None:
    model = build().train()
    torch.manual_seed(0)
    losses = model(IMAGES, [TARGETS[0], NOTHING])
    assert all(value.item() > 0 for value in losses.values())


def test_crowds_are_no_objects_for_the_rpn() -> None:
    # Nor are they background: but that holds for RoIs and anchors that learn alike, and the paper's
    # codes leave them out. An image of crowds alone is one without objects.
    found = []
    for target in (CROWD, NOTHING):
        torch.manual_seed(1)
        found.append(values(build().train().rpn_losses([PICTURE], [target])))
    assert found[0] == found[1]
    mixed = target_of([[10, 10, 50, 50], [60, 20, 95, 70]], [2, 3], [True, False])
    plain = target_of([[60, 20, 95, 70]], [3])
    found = []
    for target in (mixed, plain):
        torch.manual_seed(1)
        found.append(values(build().train()([PICTURE], [target])))
    assert found[0] == found[1]


def test_difficult_ones_are_objects_here() -> None:
    # Who does not want them trains on data without them: `stages.data.difficult`.
    target = {**TARGETS[0], "difficult": torch.tensor([True, True])}
    found = []
    for given in (target, TARGETS[0]):
        torch.manual_seed(1)
        found.append(values(build().train()([PICTURE], [given])))
    assert found[0] == found[1]


def test_a_training_scale_is_drawn_for_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, ...]] = []
    plain = resize

    def note(images: Any, backbone: Any, shorter: Sequence[int], *more: Any) -> Batch:
        drawn.append(tuple(shorter))
        return plain(images, backbone, shorter, *more)

    monkeypatch.setattr(faster_rcnn.network, "resize", note)
    model = build(scale=replace(SCALE, train=(64, 80, 96)))
    for seed in [*range(15), *range(15)]:
        torch.manual_seed(seed)
        with torch.no_grad():
            model.rpn_losses(IMAGES, TARGETS)
    assert drawn[:15] == drawn[15:]
    assert {first for first, _ in drawn} == {second for _, second in drawn} == {64, 80, 96}
    assert len(set(drawn)) > 5, "the two images' scales depend on each other"


def test_objects_are_scaled_with_their_image() -> None:
    # Anchors of just the objects' size at their scale: twice as large, the image teaches the same boxes.
    small, large = blocks(48, 64), blocks(96, 128)
    labels = LabelConfig(anchors=2000, inside=False)
    model = build(
        scale=ScaleConfig(train=(96,), longest=200), rpn=replace(RPN_CONFIG, labels=labels)
    )
    with torch.no_grad():
        model.rpn.conv.weight.zero_()  # the answers are the same everywhere: only targets differ
    ours = model.rpn_losses([small], [target_of([[8, 8, 24, 24]], [1])])
    theirs = model.rpn_losses([large], [target_of([[16, 16, 48, 48]], [1])])
    assert values(ours) == pytest.approx(values(theirs), rel=1e-5)
    assert ours["rpn_boxes"].item() > 0


# What the detector's losses do not reach -----------------------------------------------------


DETECTOR = ["classification", "boxes"]


def test_approximate_joint_training_no_gradient_through_the_proposals() -> None:
    # Section 3.2: it "ignores the derivative w.r.t. the proposal boxes' coordinates".
    model = build().train()
    total(model(IMAGES, TARGETS), DETECTOR).backward()  # type: ignore[no-untyped-call]
    for key, p in model.rpn.named_parameters():
        assert p.grad is None or (p.grad == 0).all(), key
    for part in (model.backbone.trunk, model.backbone.head, model.predictor):
        assert any(p.grad is not None and (p.grad != 0).any() for p in part.parameters())


def test_through_a_pooling_that_has_a_gradient_of_places_neither() -> None:
    # RoI align, unlike RoI pooling, might hand a gradient to the RoIs' coordinates in other hands.
    model = build().train()
    seen: list[Tensor] = []

    def pool(maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        seen.append(rois)
        # As smooth in the coordinates as can be.
        return roi_pool(maps[0], rois, 4, 1 / 16) * rois[:, 1:].mean(dim=1)[:, None, None, None]

    model.pool = lambda maps: partial(pool, maps)
    total(model(IMAGES, TARGETS), DETECTOR).backward()  # type: ignore[no-untyped-call]
    assert not seen[0].requires_grad
    for p in model.rpn.parameters():
        assert p.grad is None or (p.grad == 0).all()


def test_the_rpns_losses_do_not_reach_the_detector() -> None:
    model = build().train()
    losses = model(IMAGES, TARGETS)
    total(losses, ["objectness", "rpn_boxes"]).backward()  # type: ignore[no-untyped-call]
    own: tuple[nn.Module, ...] = (model.backbone.head, model.predictor)
    for part in own:
        assert all(p.grad is None or (p.grad == 0).all() for p in part.parameters())
    rpn = model.rpn
    for part in (model.backbone.trunk, rpn.conv, rpn.scores, rpn.offsets):
        assert any(p.grad is not None and (p.grad != 0).any() for p in part.parameters())


def test_both_learn_from_the_same_convolutions() -> None:
    # The trunk's gradient of all four losses is the sum of what each half gives.
    parts = []
    for names in (FOUR, FOUR[:2], FOUR[2:]):
        model = build().train()
        torch.manual_seed(2)
        total(model(IMAGES, TARGETS), names).backward()  # type: ignore[no-untyped-call]
        parts.append({key: p.grad for key, p in model.backbone.trunk.named_parameters()})
    together, rpn, detector = parts
    for key, gradient in together.items():
        assert gradient is not None
        assert rpn[key] is not None
        assert detector[key] is not None
        bound = 1e-5 * float(gradient.abs().max())
        torch.testing.assert_close(gradient, rpn[key] + detector[key], rtol=1e-3, atol=bound)  # type: ignore[operator]


def test_the_detector_learns_from_the_rpns_proposals_and_the_objects() -> None:
    model = build(sampling=replace(SAMPLING, rois=1000, positive_fraction=1.0)).train()
    seen: list[Tensor] = []
    plain = model.pool

    def pool(maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        seen.append(rois)
        return plain(maps)(rois)

    model.pool = lambda maps: partial(pool, maps)
    with torch.no_grad():
        model.losses(IMAGES, TARGETS)
        batch = resize(IMAGES, model.backbone, [96, 96], 160)
        maps = model.maps(batch.pixels)
        scores, offsets = model.rpn(maps)
        found = select_proposals(
            scores, offsets, model.rpn.anchors(maps), batch.sizes, batch.ratios, TRAIN
        )
    rois = seen[0]
    for n in range(2):
        own = {tuple(roi) for roi in rois[rois[:, 0] == n][:, 1:].tolist()}
        objects = {tuple(box) for box in (TARGETS[n]["boxes"] * batch.ratios[n]).tolist()}
        assert own == objects | {tuple(box) for box in found[n][0].tolist()}


def test_folding_ends_the_statistics() -> None:
    model = build()
    model.box_std = torch.tensor([0.1, 0.2, 0.3, 0.4])
    model.rpn.box_mean, model.rpn.box_std = torch.full((4,), 0.25), torch.full((4,), 0.5)
    features, maps = torch.randn(4, 256), [torch.randn(1, 128, 3, 3)]
    before, moved = model.predictor(features)[1], model.rpn(maps)[1]
    for _ in range(2):  # folded again it stays
        model.fold()
        expected = before * torch.tensor([0.1, 0.2, 0.3, 0.4])
        torch.testing.assert_close(model.predictor(features)[1], expected)
        torch.testing.assert_close(model.rpn(maps)[1], 0.25 + 0.5 * moved)
    assert not any("box_" in key for key in model.state_dict())


# Detections ----------------------------------------------------------------------------------


def test_it_is_called_as_torchvisions_are() -> None:
    found = MODEL([PICTURE, PICTURE[:, :60]])
    assert len(found) == 2
    for detections, height in zip(found, (72, 60), strict=True):
        n = len(detections["scores"])
        assert n > 3
        assert detections["boxes"].shape == (n, 4)
        assert detections["boxes"].dtype == detections["scores"].dtype == torch.float32
        assert detections["labels"].dtype == torch.int64
        assert set(detections["labels"].tolist()) <= {1, 2, 3}
        assert (detections["scores"].diff() <= 0).all()
        assert ((detections["scores"] > 0) & (detections["scores"] < 1)).all()
        assert not any(value.requires_grad for value in detections.values())
        boxes = detections["boxes"]
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([100, height] * 2)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize(
    ("height", "width"),
    [
        pytest.param(100, 72, id="upright"),
        pytest.param(200, 150, id="shrunk"),
        pytest.param(40, 200, id="the longer side is held"),
        pytest.param(61, 83, id="odd"),
    ],
)
def test_boxes_are_in_the_images_own_pixels(height: int, width: int) -> None:
    # Far over the edge on every side: what comes out is the image's edge, whatever the network saw.
    model = build()
    with torch.no_grad():
        model.predictor.offsets.bias.view(3, 4)[:, 2:] = 4.0
    (detections,) = model([blocks(height, width)])
    assert len(detections["boxes"]) > 0
    assert detections["boxes"].tolist() == [[0, 0, width, height]] * len(detections["boxes"])
    scores, moved, proposed = model.score([blocks(height, width)])[0]
    assert scores.shape == (len(proposed), 3)
    assert moved.shape == (len(proposed), 3, 4)
    assert (proposed >= 0).all()
    assert (proposed <= torch.tensor([width, height] * 2) + 1e-3).all()
    # They come near every edge, so that they are not of another size.
    reach = torch.cat([proposed[:, :2].amin(dim=0), proposed[:, 2:].amax(dim=0)])
    assert (reach - torch.tensor([0, 0, width, height])).abs().max() < 0.2 * max(height, width)


def test_score_and_propose_give_the_same_boxes() -> None:
    for (boxes, scores), (_, _, third) in zip(
        MODEL.propose(IMAGES), MODEL.score(IMAGES), strict=True
    ):
        assert torch.equal(boxes, third)
        assert scores.shape == (len(boxes),)
        assert (scores.diff() <= 0).all()
        assert 1 < len(boxes) <= TEST.after


def test_proposals_as_they_are_configured() -> None:
    few = build(proposals=replace(TEST, after=4))
    ((boxes, scores),) = few.propose([PICTURE])
    ((every, every_score),) = MODEL.propose([PICTURE])
    assert torch.equal(boxes, every[:4])
    assert torch.equal(scores, every_score[:4])
    # None overlaps another by more than 0.7, none is short in the image's own pixels.
    overlap = box_iou(every, every).fill_diagonal_(0)
    assert float(overlap.max()) <= 0.7 + 1e-4
    for least in (4.0, 20.0):
        config = replace(TEST, before=None, after=1000, least_side=least)
        ((boxes, _),) = build(proposals=config).propose([PICTURE])
        shortest = float((boxes[:, 2:] - boxes[:, :2]).min())
        assert least - 1e-3 <= shortest < 1.2 * least


def test_standardised_offsets_propose_what_they_do_once_they_are_folded() -> None:
    # Joint training on the MATLAB code's scale: the detector learns from boxes where the RPN means them.
    model = build(train_proposals=replace(TRAIN, before=None)).train()
    model.rpn.box_mean = torch.tensor([0.1, -0.05, 0.2, -0.1])
    model.rpn.box_std = torch.tensor([0.3, 0.2, 0.5, 0.4])
    seen = []

    def note(*given: Any) -> list[tuple[Tensor, Tensor]]:
        seen.append(select_proposals(*given))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(faster_rcnn.network, "select_proposals", note)
        model.losses(IMAGES, TARGETS)
        model.rpn.fold()
        model.losses(IMAGES, TARGETS)
        model.rpn.offsets.weight.div_(model.rpn.offsets.weight.std())  # another answer
        model.losses(IMAGES, TARGETS)
    learning, folded, otherwise = seen
    for n in range(2):
        torch.testing.assert_close(learning[n][0], folded[n][0], rtol=0, atol=1e-3)
        torch.testing.assert_close(learning[n][1], folded[n][1])
        assert learning[n][0].shape != otherwise[n][0].shape or not torch.allclose(
            learning[n][0], otherwise[n][0], atol=1.0
        )


def test_training_and_test_have_proposals_of_their_own() -> None:
    # `train_proposals` none at all: only the objects themselves are RoIs; detection is as it was.
    model = build(train_proposals=replace(TRAIN, least_side=1e4)).train()
    losses = model(IMAGES, [NOTHING, NOTHING])
    assert losses["classification"].item() == 0
    assert_same(model.eval()([PICTURE])[0], MODEL([PICTURE])[0])


def test_nothing_proposed_nothing_detected() -> None:
    model = build(proposals=replace(TEST, least_side=1e4))
    for found in model([PICTURE, IMAGES[1]]):
        assert found["boxes"].shape == (0, 4)
        assert found["labels"].shape == found["scores"].shape == (0,)
        assert found["labels"].dtype == torch.int64
    assert [boxes.shape for boxes, _ in model.propose([PICTURE])] == [(0, 4)]


def test_nothing_proposed_in_one_of_two() -> None:
    # 16 pixels of a small image's own are more of it than of a large one's.
    model = build(proposals=replace(TEST, least_side=30.0))
    small = blocks(20, 28)
    none, some = model([small, PICTURE])
    assert len(none["boxes"]) == 0
    assert len(some["boxes"]) > 0
    assert_near(some, model([PICTURE])[0])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (15, 15)])
def test_the_smallest_images(height: int, width: int) -> None:
    model = build(proposals=replace(TEST, least_side=0.0))
    (found,) = model([blocks(height, width)])
    assert torch.isfinite(found["boxes"]).all()
    assert (found["boxes"] <= torch.tensor([width, height] * 2)).all()


def test_no_image() -> None:
    assert MODEL([]) == []


def test_bytes_and_floats_are_the_same_image() -> None:
    assert_same(MODEL([PICTURE])[0], MODEL([PICTURE.float() / 255])[0])


def test_it_suppresses_as_it_is_configured() -> None:
    found = [
        build(detection=DetectionConfig(per_class, nms_iou))([PICTURE])[0]
        for per_class, nms_iou in ((100, 0.3), (2, 0.3), (100, 0.99))
    ]
    default, fewer, all_of_them = (len(one["labels"]) for one in found)
    assert fewer <= 6 < default < all_of_them <= 90


def test_it_tells_where_its_time_went() -> None:
    model = build()
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
    }
    assert all(seconds > 0 for seconds in model.watch.seconds.values())


# Batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "squeezenet1_1"])
def test_images_of_one_frame_are_detected_in_as_each_is_alone(name: Name) -> None:
    # All are 96 x 128 in the frame when alone too: nothing differs but the sums' order.
    model = build(name=name)
    images = [blocks(96, 128, 1), blocks(72, 96, 2), blocks(95, 127, 3)]
    for together, image in zip(model(images), images, strict=True):
        assert len(together["scores"]) > 3
        assert_near(together, model([image])[0])


def test_in_a_larger_frame_what_is_far_from_its_edge_is_proposed_alike() -> None:
    # Beside a wider and a higher one the image lies in a larger frame: cells of the map that see past
    # its right or bottom edge see more of the mean colour there. The others say what they say alone.
    config = ProposalConfig(before=None, nms_iou=1.0, after=10_000, least_side=1.0)
    model = build(proposals=config)
    images = [blocks(96, 96, 1), blocks(96, 150, 2), blocks(150, 96, 3)]
    for (boxes, scores), image in zip(model.propose(images), images, strict=True):
        ((alone, alone_scores),) = model.propose([image])
        ours, theirs = (
            torch.cat([b, s[:, None]], dim=1) for b, s in ((boxes, scores), (alone, alone_scores))
        )
        nearest = torch.cdist(theirs, ours, p=1).amin(dim=1)
        # Half the rows and half the columns at least.
        assert float((nearest < 0.02).float().mean()) > 0.24
        assert (boxes <= torch.tensor([image.shape[2], image.shape[1]] * 2) + 1e-3).all()


def test_of_a_batch_each_roi_is_pooled_from_its_own_image() -> None:
    # Black and blocks: what is found in black does not change with what lies beside it.
    black = torch.zeros(3, 96, 128, dtype=torch.uint8)
    (alone,) = MODEL([black])
    for beside in (blocks(96, 128, 1), blocks(96, 128, 2)):
        assert_near(MODEL([beside, black])[1], alone)
        assert_near(MODEL([black, beside])[0], alone)


def test_rois_are_numbered_by_image() -> None:
    rois = [torch.tensor([[1.0, 2, 3, 4]]), torch.zeros(0, 4), torch.tensor([[8.0, 6, 9, 7]] * 2)]
    assert numbered(rois).tolist() == [[0, 1, 2, 3, 4], [2, 8, 6, 9, 7], [2, 8, 6, 9, 7]]


# Fast R-CNN, given the same proposals --------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "squeezenet1_1"])
def test_it_detects_as_fast_rcnn_on_its_proposals(name: Name) -> None:
    model = build(name=name)
    fast = FastRCNN(build_backbone(name, RANDOM), CLASSES, SCALE, detection=model.detection)
    state = {key: v for key, v in model.state_dict().items() if not key.startswith("rpn.")}
    fast.load_state_dict(state, strict=True)
    fast.eval()
    # A ratio that is no binary fraction would round some RoI to another cell: 96 of 72 is 4/3, but
    # proposals that are cut at the edge lie on whole cells, and no other is that near to a half.
    images = [PICTURE, blocks(96, 130, 4)]
    proposals = [boxes for boxes, _ in model.propose(images)]
    for image, boxes in zip(images, proposals, strict=True):
        (ours,) = model([image])
        assert len(ours["scores"]) > 5
        assert_near(ours, fast([image], proposals=[boxes])[0])
        scores, moved, _ = model.score([image])[0]
        chances, expected = fast.score(image, boxes)
        torch.testing.assert_close(scores, chances, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-2)


# Other trunks, other poolings ----------------------------------------------------------------


class TwoMaps(nn.Module):
    """A toy feature pyramid: maps at strides 8 and 16, of as many channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 8, stride=8)
        self.fine = nn.Conv2d(6, 5, 1)
        self.coarse = nn.Conv2d(6, 5, 2, stride=2)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.relu(self.stem(pixels))
        return self.fine(hidden), self.coarse(hidden)


class Align(nn.Module):
    """torchvision's pooling from several maps, as `Pool` is called: image numbers in the RoIs."""

    def __init__(self) -> None:
        super().__init__()
        self.align = MultiScaleRoIAlign(["0", "1"], 4, 2, canonical_scale=64, canonical_level=4)

    def forward(self, maps: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
        return partial(self._pool, maps)

    def _pool(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        images = len(maps[0])
        shape = (maps[0].shape[2] * 8, maps[0].shape[3] * 8)
        named = {str(n): of_map for n, of_map in enumerate(maps)}
        each = [rois[rois[:, 0] == n][:, 1:] for n in range(images)]
        return self.align(named, each, [shape] * images)  # type: ignore[no-any-return]


def pyramid(fixed: bool = False) -> FasterRCNN:
    torch.manual_seed(2)
    head = nn.Sequential(nn.Flatten(), nn.Linear(5 * 16, 24), nn.ReLU())
    backbone = Backbone("tiny", TwoMaps(), head, 5, 4, 24)
    config = RPNConfig(width=12, labels=LabelConfig(positive_iou=0.5))
    rpn = RPN(5, config, (8, 16), ((16.0,), (40.0,)))
    model = FasterRCNN(
        backbone, rpn, CLASSES, SCALE, TEST, DetectionConfig(), TRAIN, SAMPLING, pool=Align()
    )
    liven(model)
    with torch.no_grad():
        model.rpn.conv.weight.normal_(std=0.3)
    return model


def test_several_maps_and_another_pooling() -> None:
    model = pyramid()
    images = [blocks(96, 128, 1), blocks(96, 128, 2)]
    batch, maps = model.look(images)
    assert [tuple(of_map.shape) for of_map in maps] == [(2, 5, 12, 16), (2, 5, 6, 8)]
    scores, offsets = model.rpn(maps)
    assert scores.shape == (2, 3 * (12 * 16 + 6 * 8))
    for found, image in zip(model(images), images, strict=True):
        assert len(found["scores"]) > 3
        assert_near(found, model([image])[0])
    # Proposals of both maps' anchors.
    found_all = select_proposals(
        scores,
        torch.zeros_like(offsets),
        model.rpn.anchors(maps),
        batch.sizes,
        batch.ratios,
        replace(TEST, nms_iou=1.0, after=400),
    )
    areas = (found_all[0][0][:, 2:] - found_all[0][0][:, :2]).prod(dim=1)
    assert int((areas > 1000).sum()) > 0
    assert int((areas < 300).sum()) > 0


def test_several_maps_learn_together() -> None:
    model = pyramid().train()
    losses = model(IMAGES, [*TARGETS])
    assert list(losses) == FOUR
    assert all(value.item() > 0 for value in losses.values())
    total(losses).backward()  # type: ignore[no-untyped-call]
    trunk = model.backbone.trunk
    for part in (trunk.fine, trunk.coarse, trunk.stem):
        gradient = part.weight.grad  # type: ignore[union-attr]
        assert (gradient != 0).any()  # type: ignore[operator, union-attr]
    # The RPN's own loss counts the positions of both maps.
    k = 3
    with torch.no_grad():
        _, maps = model.look(IMAGES)
        positions = sum(of_map[0, 0].numel() for of_map in maps)
        assert sum(map(len, model.rpn.anchors(maps))) == k * positions


def test_one_pooling_function_for_one_map_as_its_own() -> None:
    # A custom pool that does what the network's does changes nothing.
    custom = build()
    custom.pool = lambda maps: lambda rois: roi_pool(maps[0], rois, 4, 1 / 16)
    assert_same(custom([PICTURE])[0], MODEL([PICTURE])[0])


def test_in_bfloat16_it_is_nearly_the_same() -> None:
    model = build(proposals=ProposalConfig(None, 1.0, 1000, 1.0, boxes="none"))
    expected = model.score([PICTURE])[0]
    for part in (model.backbone.trunk, model.backbone.head, model.rpn.conv):
        part.to(torch.bfloat16)
    found = model.score([PICTURE])[0]
    assert [value.dtype for value in found] == [torch.float32] * 3
    # Every anchor is proposed, in an order that may differ: compared by their boxes.
    ours, theirs = (
        sorted(zip(one[2].tolist(), one[0].tolist(), strict=True)) for one in (found, expected)
    )
    assert [box for box, _ in ours] == [box for box, _ in theirs]
    far = torch.tensor([s for _, s in ours]) - torch.tensor([s for _, s in theirs])
    assert 0 < float(far.abs().mean()) < 0.02


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "resnet18", "mobilenet_v2"])
def test_every_kind_of_head(name: Name) -> None:
    model = build(name=name, scale=ScaleConfig(train=(64,), test=(64,)))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    (found,) = model([blocks(40, 56)])
    assert len(found["scores"]) >= 3
    model.train()
    losses = model([blocks(40, 56)], [target_of([[5, 5, 35, 30]], [3])])
    total(losses).backward()  # type: ignore[no-untyped-call]
    for part in (model.backbone.trunk, model.backbone.head, model.predictor, model.rpn):
        assert any(p.grad is not None and (p.grad != 0).any() for p in part.parameters())
