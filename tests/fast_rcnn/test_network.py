"""The network against a plain and slow one: its losses, its detections, and what it must not merge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fast_rcnn.network
from fast_rcnn.config import DetectionConfig, LossConfig, SamplingConfig, ScaleConfig
from fast_rcnn.loss import losses_by_roi, multi_task_loss
from fast_rcnn.network import FastRCNN, on_maps
from fast_rcnn.sampling import candidates, sample
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from stages.boxes import encode
from stages.proposals.selective_search import SelectiveSearchConfig, search
from stages.resize import Batch, resize
from stages.roi_pool import roi_pool
from stages.stopwatch import Stopwatch
from tests.stages.backbones.averaging import averaging, dot, ramp

RANDOM = Weights(None, "random")
CLASSES = ("cat", "dog", "bird")
SHIFT = {"tiny": 0.0, "squeezenet1_1": 15.0}  # pixels of the scaled image; those not named here: 0
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def build(
    *,
    name: Name = "tiny",
    scale: ScaleConfig | None = None,
    sampling: SamplingConfig | None = None,
    detection: DetectionConfig | None = None,
    top: int | None = 25,
) -> FastRCNN:
    """A network whose scores and offsets differ from RoI to RoI; the same every time."""
    torch.manual_seed(5)
    model = FastRCNN(
        build_backbone(name, RANDOM),
        CLASSES,
        scale or ScaleConfig(train=(96,), test=(96,), longest=160),
        sampling or SamplingConfig(),
        LossConfig(),
        detection or DetectionConfig(),
        SelectiveSearchConfig(),
        top,
    )
    with torch.no_grad():
        model.predictor.scores.weight.normal_(std=0.15)
        model.predictor.offsets.weight.normal_(std=0.03)
        model.predictor.scores.bias.normal_(std=0.1)
        model.predictor.offsets.bias.normal_(std=0.1)
    return model.eval()


def blocks(height: int, width: int, seed: int = 5) -> Tensor:
    """Blocks of colour: selective search finds something in it. uint8 [3, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 256, (3, 4, 5), generator=generator).float()
    picture = F.interpolate(colours[None], (height, width), mode="nearest")[0]
    noise = 24 * torch.rand(picture.shape, generator=generator) - 12
    return (picture + noise).clamp(0, 255).to(torch.uint8)


MODEL = build()
PICTURE = blocks(72, 100)
BOXES = torch.tensor(
    [
        [0.0, 0, 40, 30],
        [10.5, 5, 50, 60],
        [60, 20, 100, 72],
        [0, 0, 100, 72],
        [30, 30, 52, 51],
        [70.2, 40.1, 71, 41],  # a cell and less
    ]
)


def target_of(boxes: Sequence[Sequence[float]], labels: Sequence[int]) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.zeros(len(boxes), dtype=torch.bool),
        "iscrowd": torch.zeros(len(boxes), dtype=torch.bool),
    }


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() == {"boxes", "labels", "scores"}
    assert all(torch.equal(one[key], other[key]) for key in one)


# A plain and slow detector -------------------------------------------------------------------


def slow_score(
    model: FastRCNN, image: Tensor, boxes: Tensor, shorter: int = 96
) -> tuple[Tensor, Tensor]:
    """Each RoI alone, by nothing of ours but the layers: class chances [R, K], boxes [R, K, 4]."""
    backbone, predictor = model.backbone, model.predictor
    high, wide = image.shape[1:]
    ratio = min(shorter / min(high, wide), model.scale.longest / max(high, wide))
    size = (round(high * ratio), round(wide * ratio))
    pixels = (image.float() / 255 - MEAN[:, None, None]) / STD[:, None, None]
    pixels = F.interpolate(pixels[None], size, mode="bilinear", align_corners=False)
    frame = [max(64, side + -side % 32) for side in size]
    maps = backbone.trunk(F.pad(pixels, (0, frame[1] - size[1], 0, frame[0] - size[0])))
    chances, moved = [], []
    for x1, y1, x2, y2 in boxes.tolist():
        across, down = size[1] / wide, size[0] / high
        roi = torch.tensor([[0, x1 * across, y1 * down, x2 * across, y2 * down]])
        roi[:, 1:] -= SHIFT.get(backbone.name, 0)
        pooled = torchvision.ops.roi_pool(maps, roi, backbone.roi_size, 1 / 16)
        features = backbone.head(pooled)[0]
        scores = predictor.scores.weight @ features + predictor.scores.bias
        chances.append((scores.exp() / scores.exp().sum())[1:])
        offsets = predictor.offsets.weight @ features + predictor.offsets.bias
        of_classes = []
        for dx, dy, dw, dh in offsets.reshape(-1, 4).tolist():
            w, h = x2 - x1, y2 - y1
            x, y = (x1 + x2) / 2 + dx * w, (y1 + y2) / 2 + dy * h
            w, h = w * math.exp(dw), h * math.exp(dh)
            of_classes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        limits = torch.tensor([wide, high, wide, high])
        moved.append(torch.minimum(torch.tensor(of_classes).clamp(min=0), limits))
    return torch.stack(chances), torch.stack(moved)


