"""The whole network: what learns, what does not, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

import benchmarks.rivals.yolov3.network
from benchmarks.rivals.yolov3.config import LossConfig
from benchmarks.rivals.yolov3.network import YOLOv3
from fast_rcnn.config import DetectionConfig, ScaleConfig
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from stages.errors import InputError
from stages.stopwatch import Stopwatch

PRIORS = tuple((side, side) for side in (6.0, 9.0, 12.0, 16.0, 20.0, 26.0, 34.0, 45.0, 60.0))
SCALE = ScaleConfig(train=(64,), test=(64,), longest=160)
DETECTION = DetectionConfig(per_class=400, nms_iou=0.45, least_score=0.005, per_image=100)


def made(name: Name = "tiny", scale: ScaleConfig = SCALE, **more: Any) -> YOLOv3:
    """The network with random weights, the same every time, whose answers are not all alike."""
    torch.manual_seed(0)
    backbone = build_backbone(name, Weights(None, "random"))
    model = YOLOv3(
        backbone, ("cat", "dog", "never"), PRIORS, 32, scale, DETECTION, LossConfig(), **more
    )
    with torch.no_grad():
        for head in model.heads.scales:
            head.get_parameter("outputs.weight").normal_(std=0.2)
    return model


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def target(boxes: list[list[float]], labels: list[int], crowd: Any = False) -> dict[str, Any]:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "iscrowd": torch.tensor(crowd if isinstance(crowd, list) else [crowd] * len(labels)).bool(),
    }


def losses(model: YOLOv3, *targets: dict[str, Any]) -> dict[str, float]:
    """Of images of noise, of a step like any other."""
    torch.manual_seed(1)
    found = model.train()([noise(48, 60, n) for n in range(len(targets))], targets)
    return {key: value.item() for key, value in found.items()}


BOX = [5.0, 6.0, 30.0, 40.0]


# What learns ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "mobilenet_v2", "resnet18"])
def test_gradients_reach_everything(name: Name) -> None:
    model = made(name).train()
    # A small, a middle and a large object: one of each map's.
    objects = target([[4, 4, 12, 13], [20, 10, 38, 30], [2, 2, 55, 46]], [1, 2, 3])
    sum(model([noise(48, 60)] * 2, [objects] * 2).values()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert bool(torch.isfinite(parameter.grad).all()), key
        assert float(parameter.grad.abs().max()) > 0, key


def test_batch_norm_learns_in_the_heads_alone() -> None:
    model = made("resnet18").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses(model, target([BOX], [1]))
    changed = {key for key, value in model.state_dict().items() if not value.equal(before[key])}
    assert changed and all(key.startswith("heads.") for key in changed)
    assert {key.rpartition(".")[2] for key in changed} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_crowds_are_not_learnt() -> None:
    model = made()
    crowds = losses(model, target([[1, 1, 9, 9], BOX, [0, 0, 60, 48]], [1, 2, 3], [1, 0, 1]))
    assert crowds == losses(made(), target([BOX], [2]))
    assert losses(made(), target([BOX], [2], True)) == losses(made(), target([], []))


def test_without_objects_there_is_background_to_learn() -> None:
    found = losses(made(), target([], []), target([], []))
    assert found["boxes"] == found["classification"] == 0
    assert found["objectness"] > 1


def test_objects_are_scaled_with_their_image(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def note(outputs: Tensor, priors: Any, sizes: Tensor, *rest: Any) -> dict[str, Tensor]:
        given.extend(rest)
        return {"boxes": outputs.sum()}

    monkeypatch.setattr(benchmarks.rivals.yolov3.network, "yolo_losses", note)
    model = made(scale=replace(SCALE, train=(96,))).train()
    targets = [target([BOX, [1, 2, 3, 4]], [3, 1], [0, 1]), target([], [])]
    model([noise(48, 60), noise(32, 96)], targets)
    objects, sizes, _ = given
    (boxes, labels), (none, _) = objects
    assert boxes.tolist() == [[10, 12, 60, 80]]
    assert labels.tolist() == [3]
    assert none.shape == (0, 4)
    assert sizes == [(96, 120), (53, 160)]  # the second by its longer side


def test_a_step_has_one_size_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(scale=replace(SCALE, train=(64, 96, 128))).train()
    seen: list[tuple[int, int]] = []
    plain = model.outputs

    def note(pixels: Tensor) -> Any:
        seen.append((pixels.shape[2], pixels.shape[3]))
        return plain(pixels)

    monkeypatch.setattr(model, "outputs", note)
    for step in range(12):
        torch.manual_seed(step)
        model([noise(48, 48), noise(48, 48, 1)], [target([BOX], [1])] * 2)
    assert set(seen) == {(64, 64), (96, 96), (128, 128)}


def test_training_needs_targets() -> None:
    with pytest.raises(ValueError, match="targets"):
        made().train()([noise(48, 60)])


# What it sees --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "mobilenet_v2", "resnet18", "resnet50"])
def test_maps_of_strides_8_16_and_32(name: Name) -> None:
    model = made(name).eval()
    with torch.inference_mode():
        outputs, shapes = model.outputs(torch.zeros(2, 3, 64, 96))
    assert shapes == [(8, 12), (4, 6), (2, 3)]
    assert outputs.shape == (2, 3 * (96 + 24 + 6), 8)
    assert bool(len(model.further)) == (name == "tiny")


@pytest.mark.parametrize("name", ["vgg16", "alexnet"])
def test_a_network_without_such_maps_is_refused(name: Name) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=name):
        made(name)


# What it finds -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> YOLOv3:
    """Its heads' statistics are of some images, so that it detects as after training."""
    model = made()
    for step in range(30):
        losses(model, *[target([BOX], [1 + step % 3])] * 2)
    return model.eval()


