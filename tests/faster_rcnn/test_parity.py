"""The same as torchvision's Faster R-CNN with the same weights, stage by stage, then as a whole.

torchvision's RPN, box coder, matcher, suppression and losses are its own code; trunk, head and the
RoI pooling operator are one object in both. Of the stages each test gives both sides the same input,
torchvision's, so that what fails says where; whole runs come after them. Where the two differ on
purpose, torchvision is set to ours: anchors not rounded, smooth L1's bend, small boxes dropped before
the best are chosen.

A anchors of an image, K classes, P boxes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.models.detection as zoo
import torchvision.ops
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)

import faster_rcnn.proposals
from fast_rcnn.config import DetectionConfig, SamplingConfig, ScaleConfig
from faster_rcnn.anchors import base_anchors, grid_anchors, inside
from faster_rcnn.config import AnchorConfig, LabelConfig, ProposalConfig, RPNConfig, RPNLossConfig
from faster_rcnn.labels import IGNORED, NEGATIVE, POSITIVE, label_anchors
from faster_rcnn.network import FasterRCNN, numbered
from faster_rcnn.proposals import select_proposals
from faster_rcnn.rpn import RPN
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from stages.boxes import decode, encode
from stages.data.images import image_tensor, target_of
from stages.data.shapes import ShapesConfig, draw_scene
from stages.data.voc import VOCFolder
from stages.resize import frame_of, size_at

SHARED = Path(__file__).parents[2] / "../shared/data"
PHOTOGRAPHS = (("street5", 1), ("pets", 0), ("bccd", 0))  # and which of its test images

# Heights and widths: a wide image, a high one, and one whose longer side is what limits it. All go
# into the scale without a rest, since torchvision rounds down; the frame of 288 x 288 leaves room
# beside each, and of its sides torchvision finds the right stride for all three networks: see
# `test_a_map_a_cell_short_is_where_the_two_differ`.
SIZES = ((240, 300), (300, 240), (160, 320))
SHORTER, LONGEST = 216, 288
RATIO = 0.9  # of all, since torchvision knows only one least side, in pixels of the scaled image
SCALED = [(216, 270), (270, 216), (144, 288)]
SCALE = ScaleConfig(train=(SHORTER,), test=(SHORTER,), longest=LONGEST)
STRIDE = 16
FURTHER = {"tiny": 0.0, "squeezenet1_1": 15.0, "mobilenet_v2": 0.0}  # pixels

CLASSES = ("cat", "dog", "bird", "cup")
ANCHORS = AnchorConfig(sizes=(64.0, 112.0, 192.0), centre=0.0)
# Large enough that the RoIs differ on the map: those that are the same there score the same.
PROPOSALS = ProposalConfig(before=600, nms_iou=0.5, after=16, least_side=20.0)
TRAIN_PROPOSALS = ProposalConfig(before=60, nms_iou=0.6, after=20, least_side=20.0)
DETECTION = DetectionConfig(per_class=10_000, nms_iou=0.4)
ALL = 10**5  # anchors and RoIs to draw: each of them, so that chance has no part in it
LABELS = LabelConfig(inside=False, anchors=ALL)
SAMPLING = SamplingConfig(rois=ALL, background_iou=(0.0, 0.5))

Target = dict[str, Tensor]
Images = tuple[list[Tensor], list[Target]]


# ------------------------------------------------------------------ images


@cache
def drawn() -> Images:
    images, targets = [], []
    for number, (height, width) in enumerate(SIZES):
        config = ShapesConfig(train=0, test=0, width=width, height=height)
        scene = draw_scene(np.random.default_rng([7, number]), config)
        images.append(torch.from_numpy(scene.image).permute(2, 0, 1).contiguous())
        targets.append(target(torch.from_numpy(scene.boxes)))
    return images, targets


@cache
def photographs() -> Images:
    """The middle of a photograph of each data set, as many pixels as it has."""
    images, targets = [], []
    for (name, number), (height, width) in zip(PHOTOGRAPHS, SIZES, strict=True):
        record = VOCFolder(data_set(name), name).test[number]
        image = image_tensor(record)
        top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
        assert min(top, left) >= 0
        images.append(image[:, top : top + height, left : left + width].contiguous())
        boxes = target_of(record)["boxes"] - torch.tensor([left, top, left, top])
        boxes = torchvision.ops.clip_boxes_to_image(boxes, (height, width))
        boxes = boxes[torchvision.ops.remove_small_boxes(boxes, 4)]
        assert len(boxes)
        targets.append(target(boxes))
    return images, targets


def data_set(name: str) -> Path:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"no {name} beside the checkout")
    return root


def target(boxes: Tensor) -> Target:
    """Of the images of several data sets, only boxes mean the same; the classes are made up."""
    return {
        "boxes": boxes,
        "labels": torch.arange(len(boxes)) % len(CLASSES) + 1,
        "iscrowd": torch.zeros(len(boxes), dtype=torch.bool),
    }


SOURCES = {"drawn": drawn, "photographs": photographs}


# ------------------------------------------------------------------ the two networks


@contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Ours computes boxes and probabilities in float32, whatever the network is in; here in `dtype`."""
    with pytest.MonkeyPatch.context() as patch:
        if dtype == torch.float64:
            patch.setattr(Tensor, "float", Tensor.double)
        yield