def assert_scores_as_slow(model: FastRCNN, image: Tensor, boxes: Tensor, shorter: int = 96) -> None:
    scores, moved = model.score(image, boxes)
    with torch.inference_mode():
        chances, expected = slow_score(model, image, boxes, shorter)
    torch.testing.assert_close(scores, chances, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-2)


def test_scores_and_boxes_as_a_slow_one_gives() -> None:
    scores, moved = MODEL.score(PICTURE, BOXES)
    # The comparison is of something: neither even nor still.
    assert float(scores.std()) > 0.1
    assert float((moved - BOXES[:, None]).abs().max()) > 5
    assert_scores_as_slow(MODEL, PICTURE, BOXES)


@pytest.mark.parametrize(
    ("height", "width"),
    [
        pytest.param(100, 72, id="upright"),
        pytest.param(96, 130, id="at its own size"),
        pytest.param(200, 150, id="shrunk"),
        pytest.param(40, 200, id="the longer side is held"),
        pytest.param(61, 83, id="odd"),
    ],
)
def test_of_any_shape(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(height)
    corner = torch.rand(8, 2, generator=generator) * torch.tensor([width, height]) * 0.8
    far = corner + 1 + torch.rand(8, 2, generator=generator) * torch.tensor([width, height])
    boxes = torch.cat([corner, torch.minimum(far, torch.tensor([width, height]))], dim=1)
    assert_scores_as_slow(MODEL, blocks(height, width), boxes)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(*[st.floats(0, 99, width=32)] * 2, *[st.floats(0.5, 100, width=32)] * 2),
        min_size=1,
        max_size=6,
    )
)
def test_any_roi_is_scored_as_a_slow_one_does(corners: list[tuple[float, ...]]) -> None:
    boxes = torch.tensor([[x, y, min(x + w, 100), min(y + h, 72)] for x, y, w, h in corners])
    boxes[:, 1].clamp_(max=71)
    boxes[:, 3] = torch.maximum(boxes[:, 3], boxes[:, 1] + 0.5)
    # What lies on the line between two cells may fall to either.
    places = boxes * torch.tensor([133 / 100, 96 / 72] * 2) / 16
    clear = (((places + 0.5) % 1 - 0.5).abs() < 0.4999).all(dim=1)
    if clear.any():
        assert_scores_as_slow(MODEL, PICTURE, boxes[clear])


def test_the_whole_call_by_the_slow_one() -> None:
    found = MODEL([PICTURE], proposals=[BOXES])[0]
    with torch.inference_mode():
        scores, moved = slow_score(MODEL, PICTURE, BOXES)
    expected: list[tuple[float, int, Tensor]] = []
    for k in range(3):
        kept: list[Tensor] = []
        for row in scores[:, k].argsort(descending=True):
            box = moved[row, k]
            overlaps = [torchvision.ops.box_iou(box[None], one[None]).item() for one in kept]
            if all(overlap <= 0.3 for overlap in overlaps) and (box[2:] > box[:2]).all():
                kept.append(box)
                expected.append((float(scores[row, k]), k + 1, box))
    expected.sort(key=lambda one: -one[0])
    assert 5 < len(expected) < 18, "something must be suppressed, and not all"
    assert found["labels"].tolist() == [label for _, label, _ in expected]
    assert found["scores"].tolist() == pytest.approx([score for score, _, _ in expected], abs=1e-5)
    torch.testing.assert_close(
        found["boxes"], torch.stack([box for _, _, box in expected]), rtol=1e-4, atol=1e-2
    )


# Where the cells look ------------------------------------------------------------------------

SIDE = 576  # of images that are pooled at their own size
LOOKING: tuple[Name, ...] = ("tiny", "alexnet", "squeezenet1_1")


