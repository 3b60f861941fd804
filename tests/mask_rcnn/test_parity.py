"""The same as torchvision's Mask R-CNN and Faster R-CNN over a pyramid, with the same weights.

Of the stages each test gives both sides the same input, torchvision's, so that what fails says where;
whole runs come after them. The weights are random, and then made sane: see `build_theirs`.

A anchors of an image, K classes, P proposals, n detections, H and W of an image in pixels.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models
import torchvision.models.detection as zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.models.detection.transform import _resize_image_and_masks
from torchvision.ops.misc import FrozenBatchNorm2d

from fast_rcnn.config import ScaleConfig
from faster_rcnn.network import numbered
from faster_rcnn.proposals import select_proposals
from mask_rcnn.config import Config
from mask_rcnn.detector import build
from mask_rcnn.network import MaskRCNN
from mask_rcnn.torchvision_weights import coco_classes, convert, describe
from stages.backbones.weights import fill
from stages.data.images import image_tensor
from stages.data.shapes import ShapesConfig, draw_scene
from stages.data.voc import VOCFolder
from stages.errors import InputError
from stages.resize import Batch, size_at

SHARED = Path(__file__).parents[2] / "../shared/data"
PHOTOGRAPHS = (("street5", 1), ("pets", 0))  # and which of its test images

# Heights and widths. Of a common frame of 160 x 160 each leaves a part empty, and the map beyond the
# last stride has 3 x 3 cells, 53 pixels apart instead of 64.
SIZES = ((240, 333), (310, 230))
SHORTER, LONGEST = 112, 151
SCALED = [(108, 151), (150, 112)]
FRAME = 160

CLASSES = ("cat", "dog", "bird", "cup")
BEFORE, AFTER, PER_IMAGE = 200, 60, 8
LESS = {  # than torchvision's networks come with
    "min_size": SHORTER,
    "max_size": LONGEST,
    "rpn_pre_nms_top_n_test": BEFORE,
    "rpn_post_nms_top_n_test": AFTER,
    "box_detections_per_img": PER_IMAGE,
}
FILE = Path("weights.pth")


# ------------------------------------------------------------------ images


@cache
def drawn() -> list[Tensor]:
    images = []
    for number, (height, width) in enumerate(SIZES):
        config = ShapesConfig(train=0, test=0, width=width, height=height)
        scene = draw_scene(np.random.default_rng([9, number]), config)
        images.append(torch.from_numpy(scene.image).permute(2, 0, 1).contiguous())
    return images


@cache
def photographs() -> list[Tensor]:
    """The middle of a photograph of each data set."""
    images = []
    for (name, number), (height, width) in zip(PHOTOGRAPHS, SIZES, strict=True):
        image = photograph(name, number)
        top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
        assert min(top, left) >= 0
        images.append(image[:, top : top + height, left : left + width].contiguous())
    return images


def photograph(name: str, number: int) -> Tensor:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"no {name} beside the checkout")
    return image_tensor(VOCFolder(root, name).test[number])


SOURCES = {"drawn": drawn, "photographs": photographs}


# ------------------------------------------------------------------ the two networks


@contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Ours computes boxes and probabilities in float32, whatever the network is in; here in `dtype`."""
    with pytest.MonkeyPatch.context() as patch:
        if dtype == torch.float64:
            patch.setattr(Tensor, "float", Tensor.double)
        yield


def small(masks: bool) -> Any:
    """torchvision's, with fewer pixels, proposals and detections."""
    make = zoo.maskrcnn_resnet50_fpn if masks else zoo.fasterrcnn_resnet50_fpn
    return make(
        weights=None,
        weights_backbone=None,
        num_classes=len(CLASSES) + 1,
        **LESS,
    )