def assert_near(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() == {"boxes", "labels", "scores"}
    assert len(one["scores"]) > 3
    assert one["labels"].tolist() == other["labels"].tolist()
    torch.testing.assert_close(one["boxes"], other["boxes"], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-4, atol=1e-5)


def test_images_of_several_sizes_as_each_alone(model: YOLOv3) -> None:
    # The first and the third have one frame, 64 x 96; the second and the fourth have their own.
    images = [noise(48, 60), noise(90, 70, 1), noise(40, 56, 2), noise(30, 90, 3) / 255]
    together = model(images)
    for found, image in zip(together, images, strict=True):
        assert_near(found, model([image])[0])
    for found, other in zip(model(images[::-1]), together[::-1], strict=True):
        assert_near(found, other)
    assert model([]) == []


def test_what_is_found(model: YOLOv3) -> None:
    (found,) = model([noise(48, 60)])
    assert found["boxes"].shape == (len(found["scores"]), 4)
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert set(found["labels"].tolist()) <= {1, 2, 3}
    assert bool((found["scores"].diff() <= 0).all())
    assert bool((found["scores"] > 0.005).all()) and bool((found["scores"] < 1).all())
    assert len(found["scores"]) <= 100
    assert float(found["boxes"].min()) >= 0
    assert float(found["boxes"][:, 2].max()) <= 60 and float(found["boxes"][:, 3].max()) <= 48
    for label in found["labels"].unique():
        boxes = found["boxes"][found["labels"] == label]
        assert float(box_iou(boxes, boxes).triu(1).max()) <= 0.45 + 1e-6


def answering(model: YOLOv3, answers: dict[int, list[float]]) -> Callable[..., Any]:
    """`outputs` of a network that says so at these places, and elsewhere that nothing is there."""
    plain = model.outputs

    def outputs(pixels: Tensor) -> Any:
        found, shapes = plain(pixels)
        found = torch.full_like(found, -20.0)
        for place, answer in answers.items():
            found[:, place] = torch.tensor(answer)
        return found, shapes

    return outputs


def test_a_score_is_objectness_times_class(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made().eval()
    model.detection = replace(DETECTION, least_score=0.1)
    # 64 x 80 in a frame of 64 x 96. At 16 pixels, second row and third column: 20 x 20 around 40, 24.
    place = 3 * 96 + (6 + 2) * 3 + 1
    logit = [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, -1.5, 0.0]
    monkeypatch.setattr(model, "outputs", answering(model, {place: logit}))
    (found,) = model([noise(48, 60)])
    sigmoid = torch.tensor([2.0, 0.0, -1.5]).sigmoid() * torch.tensor(1.0).sigmoid()
    # Classes are independent: all three are of the one box, best first.
    assert found["labels"].tolist() == [1, 3, 2]
    assert found["scores"].tolist() == pytest.approx(sigmoid.tolist())
    for box in found["boxes"].tolist():
        assert box == pytest.approx([30 * 0.75, 14 * 0.75, 50 * 0.75, 34 * 0.75])
    model.detection = replace(DETECTION, least_score=0.5)
    assert model([noise(48, 60)])[0]["labels"].tolist() == [1]


def test_where_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made().eval()
    monkeypatch.setattr(model, "outputs", answering(model, {}))
    (found,) = model([noise(48, 60)])
    assert found["boxes"].shape == (0, 4)
    assert len(found["labels"]) == len(found["scores"]) == 0


def test_parts_are_timed(model: YOLOv3) -> None:
    model.watch = watch = Stopwatch()
    model([noise(48, 60), noise(90, 70)])
    model.watch = Stopwatch(on=False)
    assert list(watch.seconds) == ["resize", "convolutions", "heads", "boxes", "NMS"]


# Learnt by heart -----------------------------------------------------------------------------


def test_an_image_is_learnt_by_heart() -> None:
    # Off the diagonal, in an image that is no square: rows and columns must not be exchanged.
    image = noise(64, 96) // 4 + 96
    boxes = [[60.0, 6, 90, 30], [8, 30, 22, 58], [30, 40, 39, 49]]
    labels = [2, 1, 3]
    for (x1, y1, x2, y2), colour in zip(
        boxes, ([255, 0, 0], [0, 0, 255], [0, 255, 0]), strict=True
    ):
        image[:, int(y1) : int(y2), int(x1) : int(x2)] = torch.tensor(colour)[:, None, None]
    model = made()
    optimiser = torch.optim.SGD(model.parameters(), lr=2e-3, momentum=0.9)
    for _ in range(120):
        loss = sum(model.train()([image], [target(boxes, labels)]).values())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimiser.step()
    (found,) = model.eval()([image])
    for box, label in zip(boxes, labels, strict=True):
        best = int((found["labels"] == label).nonzero()[0])
        assert float(box_iou(torch.tensor([box]), found["boxes"][[best]])) > 0.7
        assert float(found["scores"][best]) > 0.5
    assert int((found["scores"] > 0.5).sum()) == 3