@pytest.fixture(scope="module", params=LOOKING)
def looking(request: pytest.FixtureRequest) -> FastRCNN:
    """A network of the real one's geometry whose cells say what they look at; see `averaging`."""
    scale = ScaleConfig(train=(SIDE,), test=(SIDE,))
    return FastRCNN(averaging(request.param), CLASSES, scale).eval()


@pytest.fixture(scope="module")
def of_ramps(looking: FastRCNN) -> tuple[Tensor, Tensor]:
    """The maps of an image that says how far from the left edge it is, and of its negative."""
    with torch.inference_mode():
        return looking.look(ramp(SIDE))[0][0], looking.look(1 - ramp(SIDE))[0][0]


def places(first: float, low: int, high: int) -> list[int]:
    """Pixels whose nearest cell is beyond doubt, and cells of that number."""
    return [x for x in range(low, high) if abs((x + 0.5 - first) % 16 - 8) > 4]


@pytest.mark.parametrize("seed", range(4))
def test_a_dot_is_pooled_from_the_cell_whose_centre_is_nearest(
    looking: FastRCNN, seed: int
) -> None:
    first = 15.5 if looking.backbone.shift else 0.5
    rng = np.random.default_rng(seed)
    x, y = (int(rng.choice(places(first, 100, SIDE - 100))) for _ in range(2))
    image = dot(SIDE, x, y)
    box = torch.tensor([[x - 1.0, y - 1, x + 2, y + 2]])
    with torch.inference_mode():
        (maps,), ratios = looking.look(image)
        pooled = looking.pool([maps], looking.cells(box, ratios))[0]
    column, row = (round((place + 0.5 - first) / 16) for place in (x, y))
    # None sees more of it. `tiny`'s last layer spreads what a cell sees evenly over its neighbours.
    assert maps[0, 0, row, column] == pytest.approx(float(maps[0, 0].max()), rel=1e-4)
    assert looking.cells(box, ratios).tolist() == [[0, column, row, column, row]]
    assert (pooled == maps[0, :, row, column, None, None]).all()


def test_a_dot_in_the_corner_is_pooled_from_the_first_cell(looking: FastRCNN) -> None:
    image = dot(SIDE, 2, 3)
    with torch.inference_mode():
        (maps,), ratios = looking.look(image)
        cells = looking.cells(torch.tensor([[0.0, 0, 5, 6]]), ratios)
        pooled = looking.pool([maps], cells)[0]
    assert maps[0, 0, 0, 0] > 0
    assert torch.equal(pooled.amax(dim=(1, 2)), maps[0, :, 0, 0])


@torch.inference_mode()
def middles(model: FastRCNN, of_ramps: tuple[Tensor, Tensor], boxes: Tensor) -> Tensor:
    """Where the middle of what is pooled of each box lies in the image, [R], across."""
    cells = model.cells(boxes, torch.ones(1, 4))
    rising, falling = (model.pool([maps], cells)[:, 0] for maps in of_ramps)
    right, left = rising[:, :, -1].amax(dim=1), 1 - falling[:, :, 0].amax(dim=1)
    return SIDE * (left + right) / 2


@given(st.floats(150, 420, width=32), st.floats(1, 200, width=32))
def test_what_is_pooled_of_a_box_is_where_the_box_is(
    looking: FastRCNN, of_ramps: tuple[Tensor, Tensor], left: float, width: float
) -> None:
    right = min(left + width, 426)
    box = torch.tensor([[left, 200, right, 300]])
    # Half a cell of rounding, and half a pixel: a padded network's first cell looks at 0.5.
    assert abs(float(middles(looking, of_ramps, box)) - (left + right) / 2) <= 8.5 + 0.01


def test_nor_are_they_off_to_one_side(looking: FastRCNN, of_ramps: tuple[Tensor, Tensor]) -> None:
    left = torch.arange(160, 304, 0.5)  # of every phase as many
    box = torch.stack([left, left * 0 + 200, left + 97, left * 0 + 300], dim=1)
    off = middles(looking, of_ramps, box) - (left + left + 97) / 2
    assert float(off.mean()) == pytest.approx(0.5, abs=0.5)
    if looking.backbone.shift:  # as x / 16 has them: a cell further
        shift, looking.backbone.shift = looking.backbone.shift, 0.0
        off = middles(looking, of_ramps, box) - (left + left + 97) / 2
        looking.backbone.shift = shift
        assert float(off.mean()) == pytest.approx(15.5, abs=0.5)