class OneMap(nn.Module):
    """A trunk as torchvision's FasterRCNN wants it."""

    def __init__(self, trunk: nn.Module, channels: int) -> None:
        super().__init__()
        self.trunk, self.out_channels = trunk, channels

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        # Laid out as ours, so that sums are in the same order, to the last bit.
        return {"0": self.trunk(pixels.contiguous(memory_format=torch.channels_last))}


class PoolOneMap(nn.Module):
    """torchvision's operator, given boxes less what a network's cells look further than at 16 i."""

    def __init__(self, side: int, further: float) -> None:
        super().__init__()
        self.side, self.further = side, further

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], _: Any) -> Tensor:
        moved = [of_image - self.further for of_image in boxes]
        return torchvision.ops.roi_pool(maps["0"], moved, self.side, 1 / STRIDE)


class SmallFirst(RegionProposalNetwork):
    """Small boxes take no place among the best, as in ours and in the papers' codes.

    All else is torchvision's, which chooses the best and then drops the small ones among them.

    Attributes:
        as_ours: whether it is so; otherwise all is torchvision's.
    """

    as_ours = True

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        if self.as_ours:
            objectness = objectness.detach().reshape(len(proposals), -1).clone()
            for scores, boxes, shape in zip(objectness, proposals, image_shapes, strict=True):
                cut = torchvision.ops.clip_boxes_to_image(boxes, shape)
                small = torch.ones(len(boxes), dtype=torch.bool)
                small[torchvision.ops.remove_small_boxes(cut, self.min_size)] = False
                scores[small] = -torch.inf
        return super().filter_proposals(proposals, objectness, image_shapes, num_anchors_per_level)


def build_ours(name: Name, images: Sequence[Tensor], dtype: torch.dtype) -> FasterRCNN:
    """With random weights, scores and offsets spread."""
    torch.manual_seed(3)
    backbone = build_backbone(name, Weights(None, "random"))
    # torchvision's RPN is as wide as the map.
    rpn = RPNConfig(
        width=backbone.channels, anchors=ANCHORS, labels=LABELS, loss=RPNLossConfig("python")
    )
    ours = FasterRCNN(
        backbone,
        RPN(backbone.channels, rpn, (backbone.stride,)),
        CLASSES,
        SCALE,
        PROPOSALS,
        DETECTION,
        train_proposals=TRAIN_PROPOSALS,
        sampling=SAMPLING,
    )
    ours.eval().to(dtype)
    spread_all(ours, images)
    return ours


@torch.no_grad()
def spread_all(ours: FasterRCNN, images: Sequence[Tensor]) -> None:
    """No two scores are nearly the same, as those of random weights are: which is first would be chance.

    The RPN's are mostly below 0: torchvision sorts probabilities, and near 1 there are few to choose from.
    """
    batch, maps = ours.look(images)
    hidden = F.relu(ours.rpn.conv(maps[0]))
    spread(ours.rpn.scores, hidden, -5.0, 2.0)
    spread(ours.rpn.offsets, hidden, 0.0, 0.25)
    anchors = ours.rpn.anchors(maps)
    scores, offsets = ours.rpn(maps)
    proposed = select_proposals(scores, offsets, anchors, batch.sizes, batch.ratios, ours.proposals)
    features = ours.backbone.head(ours.pool(maps)(numbered([boxes for boxes, _ in proposed])))
    spread(ours.predictor.scores, features, 0.0, 1.5)
    spread(ours.predictor.offsets, features, 0.0, 0.25)