@cache
@torch.no_grad()
def build_theirs(masks: bool, source: str) -> Any:
    """With random weights, under which activations over these images neither grow nor are all alike.

    No two scores are nearly the same, as those of random weights are: which of them is first would be
    chance. The RPN's are mostly below 0: torchvision sorts probabilities, and near 1 there are few to
    choose from.
    """
    torch.manual_seed(3)
    theirs = small(masks).eval()
    rpn, heads = theirs.rpn.head, theirs.roi_heads
    units = torch.tensor(heads.box_coder.weights).repeat(len(CLASSES) + 1)
    outputs: dict[nn.Module, tuple[float, float | Tensor]] = {
        rpn.cls_logits: (-5.0, 2.0),
        rpn.bbox_pred: (0.0, 0.1),
        heads.box_predictor.cls_score: (0.0, 0.5),
        heads.box_predictor.bbox_pred: (0.0, 0.1 * units),
    }
    if masks:
        outputs[heads.mask_predictor.mask_fcn_logits] = (0.0, 2.0)
    settle(theirs, [image / 255 for image in SOURCES[source]()], outputs)
    return theirs


def settle(
    network: Any, images: list[Tensor], outputs: dict[nn.Module, tuple[float, float | Tensor]]
) -> None:
    """Changes each layer, as the first inputs reach it, so that what it puts out has mean 0, deviation 1.

    Of `outputs`, their own. Batch norms get the statistics, and random factors.
    """
    normed = set(network.backbone.body.modules())
    seen = set()

    def change(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        if layer in seen:
            return
        seen.add(layer)
        if isinstance(layer, (nn.BatchNorm2d, FrozenBatchNorm2d)):
            layer.get_buffer("running_mean").copy_(inputs[0].mean(dim=(0, 2, 3)))
            layer.get_buffer("running_var").copy_(inputs[0].var(dim=(0, 2, 3)))
            layer.weight.data.uniform_(0.1, 0.3)  # less: rounding grows less
            layer.bias.data.normal_(0, 0.2)
        elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and layer not in normed:
            spread(layer, inputs[0], *outputs.get(layer, (0.0, 1.0)))

    hooks = [layer.register_forward_pre_hook(change) for layer in network.modules()]
    network(images)
    for hook in hooks:
        hook.remove()


def spread(layer: nn.Module, inputs: Tensor, mean: float, deviation: float | Tensor) -> None:
    """Changes the layer so that each of its outputs has this mean and deviation over these inputs."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    bias.zero_()
    outputs = layer.forward(inputs).transpose(0, 1).flatten(1)
    factor = deviation / outputs.std(dim=1)
    assert factor.isfinite().all()
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    weight.mul_(factor.reshape(-1, *[1] * (weight.dim() - 1 - axis)))
    bias.copy_(mean - factor * outputs.mean(dim=1))


@cache
def converted(masks: bool, source: str) -> dict[str, Tensor]:
    return convert(build_theirs(masks, source).state_dict(), FILE)


def build_ours(masks: bool, source: str = "drawn") -> MaskRCNN:
    """By the description that `convert` goes with, as small as `small`."""
    whole = describe(CLASSES, masks)
    ours = build(
        dataclasses.replace(
            whole,
            scale=ScaleConfig((SHORTER,), (SHORTER,), LONGEST, down=whole.scale.down),
            proposals=dataclasses.replace(whole.proposals, before=BEFORE, after=AFTER),
            detection=dataclasses.replace(whole.detection, per_image=PER_IMAGE),
        )
    )
    fill(ours, converted(masks, source), FILE)
    return ours.eval()


@dataclass(frozen=True, eq=False, repr=False)
class Pair:
    """The two networks, and what torchvision's stages make of the images, each when it is asked for.

    Attributes:
        pixels, scores: within how much boxes and probabilities are the same; exact: all else, compared
            to the largest.
    """

    ours: MaskRCNN
    theirs: Any
    images: list[Tensor]
    pixels: float
    scores: float
    exact: float

    @property
    def dtype(self) -> torch.dtype:
        return self.ours.predictor.scores.weight.dtype

    @cached_property
    def seen(self) -> tuple[Batch, list[Tensor]]:
        """Ours: the batch and its maps."""
        return self.ours.look(self.images)

    @cached_property
    def batch(self) -> ImageList:
        images = [image.to(self.dtype) / 255 for image in self.images]
        return self.theirs.transform(images)[0]

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        return self.theirs.backbone(self.batch.tensors)  # type: ignore[no-any-return]

    @property
    def list_of_maps(self) -> list[Tensor]:
        return list(self.maps.values())

    @cached_property
    def anchors(self) -> Tensor:
        """The same for each image, [A, 4]."""
        return self.theirs.rpn.anchor_generator(self.batch, self.list_of_maps)[0]  # type: ignore[no-any-return]

    @cached_property
    def answers(self) -> tuple[Tensor, Tensor]:
        """The RPN's: logits [N, A], offsets [N, A, 4]."""
        scores, offsets = concat_box_prediction_layers(*self.theirs.rpn.head(self.list_of_maps))
        count = len(self.images)
        return scores.reshape(count, -1), offsets.reshape(count, -1, 4)

    @cached_property
    def proposals(self) -> list[Tensor]:
        """Of each image, [P, 4], in pixels of the scaled image."""
        return self.theirs.rpn(self.batch, self.maps)[0]  # type: ignore[no-any-return]

    @cached_property
    def rois(self) -> list[Tensor]:
        """Proposals, which mostly are small here, and RoIs of every size."""
        sides = torch.tensor([1.0, 30, 110, 120, 220, 230, 440, 460, 1000])
        boxes = torch.tensor([-0.4, -0.3, 0.6, 0.7]) * sides[:, None] + 90
        return [torch.cat([own, boxes.to(own.dtype)]) for own in self.proposals]

    def pooled(self, kind: str) -> Tensor:
        """`rois`, for the boxes' head or the masks', `kind`."""
        pool = getattr(self.theirs.roi_heads, f"{kind}_roi_pool")
        return pool(self.maps, self.rois, self.batch.image_sizes)  # type: ignore[no-any-return]

    def detections(self) -> list[dict[str, Tensor]]:
        """All that comes after the proposals."""
        sizes = self.batch.image_sizes
        found, _ = self.theirs.roi_heads(self.maps, self.proposals, sizes)
        own = [tuple(image.shape[1:]) for image in self.images]
        return self.theirs.transform.postprocess(found, sizes, own)  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _no_gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    """In each test, and the pair's precision."""
    of_pair = "pair" in request.fixturenames
    dtype = request.getfixturevalue("pair").dtype if of_pair else torch.float32
    with torch.no_grad(), precision(dtype):
        yield


@pytest.fixture(
    scope="module",
    params=[
        (True, "drawn", torch.float64),
        (True, "drawn", torch.float32),
        (True, "photographs", torch.float64),
        (True, "photographs", torch.float32),
        (False, "drawn", torch.float32),
        (False, "photographs", torch.float64),
    ],
    ids=lambda param: "-".join(
        ("masks" if param[0] else "boxes", param[1], str(param[2]).removeprefix("torch."))
    ),
)
def pair(request: pytest.FixtureRequest) -> Pair:
    masks, source, dtype = request.param
    images = SOURCES[source]()
    tolerance = (1e-4, 1e-6, 1e-9) if dtype == torch.float64 else (1e-2, 1e-4, 1e-4)
    ours = build_ours(masks, source).to(dtype)
    theirs = deepcopy(build_theirs(masks, source)).to(dtype)
    # Ours are float32, wherever they are used.
    theirs.transform.image_mean = ours.backbone.mean.flatten().tolist()
    theirs.transform.image_std = ours.backbone.std.flatten().tolist()
    return Pair(ours, theirs, images, *tolerance)


# ------------------------------------------------------------------ comparing


def same(ours: Tensor, theirs: Tensor, within: float, what: str) -> None:
    assert ours.shape == theirs.shape, what
    torch.testing.assert_close(
        ours, theirs, rtol=0, atol=within, check_dtype=False, msg=lambda text: f"{what}: {text}"
    )


def relative(ours: Tensor, theirs: Tensor, within: float, what: str) -> None:
    same(ours, theirs, within * float(theirs.abs().max()), what)


def same_detections(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], pixels: float, scores: float, what: str
) -> None:
    """Best first, and the same ones, those that score the same in any order.

    Scores are compared as they are sorted. Boxes are paired off, each with the one that it is nearest
    to, and none is left over: rounding may bring another of two equally good ones first.
    """
    assert ours.keys() == theirs.keys(), what
    assert len(ours["boxes"]) == len(theirs["boxes"]), f"{what}: how many"
    assert (theirs["scores"].diff() <= 0).all()
    same(ours["scores"], theirs["scores"], scores, f"{what}: scores in their order")
    distance = torch.cdist(as_points(ours), as_points(theirs), p=torch.inf)
    rows, columns = linear_sum_assignment(distance.numpy())
    for key, within in (("boxes", pixels), ("labels", 0), ("scores", scores)):
        same(ours[key][rows], theirs[key][columns], within, f"{what}: {key}")
    if "masks" in ours:
        same_masks(ours["masks"][rows], theirs["masks"][columns][:, 0], what)