SHIFTED = {shift: build() for shift in (0.0, 15.0)}
for _shift, _model in SHIFTED.items():
    _model.backbone.shift = _shift


@given(
    st.lists(
        st.tuples(*[st.floats(0, 500, width=32)] * 2, *[st.floats(0.5, 300, width=32)] * 2),
        min_size=1,
        max_size=5,
    )
)
@pytest.mark.parametrize("shift", [0.0, 15.0])
def test_training_and_test_find_the_same_cells(
    shift: float, corners: list[tuple[float, ...]]
) -> None:
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in corners])
    maps = torch.randn(1, 3, 30, 40)
    model, ratios = SHIFTED[shift], torch.ones(1, 4)
    in_training = roi_pool(maps, F.pad(boxes, (1, 0)), 4, 1 / 16, shift)
    assert torch.equal(model.pool([maps], model.cells(boxes, ratios)), in_training)


# RoIs that are the same on the map -----------------------------------------------------------


def rows_scored(model: FastRCNN, run: Callable[[], Any]) -> int:
    """How many RoIs the head sees."""
    seen: list[int] = []
    hook = model.backbone.head.register_forward_pre_hook(
        lambda module, inputs: seen.append(len(inputs[0]))
    )
    run()
    hook.remove()
    return sum(seen)