def spread(layer: nn.Module, inputs: Tensor, mean: float, deviation: float) -> None:
    """Changes the layer so that each of its outputs has this mean and deviation over these inputs."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    bias.zero_()
    outputs = layer(inputs).transpose(0, 1).flatten(1)
    factor = deviation / outputs.std(dim=1)
    assert factor.isfinite().all()
    weight.mul_(factor.reshape(-1, *[1] * (weight.dim() - 1)))
    bias.copy_(mean - factor * outputs.mean(dim=1))


def build_theirs(ours: FasterRCNN, unit: float = 1.0) -> Any:
    """torchvision's, with our weights.

    Args:
        unit: of the detector's offsets; what its box layer puts out are so many times ours.
    """
    backbone = ours.backbone
    base = ours.rpn.get_buffer("base0")
    dtype = dtype_of(ours)
    rpn_head = RPNHead(backbone.channels, len(base)).to(dtype)
    box_predictor = FastRCNNPredictor(backbone.features, len(CLASSES) + 1).to(dtype)
    with torch.no_grad():
        for theirs, of_ours in (
            (rpn_head.conv[0][0], ours.rpn.conv),
            (rpn_head.cls_logits, ours.rpn.scores),
            (rpn_head.bbox_pred, ours.rpn.offsets),
            (box_predictor.cls_score, ours.predictor.scores),
        ):
            theirs.load_state_dict(of_ours.state_dict())
        for kind in ("weight", "bias"):
            # Theirs has four for the background, too, which nobody looks at.
            own = ours.predictor.offsets.get_parameter(kind)
            both = torch.cat([torch.zeros_like(own[:4]), own * unit])
            box_predictor.bbox_pred.get_parameter(kind).copy_(both)
    generator = AnchorGenerator((ANCHORS.sizes,), (ANCHORS.ratios,))
    generator.cell_anchors = [base]  # its own are rounded to whole pixels: see `test_base_anchors`
    model = zoo.FasterRCNN(
        OneMap(backbone.trunk, backbone.channels),
        min_size=SHORTER,
        max_size=LONGEST,
        image_mean=backbone.mean.flatten().tolist(),
        image_std=backbone.std.flatten().tolist(),
        size_divisible=32,
        rpn_anchor_generator=generator,
        rpn_head=rpn_head,
        rpn_pre_nms_top_n_train=TRAIN_PROPOSALS.before,
        rpn_post_nms_top_n_train=TRAIN_PROPOSALS.after,
        rpn_pre_nms_top_n_test=PROPOSALS.before,
        rpn_post_nms_top_n_test=PROPOSALS.after,
        rpn_nms_thresh=PROPOSALS.nms_iou,
        rpn_score_thresh=0.0,
        rpn_fg_iou_thresh=LABELS.positive_iou,
        rpn_bg_iou_thresh=LABELS.negative_iou,
        rpn_batch_size_per_image=ALL,
        rpn_positive_fraction=LABELS.positive_fraction,
        box_head=backbone.head,
        box_predictor=box_predictor,
        box_score_thresh=0.0,
        box_nms_thresh=DETECTION.nms_iou,
        box_detections_per_img=ALL,
        box_fg_iou_thresh=SAMPLING.positive_iou,
        box_bg_iou_thresh=SAMPLING.background_iou[1],
        box_batch_size_per_image=ALL,
        box_positive_fraction=SAMPLING.positive_fraction,
        bbox_reg_weights=(unit,) * 4,
    )
    model.rpn.__class__ = SmallFirst
    model.rpn.min_size = RATIO * PROPOSALS.least_side
    model.roi_heads.box_roi_pool = PoolOneMap(backbone.roi_size, FURTHER[backbone.name])
    return model.to(dtype).eval()


def dtype_of(ours: FasterRCNN) -> torch.dtype:
    return ours.predictor.scores.weight.dtype


@dataclass(frozen=True, eq=False, repr=False)
class Pair:
    """The two networks, and what torchvision's stages make of the images, each when it is asked for.

    Attributes:
        pixels, scores: within how much boxes and probabilities are the same.
    """

    ours: FasterRCNN
    theirs: Any
    images: list[Tensor]
    pixels: float
    scores: float

    @property
    def as_floats(self) -> list[Tensor]:
        """The images as torchvision takes them."""
        return [image.to(dtype_of(self.ours)) / 255 for image in self.images]

    @cached_property
    def batch(self) -> ImageList:
        return self.theirs.transform(self.as_floats)[0]  # type: ignore[no-any-return]

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        return self.theirs.backbone(self.batch.tensors)  # type: ignore[no-any-return]

    @cached_property
    def anchors(self) -> list[Tensor]:
        """Of each image, [A, 4]."""
        return self.theirs.rpn.anchor_generator(self.batch, list(self.maps.values()))  # type: ignore[no-any-return]

    @cached_property
    def answers(self) -> tuple[Tensor, Tensor]:
        """The RPN's: logits [N, A], offsets [N, A, 4]."""
        scores, offsets = concat_box_prediction_layers(
            *self.theirs.rpn.head(list(self.maps.values()))
        )
        count = len(self.images)
        return scores.reshape(count, -1), offsets.reshape(count, -1, 4)

    @cached_property
    def proposals(self) -> list[Tensor]:
        """Of each image, [P, 4], in pixels of the scaled image."""
        return self.theirs.rpn(self.batch, self.maps)[0]  # type: ignore[no-any-return]

    @cached_property
    def pooled(self) -> Tensor:
        return self.theirs.roi_heads.box_roi_pool(  # type: ignore[no-any-return]
            self.maps, self.proposals, self.batch.image_sizes
        )


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(
    scope="module",
    params=[
        *(
            (name, source, dtype)
            for name in ("tiny", "squeezenet1_1")
            for source in SOURCES
            for dtype in (torch.float64, torch.float32)
        ),
        # Its head is convolutional, and slow.
        ("mobilenet_v2", "drawn", torch.float64),
        ("mobilenet_v2", "photographs", torch.float32),
    ],
    ids=lambda param: f"{param[0]}-{param[1]}-{str(param[2]).removeprefix('torch.')}",
)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    name, source, dtype = request.param
    images, _ = SOURCES[source]()
    tolerance = (1e-4, 1e-6) if dtype == torch.float64 else (1e-2, 1e-4)
    with precision(dtype):
        ours = build_ours(name, images, dtype)
        yield Pair(ours, build_theirs(ours), images, *tolerance)