def as_points(found: dict[str, Tensor]) -> Tensor:
    # Labels a thousand pixels apart, a hundredth of a score as far as a pixel.
    return torch.cat(
        [found["boxes"], 1000 * found["labels"][:, None], 100 * found["scores"][:, None]], dim=1
    ).double()


def same_masks(ours: Tensor, theirs: Tensor, what: str) -> None:
    """[n, H, W], bool and probabilities: the same in every pixel.

    In float32 but for 3 in 10,000, whose probability is a half, as it were.
    """
    assert ours.dtype == torch.bool
    assert ours.shape == theirs.shape, what
    differ = ours != (theirs >= 0.5)
    if theirs.dtype == torch.float64:
        assert not differ.any(), f"{what}: masks"
    assert (theirs[differ] - 0.5).abs().lt(1e-3).all(), f"{what}: masks"
    assert differ.sum() <= 3e-4 * ours.sum(), f"{what}: masks"


# ------------------------------------------------------------------ stage by stage


def test_pixels(pair: Pair) -> None:
    batch, _ = pair.seen
    assert batch.sizes == [tuple(size) for size in pair.batch.image_sizes] == SCALED
    same(batch.pixels, pair.batch.tensors, 1e-5, "pixels")
    assert batch.pixels.shape == (2, 3, FRAME, FRAME)