def test_what_is_the_same_on_the_map_is_scored_once() -> None:
    # Cells are 12 pixels here. The first three round alike; the fourth's right edge does not.
    boxes = torch.tensor(
        [[12.0, 12, 60, 60], [13, 11, 61, 59], [8, 9, 62, 63], [12, 12, 67, 60], [12, 12, 60, 60]]
    )
    found: list[Any] = []
    assert rows_scored(MODEL, lambda: found.append(MODEL.score(PICTURE, boxes))) == 2
    scores, moved = found[0]
    assert scores.shape == (5, 3)
    for row in (1, 2, 4):
        assert torch.equal(scores[row], scores[0])
    assert not torch.isclose(scores[3], scores[0], atol=1e-4).all()
    # The same offsets, but each from its own box.
    assert not torch.isclose(moved[1], moved[0], atol=0.1).all()
    for row in range(5):
        alone_scores, alone_moved = MODEL.score(PICTURE, boxes[row : row + 1])
        torch.testing.assert_close(scores[row], alone_scores[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(moved[row], alone_moved[0], rtol=1e-4, atol=1e-3)


def test_every_roi_gets_its_own_result_back() -> None:
    # Many, in no order, some twice: none may be exchanged with another.
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(200, 2, generator=generator) * torch.tensor([70.0, 50])
    boxes = torch.cat([corner, corner + 5 + torch.rand(200, 2, generator=generator) * 20], dim=1)
    scores, moved = MODEL.score(PICTURE, boxes)
    assert rows_scored(MODEL, lambda: MODEL.score(PICTURE, boxes)) < 200
    backward_scores, backward_moved = MODEL.score(PICTURE, boxes.flip(0))
    torch.testing.assert_close(backward_moved.flip(0), moved, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(backward_scores.flip(0), scores, rtol=1e-4, atol=1e-6)
    for row in range(0, 200, 9):
        alone_scores, alone_moved = MODEL.score(PICTURE, boxes[row : row + 1])
        torch.testing.assert_close(scores[row], alone_scores[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(moved[row], alone_moved[0], rtol=1e-4, atol=1e-3)


# Several scales at test ----------------------------------------------------------------------


# Shorter side 72: ratios of 2/3, 4/3 and 8/3. A RoI is to be about 64 x 64.
THREE = ScaleConfig(test=(48, 96, 192), longest=1000, window_side=64)
SMALL, MIDDLE, LARGE = [40.0, 40, 62, 64], [20.0, 10, 70, 55], [0.0, 0, 100, 72]


def test_each_roi_is_pooled_from_the_map_where_its_size_is_right() -> None:
    boxes = torch.tensor([LARGE, SMALL, MIDDLE, SMALL, [5.0, 5, 95, 70], [50.0, 20, 70, 48]])
    levels = [0, 2, 1, 2, 0, 2]
    model = build(scale=THREE)
    scores, moved = model.score(PICTURE, boxes)
    for row, level in enumerate(levels):
        areas = [
            ratio**2 * float((boxes[row, 2:] - boxes[row, :2]).prod())
            for ratio in (2 / 3, 4 / 3, 8 / 3)
        ]
        assert level == min(range(3), key=lambda n: abs(areas[n] - 64**2)), "the test itself"
        shorter = THREE.test[level]
        with torch.inference_mode():
            chances, expected = slow_score(model, PICTURE, boxes[row : row + 1], shorter)
            others = [
                slow_score(model, PICTURE, boxes[row : row + 1], length)[0]
                for length in THREE.test
                if length != shorter
            ]
        torch.testing.assert_close(scores[row], chances[0], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(moved[row], expected[0], rtol=1e-4, atol=1e-2)
        # From another map it would be something else.
        assert not any(torch.isclose(scores[row], one[0], atol=1e-4).all() for one in others)


def test_the_same_cells_of_two_maps_are_not_the_same() -> None:
    # At 4/3 and at 8/3 these two are the same cells.
    large, small = [0.0, 0, 48, 48], [0.0, 0, 24, 24]
    scale = ScaleConfig(test=(96, 192), longest=1000, window_side=64)
    model = build(scale=scale)
    boxes = torch.tensor([large, small])
    maps, ratios = model.look(PICTURE)
    assert len(maps) == 2
    cells = model.cells(boxes, ratios)
    assert cells[:, 1:].tolist() == [[0, 0, 4, 4]] * 2
    assert cells[:, 0].tolist() == [0, 1]
    assert rows_scored(model, lambda: model.score(PICTURE, boxes)) == 2
    scores, _ = model.score(PICTURE, boxes)
    assert not torch.isclose(scores[0], scores[1], atol=1e-4).all()


def test_no_roi_of_some_scale() -> None:
    model = build(scale=THREE)
    assert model.score(PICTURE, torch.tensor([SMALL]))[0].shape == (1, 3)
    assert model([PICTURE], proposals=[torch.zeros(0, 4)])[0]["boxes"].shape == (0, 4)


# The call ------------------------------------------------------------------------------------


def test_it_is_called_as_torchvisions_are() -> None:
    found = MODEL([PICTURE, PICTURE[:, :60]], proposals=[BOXES, BOXES[:2]])
    assert len(found) == 2
    for detections in found:
        n = len(detections["scores"])
        assert n > 0
        assert detections["boxes"].shape == (n, 4)
        assert detections["boxes"].dtype == detections["scores"].dtype == torch.float32
        assert detections["labels"].dtype == torch.int64
        assert set(detections["labels"].tolist()) <= {1, 2, 3}
        assert (detections["scores"].diff() <= 0).all()
        assert ((detections["scores"] > 0) & (detections["scores"] < 1)).all()
        assert not any(value.requires_grad for value in detections.values())
    assert_same(found[0], MODEL([PICTURE], proposals=[BOXES])[0])


def test_no_image() -> None:
    assert MODEL([], proposals=[]) == []


def test_no_proposal_no_detection() -> None:
    found = MODEL([PICTURE], proposals=[torch.zeros(0, 4)])[0]
    assert found["boxes"].shape == (0, 4)
    assert found["labels"].shape == found["scores"].shape == (0,)
    assert found["labels"].dtype == torch.int64


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (15, 15)])
def test_the_smallest_images(height: int, width: int) -> None:
    image = blocks(height, width)
    whole = torch.tensor([[0.0, 0, width, height]])
    found = MODEL([image], proposals=[whole])[0]
    assert torch.isfinite(found["boxes"]).all()
    assert (found["boxes"] <= torch.tensor([width, height] * 2)).all()


def test_an_image_in_which_nothing_is_proposed() -> None:
    # Smaller than the smallest proposal.
    assert MODEL([torch.zeros(3, 15, 15, dtype=torch.uint8)])[0]["boxes"].shape == (0, 4)


def test_without_proposals_it_searches() -> None:
    proposed = search(PICTURE.permute(1, 2, 0).numpy(), MODEL.proposals)
    assert len(proposed) > 25, "the picture must offer more than are looked at"
    best = torch.from_numpy(proposed[:25])
    assert_same(MODEL([PICTURE])[0], MODEL([PICTURE], proposals=[best])[0])
    assert MODEL.propose(PICTURE).tolist() == best.tolist()
    assert build(top=None).propose(PICTURE).tolist() == proposed.tolist()


def test_bytes_and_floats_are_the_same_image() -> None:
    assert_same(MODEL([PICTURE])[0], MODEL([PICTURE.float() / 255])[0])


def test_boxes_are_clipped_to_the_image() -> None:
    model = build()
    with torch.no_grad():
        model.predictor.offsets.weight.mul_(100)
    _, moved = model.score(PICTURE, BOXES)
    assert torch.isfinite(moved).all()
    assert (moved >= 0).all()
    assert (moved <= torch.tensor([100, 72, 100, 72])).all()
    assert (moved[..., 2:] >= moved[..., :2]).all()


def test_it_suppresses_as_it_is_configured() -> None:
    found = [
        build(detection=DetectionConfig(per_class, nms_iou))([PICTURE], proposals=[BOXES])[0]
        for per_class, nms_iou in ((100, 0.3), (2, 0.3), (100, 0.99))
    ]
    default, fewer, all_of_them = (len(one["labels"]) for one in found)
    assert fewer <= 6 < default < all_of_them <= 18


def test_it_tells_where_its_time_went() -> None:
    model = build()
    model.watch = Stopwatch()
    model([PICTURE])
    assert set(model.watch.seconds) == {
        "proposals",
        "convolutions",
        "pooling",
        "head",
        "boxes",
        "NMS",
    }
    assert all(seconds > 0 for seconds in model.watch.seconds.values())


# Losses --------------------------------------------------------------------------------------


TARGETS = [
    target_of([[10, 10, 50, 50], [60, 20, 95, 70]], [2, 3]),
    target_of([[20, 5, 60, 40]], [1]),
]


def near(target: dict[str, Tensor], seed: int) -> Tensor:
    """Proposals about the objects, nearer and farther."""
    generator = torch.Generator().manual_seed(seed)
    boxes = target["boxes"].repeat(30, 1)
    return (boxes + 12 * torch.randn(boxes.shape, generator=generator)).clamp(0, 72)


PROPOSALS = [near(target, seed) for seed, target in enumerate(TARGETS)]
IMAGES = [blocks(72, 100, 1), blocks(80, 90, 2)]


def slow_losses(model: FastRCNN, seed: int) -> dict[str, Tensor]:
    """The same RoIs, each through the network alone; targets by hand."""
    torch.manual_seed(seed)
    drawn = [sample(p, t, model.sampling) for p, t in zip(PROPOSALS, TARGETS, strict=True)]
    scores, offsets, labels, truths = [], [], [], []
    for image, of_image in zip(IMAGES, drawn, strict=True):
        high, wide = image.shape[1:]
        ratio = 96 / min(high, wide)
        size = (round(high * ratio), round(wide * ratio))
        pixels = (image.float() / 255 - MEAN[:, None, None]) / STD[:, None, None]
        pixels = F.interpolate(pixels[None], size, mode="bilinear", align_corners=False)
        maps = model.backbone.trunk(F.pad(pixels, (0, 160 - size[1], 0, 96 - size[0])))
        for roi, label, gt in zip(of_image.rois, of_image.labels, of_image.gt_boxes, strict=True):
            scaled = roi * torch.tensor([size[1] / wide, size[0] / high] * 2)
            scaled -= SHIFT[model.backbone.name]
            numbered = torch.cat([torch.zeros(1), scaled])[None]
            pooled = torchvision.ops.roi_pool(maps, numbered, model.backbone.roi_size, 1 / 16)
            s, o = model.predictor(model.backbone.head(pooled))
            scores.append(s)
            offsets.append(o)
            labels.append(label)
            truth = torch.zeros(1, 4)
            if label > 0:
                k = int(label) - 1
                truth = (encode(roi[None], gt[None]) - model.box_mean[k]) / model.box_std[k]
            truths.append(truth)
    return multi_task_loss(
        torch.cat(scores), torch.cat(offsets), torch.stack(labels), torch.cat(truths), LossConfig()
    )


@pytest.mark.parametrize("name", ["tiny", "squeezenet1_1"])
def test_losses_and_gradients_as_a_slow_one_gives(name: Name) -> None:
    model = build(name=name, sampling=SamplingConfig(rois=16))
    model.box_mean, model.box_std = torch.randn(3, 4) / 10, torch.rand(3, 4) / 10 + 0.05
    expected = slow_losses(model, 7)
    sum(expected.values(), torch.tensor(0.0)).backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    torch.manual_seed(7)
    losses = model.losses(IMAGES, TARGETS, PROPOSALS)
    for key, value in expected.items():
        assert float(value.detach()) > 0.1
        torch.testing.assert_close(losses[key], value, rtol=1e-4, atol=1e-6)
    sum(losses.values(), torch.tensor(0.0)).backward()  # type: ignore[no-untyped-call]
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        bound = 1e-4 * float(gradients[name].abs().max())
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=bound)


def test_while_it_trains_the_call_gives_losses() -> None:
    model = build().train()
    torch.manual_seed(1)
    called = model(IMAGES, TARGETS, PROPOSALS)
    torch.manual_seed(1)
    losses = model.losses(IMAGES, TARGETS, PROPOSALS)
    assert {key: float(value.detach()) for key, value in called.items()} == {
        key: float(value.detach()) for key, value in losses.items()
    }
    for missing in ((IMAGES, TARGETS, None), (IMAGES, None, PROPOSALS)):
        with pytest.raises(ValueError, match="targets and proposals"):
            model(*missing)


def test_hard_ones_as_a_slow_one_chooses_them() -> None:
    """Every RoI by itself, the eight hardest without duplicates by hand, and a gradient from those alone."""
    model = build(sampling=SamplingConfig(rois=4, hard=True))
    model.box_mean, model.box_std = torch.randn(3, 4) / 10, torch.rand(3, 4) / 10 + 0.05
    every = [candidates(p, t, model.sampling) for p, t in zip(PROPOSALS, TARGETS, strict=True)]
    batch = resize(IMAGES, model.backbone, [96, 96], 160)
    maps = model.backbone.trunk(batch.pixels)
    rois = on_maps([of_image.rois for of_image in every], batch)
    answers = []
    for roi in rois:
        pooled = torchvision.ops.roi_pool(maps, roi[None], model.backbone.roi_size, 1 / 16)
        answers.append(model.predictor(model.backbone.head(pooled)))
    scores, offsets = (torch.cat(parts) for parts in zip(*answers, strict=True))
    labels = torch.cat([of_image.labels for of_image in every])
    boxes = torch.cat([of_image.rois for of_image in every])
    truth = encode(boxes, torch.cat([of_image.gt_boxes for of_image in every]))
    of_class = (labels - 1).clamp(0)
    truth = (truth - model.box_mean[of_class]) / model.box_std[of_class]
    losses = losses_by_roi(scores, offsets, labels, truth, LossConfig())
    rows: list[int] = []
    for row in losses.argsort(descending=True).tolist():
        rivals = [other for other in rows if rois[other, 0] == rois[row, 0]]
        if len(rows) < 8 and all(
            torchvision.ops.box_iou(boxes[[row]], boxes[[other]]) <= 0.7 for other in rivals
        ):
            rows.append(row)
    assert len({int(rois[row, 0]) for row in rows}) == 2
    assert rows != losses.argsort(descending=True)[:8].tolist()  # some were duplicates
    expected = multi_task_loss(scores[rows], offsets[rows], labels[rows], truth[rows], LossConfig())
    sum(expected.values(), torch.tensor(0.0)).backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    found = model.losses(IMAGES, TARGETS, PROPOSALS)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
    sum(found.values(), torch.tensor(0.0)).backward()  # type: ignore[no-untyped-call]
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        bound = 1e-4 * float(gradients[name].abs().max())
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=bound)


def test_rois_are_numbered_by_image_and_scaled_by_its_own_ratio() -> None:
    batch = Batch(
        torch.zeros(3, 3, 64, 64),
        [(64, 64)] * 3,
        torch.tensor([[2.0, 4, 2, 4], [1.0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5]]),
    )
    rois = [torch.tensor([[1.0, 2, 3, 4]]), torch.zeros(0, 4), torch.tensor([[8.0, 6, 4, 2]] * 2)]
    assert on_maps(rois, batch).tolist() == [
        [0, 2, 8, 6, 16],
        [2, 4, 3, 2, 1],
        [2, 4, 3, 2, 1],
    ]


def test_a_training_scale_is_drawn_for_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, ...]] = []
    plain = resize

    def note(images: Any, backbone: Any, shorter: Sequence[int], longest: int) -> Batch:
        drawn.append(tuple(shorter))
        return plain(images, backbone, shorter, longest)

    monkeypatch.setattr(fast_rcnn.network, "resize", note)
    model = build(
        scale=ScaleConfig(train=(64, 80, 96), longest=160), sampling=SamplingConfig(rois=4)
    )
    for seed in [*range(30), *range(30)]:
        torch.manual_seed(seed)
        with torch.no_grad():
            model.losses(IMAGES, TARGETS, PROPOSALS)
    assert drawn[:30] == drawn[30:]
    assert {first for first, _ in drawn} == {second for _, second in drawn} == {64, 80, 96}
    assert len(set(drawn)) > 6, "the two images' scales depend on each other"