# ------------------------------------------------------------------ comparing


def same(ours: Tensor, theirs: Tensor, within: float, what: str) -> None:
    assert ours.shape == theirs.shape, what
    torch.testing.assert_close(
        ours, theirs, rtol=0, atol=within, check_dtype=False, msg=lambda text: f"{what}: {text}"
    )


def same_boxes(
    ours: tuple[Tensor, Tensor, Tensor],
    theirs: tuple[Tensor, Tensor, Tensor],
    pixels: float,
    scores: float,
    what: str,
) -> None:
    """Boxes, labels and scores: best first, and the same ones, those that score the same in any order.

    The scores are compared as they are sorted. Boxes are paired off, each with the one that it is
    nearest to, and none is left over: rounding may bring another of two equally good ones first.
    """
    assert len(ours[0]) == len(theirs[0]) > 0, f"{what}: how many"
    assert (theirs[2].diff() <= 0).all()
    same(ours[2], theirs[2], scores, f"{what}: scores in their order")
    distance = torch.cdist(as_points(*ours), as_points(*theirs), p=torch.inf)
    rows, columns = linear_sum_assignment(distance.numpy())
    for number, kind, within in ((0, "boxes", pixels), (1, "labels", 0), (2, "scores", scores)):
        same(ours[number][rows], theirs[number][columns], within, f"{what}: {kind}")