def test_maps(pair: Pair) -> None:
    _, maps = pair.seen
    for number, (ours, theirs) in enumerate(zip(maps, pair.list_of_maps, strict=True)):
        relative(ours, theirs, pair.exact, f"map {number}")
    assert [len(of_map[0, 0]) for of_map in maps] == [40, 20, 10, 5, 3]


def test_anchors(pair: Pair) -> None:
    anchors = torch.cat(pair.ours.rpn.anchors(pair.list_of_maps))
    same(anchors, pair.anchors, 0, "anchors")


def test_rpn(pair: Pair) -> None:
    scores, offsets = pair.ours.rpn(pair.list_of_maps)
    relative(scores, pair.answers[0], pair.exact, "logits")
    relative(offsets, pair.answers[1], pair.exact, "offsets")
    # Otherwise what comes next says nothing.
    assert (scores.std(dim=1) > 1).all()
    assert (offsets.std(dim=1) > 0.05).all()


def test_proposals(pair: Pair) -> None:
    found = select_proposals(
        *pair.answers,
        pair.ours.rpn.anchors(pair.list_of_maps),
        pair.batch.image_sizes,
        torch.ones(len(SIZES), 4),
        pair.ours.proposals,
    )
    for n, ((boxes, _), theirs) in enumerate(zip(found, pair.proposals, strict=True)):
        same(boxes, theirs, pair.pixels, f"proposals of image {n}")
        assert len(boxes) == AFTER


def test_pooling(pair: Pair) -> None:
    rois = numbered(pair.rois)
    pools = {"box": pair.ours.pool}
    if pair.ours.mask_head is not None:
        pools["mask"] = pair.ours.mask_pool
    for kind, pool in pools.items():
        relative(pool(pair.list_of_maps)(rois), pair.pooled(kind), pair.exact, kind)
    assert pair.ours.pool.levels(rois).unique().tolist() == [0, 1, 2, 3]  # type: ignore[attr-defined]


def test_heads(pair: Pair) -> None:
    heads, ours = pair.theirs.roi_heads, pair.ours
    pooled = pair.pooled("box")
    theirs = heads.box_predictor(heads.box_head(pooled))
    scores, offsets = ours.predictor(ours.backbone.head(pooled))
    relative(scores, theirs[0], pair.exact, "class scores")
    # Theirs has offsets for the background, too, and of other units.
    of_classes = theirs[1].unflatten(1, (-1, 4))[:, 1:] / torch.tensor(heads.box_coder.weights)
    relative(offsets, of_classes, max(pair.exact, 1e-6), "class offsets")
    assert (scores.std(dim=0) > 0.3).all()
    assert (offsets.std(dim=0) > 0.05).all()
    if ours.mask_head is not None:
        pooled = pair.pooled("mask")[:PER_IMAGE]
        logits = heads.mask_predictor(heads.mask_head(pooled))
        relative(ours.mask_head(pooled), logits[:, 1:], pair.exact, "mask logits")
        assert (logits.std(dim=(0, 2, 3)) > 1).all()