NOTHING = target_of([], [])


@pytest.mark.parametrize(
    ("target", "proposals", "sampling"),
    [
        pytest.param(NOTHING, BOXES, SamplingConfig(), id="no object, no RoI"),
        pytest.param(NOTHING, torch.zeros(0, 4), SamplingConfig(), id="nothing"),
        pytest.param(
            NOTHING, BOXES, SamplingConfig(background_iou=(0.0, 0.5)), id="no object, background"
        ),
        pytest.param(TARGETS[1], torch.zeros(0, 4), SamplingConfig(), id="no proposal"),
        pytest.param(NOTHING, torch.zeros(0, 4), SamplingConfig(hard=True), id="nothing is hard"),
        pytest.param(NOTHING, BOXES, SamplingConfig(hard=True), id="no object, hard background"),
    ],
)
@pytest.mark.parametrize("name", ["tiny", "resnet18"])
def test_images_that_lack_something_give_finite_gradients(
    name: Name, target: dict[str, Tensor], proposals: Tensor, sampling: SamplingConfig
) -> None:
    model = build(name=name, sampling=sampling).train()
    losses = model([PICTURE], [target], [proposals])
    sum(losses.values(), torch.tensor(0.0)).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if target is NOTHING:
        assert float(losses["boxes"].detach()) == 0
        assert model.predictor.offsets.weight.grad is not None
        assert (model.predictor.offsets.weight.grad == 0).all()
    every = len(proposals) and (sampling.hard or sampling.background_iou[0] == 0)
    if not len(target["boxes"]) and not every:
        assert float(losses["classification"].detach()) == 0
        assert all((gradient == 0).all() for gradient in gradients)
    else:
        assert float(losses["classification"].detach()) > 0