def as_points(boxes: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
    # Labels a thousand pixels apart, a hundredth of a score as far as a pixel.
    return torch.cat([boxes, 1000 * labels[:, None], 100 * scores[:, None]], dim=1).double()


def no_labels(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return boxes, torch.zeros(len(boxes), dtype=torch.int64), scores


# ------------------------------------------------------------------ stage by stage


def test_pixels(pair: Pair) -> None:
    batch, _ = pair.ours.look(pair.images)
    assert batch.sizes == [tuple(size) for size in pair.batch.image_sizes]
    assert batch.sizes == SCALED
    assert batch.ratios.unique().tolist() == pytest.approx([RATIO])
    same(batch.pixels, pair.batch.tensors, 1e-5, "pixels")


def test_anchors(pair: Pair) -> None:
    (anchors,) = pair.ours.rpn.anchors([pair.maps["0"]])
    for theirs in pair.anchors:
        same(anchors, theirs, 1e-5, "anchors")


def test_rpn(pair: Pair) -> None:
    scores, offsets = pair.ours.rpn([pair.maps["0"]])
    same(scores, pair.answers[0], 1e-4, "logits")
    same(offsets, pair.answers[1], 1e-5, "offsets")
    # Otherwise what comes next says nothing.
    assert (scores.std(dim=1) > 1).all()
    assert (offsets.std(dim=1) > 0.1).all()


def test_proposals_before_suppression(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(PROPOSALS, nms_iou=1.0, after=ALL)
    _, large = compare_proposals(pair, config, monkeypatch)
    # Of a least side that only what is cut to nothing does not have.
    _, every = compare_proposals(pair, dataclasses.replace(config, least_side=1e-3), monkeypatch)
    # With one, worse-scoring ones are in the small ones' places.
    assert all(far > near for far, near in zip(large, every, strict=True))


@pytest.mark.parametrize(("nms_iou", "after"), [(0.7, 30), (0.3, 12), (0.5, ALL)])
def test_proposals(pair: Pair, nms_iou: float, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(PROPOSALS, nms_iou=nms_iou, after=after)
    few = 2
    monkeypatch.setattr(faster_rcnn.proposals, "FIRST", few)
    counts, reached = compare_proposals(pair, config, monkeypatch)
    if nms_iou == 0.3:  # the first few candidates did not suffice
        assert max(reached) >= few * after
    assert all(0 < count < 600 if after == ALL else count == after for count in counts)


@pytest.mark.parametrize("nms_iou", [1.0, 0.5])
def test_proposals_without_a_least_side(
    pair: Pair, nms_iou: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its weights are used: all is torchvision's, whose own least side is 1e-3."""
    monkeypatch.setattr(pair.theirs.rpn, "as_ours", False)
    config = dataclasses.replace(PROPOSALS, least_side=0.0, nms_iou=nms_iou, after=ALL)
    counts, _ = compare_proposals(pair, config, monkeypatch)
    assert max(counts) < 600  # something is cut to nothing, or suppressed, and has taken a place
    if nms_iou == 1:
        more, _ = compare_proposals(pair, dataclasses.replace(config, before=None), monkeypatch)
        assert all(few < many for few, many in zip(counts, more, strict=True))


def test_which_small_boxes_take_a_place_is_where_the_two_differ(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(PROPOSALS, nms_iou=1.0, after=ALL)
    monkeypatch.setattr(pair.theirs.rpn, "as_ours", False)
    with pytest.raises(AssertionError, match="how many"):
        compare_proposals(pair, config, monkeypatch)
    # Without a limit there is nothing to take a place of.
    compare_proposals(pair, dataclasses.replace(config, before=None), monkeypatch)


def compare_proposals(
    pair: Pair, config: ProposalConfig, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[int], list[int]]:
    """How many proposals each image has, and the rank among the candidates of the last of them."""
    scores, offsets = pair.answers
    ratios = torch.tensor([[0.5] * 4, [0.8] * 4, [1.5] * 4])  # each image's own least side
    found = select_proposals(
        scores, offsets, [pair.anchors[0]], pair.batch.image_sizes, ratios, config
    )
    rpn = pair.theirs.rpn
    monkeypatch.setattr(rpn, "nms_thresh", config.nms_iou)
    monkeypatch.setitem(rpn._pre_nms_top_n, "testing", config.before or ALL)
    monkeypatch.setitem(rpn._post_nms_top_n, "testing", config.after)
    moved = rpn.box_coder.decode(offsets.flatten(0, 1), pair.anchors).reshape(len(scores), -1, 4)
    reached = []
    for n, (boxes, logits) in enumerate(found):
        least = max(config.least_side * float(ratios[n, 0]), faster_rcnn.proposals.LEAST)
        monkeypatch.setattr(rpn, "min_size", least)
        (their_boxes,), (their_scores,) = rpn.filter_proposals(
            moved[n : n + 1],
            scores[n : n + 1],
            pair.batch.image_sizes[n : n + 1],
            [scores.shape[1]],
        )
        same_boxes(
            no_labels(boxes, logits.sigmoid()),
            no_labels(their_boxes, their_scores),
            pair.pixels,
            pair.scores,
            f"proposals of image {n}",
        )
        reached.append(int((scores[n] > logits[-1]).sum()))
    return [len(boxes) for boxes, _ in found], reached


def test_pooling(pair: Pair) -> None:
    pooled = pair.ours.pool([pair.maps["0"]])(numbered(pair.proposals))
    same(pooled, pair.pooled, 0, "pooled maps")
    assert len(pooled) == PROPOSALS.after * len(SIZES)
    # Two that are the same would score the same, and which suppresses the other would be chance.
    assert len(torch.unique(pooled.flatten(1), dim=0)) == len(pooled)


def test_head(pair: Pair) -> None:
    heads = pair.theirs.roi_heads
    theirs = heads.box_predictor(heads.box_head(pair.pooled))
    scores, offsets = pair.ours.predictor(pair.ours.backbone.head(pair.pooled))
    same(scores, theirs[0], 1e-5, "class scores")
    same(offsets, theirs[1].unflatten(1, (-1, 4))[:, 1:], 1e-5, "class offsets")
    assert (scores.std(dim=0) > 1).all()
    assert (offsets.std(dim=0) > 0.1).all()


# ------------------------------------------------------------------ the whole


def test_propose(pair: Pair) -> None:
    """In the images' own pixels."""
    for n, (boxes, logits) in enumerate(pair.ours.propose(pair.images)):
        height, width = SIZES[n]
        high, wide = pair.batch.image_sizes[n]
        theirs = pair.proposals[n] * torch.tensor([width / wide, height / high] * 2).double()
        assert (logits.diff() <= 0).all()
        same(boxes, theirs, pair.pixels, f"proposals of image {n}")


def test_detections(pair: Pair) -> None:
    every = pair.ours(pair.images)
    theirs = pair.theirs(pair.as_floats)
    for n, (found, expected) in enumerate(zip(every, theirs, strict=True)):
        same_boxes(
            (found["boxes"], found["labels"], found["scores"]),
            (expected["boxes"], expected["labels"], expected["scores"]),
            pair.pixels,
            pair.scores,
            f"detections of image {n}",
        )
        assert set(found["labels"].tolist()) == {1, 2, 3, 4}
        # That suppression had something to do, and left something.
        assert 2 * len(CLASSES) < len(found["boxes"]) < 0.9 * PROPOSALS.after * len(CLASSES)


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("source", SOURCES)
def test_it_learns_the_same(source: str) -> None:
    """With all anchors and all RoIs drawn: the four losses, and the gradient of every weight.

    torchvision's smooth L1 of the detector bends at 1/9, ours, Fast R-CNN's, at 1: of offsets in
    units nine times as large torchvision's is a ninth of ours.
    """
    images, targets = SOURCES[source]()
    with precision(torch.float64), torch.enable_grad():
        # A head without dropout, which is chance.
        ours = build_ours("tiny", images, torch.float64)
        targets = among_proposals(ours, images, targets)
        ours.train()
        theirs = build_theirs(ours, unit=1 / 9).train()
        theirs.rpn.nms_thresh = TRAIN_PROPOSALS.nms_iou

        losses = ours(images, targets)
        sum(losses.values()).backward()
        gradients = {key: value.grad for key, value in ours.named_parameters()}
        ours.zero_grad()  # trunk and head are one object in both
        expected = theirs([image.double() / 255 for image in images], targets)
        expected["loss_box_reg"] = 9 * expected["loss_box_reg"]
        sum(expected.values()).backward()

    for key, of_theirs in (
        ("objectness", "loss_objectness"),
        ("rpn_boxes", "loss_rpn_box_reg"),
        ("classification", "loss_classifier"),
        ("boxes", "loss_box_reg"),
    ):
        assert losses[key] > 1e-3
        relative(losses[key], expected[of_theirs], key)
    head, predictor = theirs.rpn.head, theirs.roi_heads.box_predictor
    pairs: dict[str, Any] = {
        "rpn.conv": head.conv[0][0],
        "rpn.scores": head.cls_logits,
        "rpn.offsets": head.bbox_pred,
        "predictor.scores": predictor.cls_score,
        "predictor.offsets": predictor.bbox_pred,
    }
    assert len(gradients) > 15
    for key, gradient in gradients.items():
        assert gradient is not None and gradient.abs().max() > 0, key
        layer, _, kind = key.rpartition(".")
        at = (
            ours.get_parameter(key)
            if layer.startswith("backbone.")
            else getattr(pairs[layer], kind)
        )
        their_gradient: Any = at.grad
        if layer == "predictor.offsets":
            their_gradient = their_gradient[4:] / 9
        relative(gradient, their_gradient, key)


def among_proposals(ours: FasterRCNN, images: list[Tensor], targets: list[Target]) -> list[Target]:
    """The images' objects, and more near some proposals, so that there are RoIs to be moved."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for image, own, (boxes, _) in zip(images, targets, ours.propose(images), strict=True):
        offsets = 0.1 * torch.randn(4, 4, generator=generator, dtype=torch.float64)
        near = decode(boxes[::4].clone(), offsets)
        near = torchvision.ops.clip_boxes_to_image(near, image.shape[1:])
        found.append(target(torch.cat([own["boxes"], near.to(torch.float32)])))
    return found


def relative(ours: Tensor, theirs: Tensor, what: str) -> None:
    same(ours, theirs, 1e-5 * float(theirs.detach().abs().max()), what)


def anchors_and_objects() -> list[tuple[Tensor, Tensor, tuple[int, int]]]:
    """Of drawn scenes: anchors [A, 4], objects [G, 4], and the image's size."""
    base = base_anchors((16.0, 32.0, 64.0, 128.0), ANCHORS.ratios)
    config = ShapesConfig(train=0, test=0)
    anchors = grid_anchors(base, config.height // 16, config.width // 16, 16, 0.0)
    scenes = [draw_scene(np.random.default_rng([8, number]), config) for number in range(30)]
    size = (config.height, config.width)
    return [(anchors, torch.from_numpy(scene.boxes), size) for scene in scenes]


def real_anchors_and_objects(name: str) -> list[tuple[Tensor, Tensor, tuple[int, int]]]:
    """Of whole photographs, at the paper's scale and mostly with its anchors."""
    found = []
    base = base_anchors((32.0, 64.0, 128.0, 256.0, 512.0), ANCHORS.ratios)
    data = VOCFolder(data_set(name), name)
    for record in data.test[:60:10]:
        high, wide = size_at(record.height, record.width, 600, 1000)
        ratio = torch.tensor([wide / record.width, high / record.height] * 2)
        frame = frame_of([(high, wide)])
        anchors = grid_anchors(base, frame[0] // 16, frame[1] // 16, 16, 0.0)
        found.append((anchors, torch.from_numpy(record.boxes) * ratio, (high, wide)))
    return found


def their_labels(anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    rpn = RegionProposalNetwork(
        AnchorGenerator(), nn.Identity(), 0.7, 0.3, 256, 0.5, {}, {}, nms_thresh=0.7
    )
    (labels,), (matched,) = rpn.assign_targets_to_anchors([anchors], [{"boxes": boxes}])
    return labels, matched


@pytest.mark.parametrize("source", ["drawn", *(name for name, _ in PHOTOGRAPHS)])
def test_labels_of_anchors(source: str) -> None:
    cases = anchors_and_objects() if source == "drawn" else real_anchors_and_objects(source)
    for anchors, boxes, size in cases:
        labels, nearest = label_anchors(anchors, boxes, size, LabelConfig(inside=False))
        theirs, matched = their_labels(anchors, boxes)
        assert torch.equal(labels.float(), theirs)
        learns = labels == POSITIVE
        assert learns.any()
        assert (labels == NEGATIVE).any()
        assert torch.equal(boxes[nearest[learns]], matched[learns])
        same(
            encode(anchors[learns], boxes[nearest[learns]]),
            BoxCoder((1.0,) * 4).encode_single(matched[learns], anchors[learns]),
            1e-5,
            "targets",
        )
        # As the paper: those across the edge are as if they were not there.
        within = inside(anchors, *size)
        labels, nearest = label_anchors(anchors, boxes, size, LabelConfig(inside=True))
        theirs, matched = their_labels(anchors[within], boxes)
        assert 0 < within.sum() < len(within)
        assert (labels[~within] == IGNORED).all()
        assert torch.equal(labels[within].float(), theirs)
        learns = labels[within] == POSITIVE
        assert torch.equal(boxes[nearest[within][learns]], matched[learns])


def test_labels_without_objects() -> None:
    ((anchors, _, size), *_) = anchors_and_objects()
    labels, _ = label_anchors(anchors, torch.zeros(0, 4), size, LabelConfig(inside=False))
    assert torch.equal(labels.float(), their_labels(anchors, torch.zeros(0, 4))[0])


def test_an_object_that_meets_no_anchor_is_where_the_two_differ() -> None:
    """Its best overlap is 0, which any anchor has: torchvision gives it all that nothing else claims."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [50, 0, 60, 10], [20, 0, 30, 10]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [90, 90, 99, 99]])
    labels, _ = label_anchors(anchors, boxes, (100, 100), LabelConfig(inside=False))
    assert labels.tolist() == [POSITIVE, NEGATIVE, NEGATIVE]
    assert their_labels(anchors, boxes)[0].tolist() == [1, 1, 1]


# ------------------------------------------------------------------ anchors and the box coder alone


@pytest.mark.parametrize("sizes", [(128.0, 256.0, 512.0), (48.0, 96.0), (7.5,)])
@pytest.mark.parametrize("ratios", [(0.5, 1.0, 2.0), (0.3, 4.0)])
def test_base_anchors(sizes: tuple[float, ...], ratios: tuple[float, ...]) -> None:
    """torchvision's before it rounds: a million times as large, where rounding does little."""
    million = 2.0**20
    theirs = AnchorGenerator.generate_anchors(
        None, [size * million for size in sizes], ratios, dtype=torch.float64
    )
    same(base_anchors(sizes, ratios), theirs / million, 1e-4, "anchors of a position")
    rounded = AnchorGenerator((sizes,), (ratios,)).cell_anchors[0]
    same(base_anchors(sizes, ratios), rounded, 0.501, "anchors of a position, rounded")


def test_anchors_that_rounding_leaves_alone() -> None:
    config = RPNConfig(width=8, anchors=AnchorConfig((32.0, 64.0), (0.25, 1.0, 4.0), centre=0.0))
    of_map = torch.zeros(1, 8, 5, 7)
    (ours,) = RPN(8, config, (STRIDE,)).anchors([of_map])
    generator = AnchorGenerator((config.anchors.sizes,), (config.anchors.ratios,))
    image = ImageList(torch.zeros(1, 3, 5 * STRIDE, 7 * STRIDE), [(5 * STRIDE, 7 * STRIDE)])
    assert torch.equal(ours, generator(image, [of_map])[0])
    assert len(ours) == 5 * 7 * 6


def test_a_map_a_cell_short_is_where_the_two_differ() -> None:
    """SqueezeNet does not pad: 256 pixels are 15 cells, 32 more are 2 more, so 16 a cell.

    torchvision divides, 256 by 15, and rounds: its anchors are 17 apart, the last 14 pixels off.
    """
    trunk = build_backbone("squeezenet1_1", Weights(None, "random")).trunk.eval()
    cells = [trunk(torch.zeros(1, 3, 64, wide)).shape[3] for wide in (256, 288, 320)]
    assert cells == [15, 17, 19]
    of_map = torch.zeros(1, 8, 15, 15)
    (ours,) = RPN(8, RPNConfig(width=8, anchors=ANCHORS), (STRIDE,)).anchors([of_map])
    generator = AnchorGenerator((ANCHORS.sizes,), (ANCHORS.ratios,))
    (theirs,) = generator(ImageList(torch.zeros(1, 3, 256, 256), [(256, 256)]), [of_map])
    assert (ours[-1] - ours[8]).tolist() == pytest.approx([14 * 16] * 4, abs=1e-3)
    assert (theirs[-1] - theirs[8]).tolist() == [14 * 17] * 4


def test_box_coder() -> None:
    generator = torch.Generator().manual_seed(0)
    coder = BoxCoder((1.0,) * 4)

    def boxes() -> Tensor:
        corner = 500 * torch.rand(2000, 2, generator=generator, dtype=torch.float64)
        sides = 1 + 300 * torch.rand(2000, 2, generator=generator, dtype=torch.float64)
        return torch.cat([corner, corner + sides], dim=1)

    from_boxes, to_boxes = boxes(), boxes()
    same(encode(from_boxes, to_boxes), coder.encode_single(to_boxes, from_boxes), 1e-9, "encode")
    # Beyond the limit of the logarithms, too.
    offsets = 3 * torch.randn(2000, 4, generator=generator, dtype=torch.float64)
    assert (offsets > 4.2).any(dim=0).all()
    same(decode(from_boxes, offsets), coder.decode_single(offsets, from_boxes), 1e-6, "decode")