# ------------------------------------------------------------------ the whole


def test_detections(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of what was seen already: networks take their time.
    monkeypatch.setattr(pair.ours, "look", lambda _, seen=pair.seen: seen)
    every = pair.ours(pair.images)
    for n, (found, theirs) in enumerate(zip(every, pair.detections(), strict=True)):
        same_detections(found, theirs, pair.pixels, pair.scores, f"detections of image {n}")
        assert len(found["boxes"]) == PER_IMAGE
        assert len(found["labels"].unique()) > 1
        if "masks" in found:
            assert 0.01 < found["masks"].float().mean() < 0.9


def test_detections_of_none(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair.ours, "look", lambda _, seen=pair.seen: seen)
    of_none = dataclasses.replace(pair.ours.detection, least_score=1.0)
    monkeypatch.setattr(pair.ours, "detection", of_none)
    monkeypatch.setattr(pair.theirs.roi_heads, "score_thresh", 1.0)
    every = pair.ours(pair.images)
    for n, (found, theirs) in enumerate(zip(every, pair.detections(), strict=True)):
        assert len(found["boxes"]) == 0
        same_detections(found, theirs, 0, 0, f"detections of image {n}")


def test_a_photograph_as_it_comes() -> None:
    """At 800 pixels, with as many proposals and detections as both give without a word from anyone."""
    image = photograph("pets", 0)
    ours = build(describe(CLASSES, masks=True))
    fill(ours, converted(True, "photographs"), FILE)
    theirs = whole_of(build_theirs(True, "photographs"))
    (found,) = ours.eval()([image])
    (expected,) = theirs([image / 255])
    assert len(found["boxes"]) > PER_IMAGE
    same_detections(found, expected, 1e-2, 1e-4, "detections")


def whole_of(reduced: Any) -> Any:
    """torchvision's network with these weights, and all its own settings."""
    theirs = zoo.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=len(CLASSES) + 1
    )
    theirs.load_state_dict(reduced.state_dict())
    return theirs.eval()