# Other networks ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "resnet18", "mobilenet_v2"])
def test_every_kind_of_head(name: Name) -> None:
    model = build(name=name, scale=ScaleConfig(train=(64,), test=(64,)))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    image, boxes = blocks(40, 56), BOXES[:3].clamp(0, 40)
    found = model([image, image[:, :9, :7]], proposals=[boxes, torch.tensor([[0.0, 0, 7, 9]])])
    for detections in found:
        assert len(detections["scores"]) >= 3
        assert torch.isfinite(detections["boxes"]).all()
    if name != "alexnet":  # whose resize to a frame is tested with the others, and which is slow
        assert_scores_as_slow(model, image, boxes, 64)
    model.train()
    losses = model([image], [target_of([[5, 5, 35, 30]], [3])], [boxes])
    sum(losses.values(), torch.tensor(0.0)).backward()
    for part in (model.backbone.trunk, model.backbone.head, model.predictor):
        assert any(p.grad is not None and (p.grad != 0).any() for p in part.parameters())


def test_in_bfloat16_it_is_nearly_the_same() -> None:
    model = build()
    expected, expected_boxes = model.score(PICTURE, BOXES)
    model.backbone.trunk.to(torch.bfloat16)
    model.backbone.head.to(torch.bfloat16)
    scores, moved = model.score(PICTURE, BOXES)
    assert scores.dtype == moved.dtype == torch.float32
    torch.testing.assert_close(scores, expected, rtol=0, atol=0.05)
    torch.testing.assert_close(moved, expected_boxes, rtol=0, atol=2.0)
    assert not torch.equal(scores, expected)


def test_folding_ends_the_statistics() -> None:
    model = build()
    model.box_mean, model.box_std = torch.full((3, 4), 0.25), torch.full((3, 4), 0.5)
    features = torch.randn(4, 256)
    _, before = model.predictor(features)
    model.fold()
    torch.testing.assert_close(model.predictor(features)[1], 0.25 + 0.5 * before)
    # Folded again it stays.
    model.fold()
    torch.testing.assert_close(model.predictor(features)[1], 0.25 + 0.5 * before)
    assert not any(name.startswith("box_") for name in model.state_dict())