def test_frames_of_any_shape() -> None:
    """Anchors on the map beyond the last stride, which has a cell for less than 64 pixels."""
    ours, theirs = build_ours(False), build_theirs(False, "drawn")
    for height, width in [(64, 64), (96, 160), (800, 1088), (1344, 800), (224, 1312)]:
        maps = [torch.zeros(1, 1, height // stride, width // stride) for stride in (4, 8, 16, 32)]
        maps.append(maps[-1][:, :, ::2, ::2])
        frame = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
        (expected,) = theirs.rpn.anchor_generator(frame, maps)
        same(torch.cat(ours.rpn.anchors(maps)), expected, 0, f"anchors of {height} x {width}")


Side = st.integers(60, 1000)


@settings(max_examples=100)
@given(Side, Side, st.integers(100, 1000), st.integers(100, 1500))
def test_images_of_any_size(height: int, width: int, shorter: int, longest: int) -> None:
    nothing = torch.empty(1, height, width, device="meta")
    resized, _ = _resize_image_and_masks(nothing, shorter, longest)
    assert size_at(height, width, shorter, longest, down=True) == resized.shape[1:]


# ------------------------------------------------------------------ files


def as_old(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As torchvision called the layers until 0.12, and without the versions that it wrote since."""
    renamed = {}
    for key, value in state.items():
        key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for n in range(4):
            for blocks in ("inner_blocks", "layer_blocks"):
                key = key.replace(f"fpn.{blocks}.{n}.0.", f"fpn.{blocks}.{n}.")
            key = key.replace(
                f"roi_heads.mask_head.{n}.0.", f"roi_heads.mask_head.mask_fcn{n + 1}."
            )
        if not key.endswith("num_batches_tracked"):
            renamed[key] = value
    return renamed


def test_files_of_old_versions() -> None:
    state = build_theirs(True, "drawn").state_dict()
    old = as_old(state)
    assert {
        "rpn.head.conv.weight",
        "backbone.fpn.inner_blocks.0.weight",
        "backbone.fpn.layer_blocks.3.bias",
        "roi_heads.mask_head.mask_fcn1.weight",
    } <= old.keys()
    before = set(old)
    of_old, of_new = convert(old, FILE), converted(True, "drawn")
    assert of_old.keys() == of_new.keys()
    assert all(torch.equal(of_old[key], of_new[key]) for key in of_new)
    assert set(old) == before  # what was given is as it was


@pytest.mark.parametrize("factor", [1e-2, 1e-7])
def test_norms_of_the_published_weights(factor: float) -> None:
    """Their batch norms are frozen, and add nothing to the variance, however small that is."""
    torch.manual_seed(4)
    resnet = torchvision.models.resnet50(norm_layer=FrozenBatchNorm2d)
    trunk = _resnet_fpn_extractor(resnet, 3)
    theirs = zoo.FasterRCNN(trunk, len(CLASSES) + 1, **LESS).eval()
    overwrite_eps(theirs, 0.0)
    batch = theirs.transform([image / 255 for image in drawn()])[0]
    settle(theirs, [image / 255 for image in drawn()], {})
    # So small that what is added would be seen.
    body = theirs.backbone.body
    body.conv1.weight.mul_(factor)
    body.bn1.running_mean.mul_(factor)
    body.bn1.running_var.mul_(factor**2)
    maps = list(theirs.backbone(batch.tensors).values())
    ours = build_ours(False)
    for eps, equal in ((0.0, True), (1e-5, False)):
        fill(ours, convert(theirs.state_dict(), FILE, eps), FILE)
        apart = [
            float((of_ours - of_theirs).abs().max() / of_theirs.abs().max())
            for of_ours, of_theirs in zip(ours.maps(batch.tensors), maps, strict=True)
        ]
        assert (max(apart) < 1e-4) if equal else (min(apart) > 1e-3)


SCORES = "roi_heads.box_predictor.cls_score.weight"


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"weight": torch.zeros(3)},
        {SCORES: torch.zeros(5, 1024)},
        {SCORES: torch.zeros(5, 1024), "roi_heads.mask_head.0.0.weight": torch.zeros(3)},
        {SCORES: torch.tensor(3.0)},
        {SCORES: 3},
        {SCORES: None},
    ],
    ids=["nothing", "other keys", "one key", "one of masks", "a number", "no tensor", "None"],
)
def test_what_is_no_such_file_is_refused(state: dict[str, Any]) -> None:
    refused(state)


@pytest.mark.parametrize(
    "make",
    [
        torchvision.models.resnet18,
        zoo.fasterrcnn_mobilenet_v3_large_320_fpn,
        zoo.maskrcnn_resnet50_fpn_v2,
    ],
)
def test_other_networks_are_refused(make: Callable[..., nn.Module]) -> None:
    options = {"weights": None}
    if make is not torchvision.models.resnet18:
        options["weights_backbone"] = None
    refused(make(**options).state_dict())


def test_what_is_too_much_or_of_another_shape_is_refused() -> None:
    state = build_theirs(False, "drawn").state_dict()
    refused(OrderedDict(state, more=torch.zeros(1)))
    refused(OrderedDict(state, **{"rpn.head.cls_logits.bias": torch.zeros(9)}))
    refused(OrderedDict(state, **{"rpn.head.cls_logits.bias": 3}))


def refused(state: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^weights\.pth: not weights of torchvision's ") as error:
        convert(state, FILE)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_classes_of_coco() -> None:
    names = coco_classes()
    assert (len(names), names[0], names[11], names[-1]) == (90, "person", "N/A", "toothbrush")


def test_what_it_detects_is_the_papers_but_for_torchvisions_own_ways() -> None:
    ours, paper = describe(CLASSES, masks=True), Config()
    assert ours.network.pyramid == paper.network.pyramid
    assert ours.network.mask == paper.network.mask
    assert not ours.network.pool.half_pixel
    assert ours.detection.rounded
    assert describe(CLASSES, masks=False).network.mask.branch == "none"
