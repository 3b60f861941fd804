"""The loss and, which is what the paper says of it, its gradient: by hand and against a plain loop."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.rivals.yolov3.assign import assign
from benchmarks.rivals.yolov3.config import LossConfig
from benchmarks.rivals.yolov3.loss import yolo_losses
from benchmarks.rivals.yolov3.priors import place

SIZES = torch.tensor([[side, side] for side in (4.0, 6, 8, 12, 16, 20, 28, 40, 60)])
PRIORS = place(SIZES, [(8, 12), (4, 6), (2, 3)])
P, K = len(PRIORS.sizes), 3
IMAGE = (64, 96)
PLAIN = LossConfig()
LOG2 = math.log(2)

Objects = tuple[list[list[float]], list[int]]
# In the middle of a cell of 16, for its priors of 12, 16 and 20: the outer two are ignored.
SQUARE: Objects = ([[16, 32, 32, 48]], [2])


def losses(
    outputs: Tensor, *objects: Objects, config: LossConfig = PLAIN, image: tuple[int, int] = IMAGE
) -> dict[str, Tensor]:
    given = [
        (torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64))
        for boxes, labels in objects
    ]
    return yolo_losses(outputs, PRIORS, SIZES, given, [image] * len(objects), config)


def values(*args: object, **more: object) -> dict[str, float]:
    return {key: float(value) for key, value in losses(*args, **more).items()}  # type: ignore[arg-type]


def zeros(images: int = 1) -> Tensor:
    return torch.zeros(images, P, 5 + K)


def test_by_hand() -> None:
    # 18 x 14: half the squared logarithms of what it is to 16; the centre is where it is predicted.
    found = values(zeros(), ([[15, 33, 33, 47]], [2]))
    weight = 2 - 18 * 14 / (64 * 96)
    extents = (math.log(18 / 16) ** 2 + math.log(14 / 16) ** 2) / 2
    assert found["boxes"] == pytest.approx(weight * (2 * LOG2 + extents))
    assert found["classification"] == pytest.approx(K * LOG2)
    # All but the two ignored, object or not.
    assert found["objectness"] == pytest.approx((P - 2) * LOG2, rel=1e-5)


def test_the_gradient_is_the_difference() -> None:
    outputs = torch.randn(1, P, 5 + K, generator=torch.Generator().manual_seed(0))
    outputs.requires_grad_()
    box = [[15.0, 33, 33, 49]]
    sum(losses(outputs, (box, [2])).values()).backward()  # type: ignore[union-attr]
    assert outputs.grad is not None
    gradient, answer = outputs.grad[0], outputs.detach()[0]
    place = assign(PRIORS, SIZES, torch.tensor(box), PRIORS.boxes(), 0.5).places.item()
    weight = 2 - 18 * 16 / (64 * 96)
    truth = torch.tensor([0.5, 9 / 16, math.log(18 / 16), 0])
    at = answer[place]
    prediction = torch.cat([at[:2].sigmoid(), at[2:4]])
    torch.testing.assert_close(gradient[place, :4], weight * (prediction - truth))
    assert gradient[place, 4].item() == pytest.approx(at[4].sigmoid().item() - 1, abs=1e-6)
    torch.testing.assert_close(gradient[place, 5:], at[5:].sigmoid() - torch.tensor([0.0, 1, 0]))
    others = torch.arange(P) != place
    assert bool((gradient[others][:, :4] == 0).all()) and bool((gradient[others][:, 5:] == 0).all())
    assert gradient[0, 4].item() == pytest.approx(answer[0, 4].sigmoid().item())


def test_ignored_priors_learn_nothing() -> None:
    outputs = zeros().requires_grad_()
    sum(losses(outputs, SQUARE).values()).backward()  # type: ignore[union-attr]
    assert outputs.grad is not None
    still = (outputs.grad[0] == 0).all(dim=1).nonzero()[:, 0].tolist()
    place = 288 + (2 * 6 + 1) * 3 + 1
    assert still == [place - 1, place + 1]


def test_by_predictions_those_are_ignored_that_predict_an_object() -> None:
    config = replace(PLAIN, ignored_by="prediction", ignored_iou=0.7)
    # What predicts the prior: 144 / 256 and 256 / 400 are not enough.
    assert values(zeros(), SQUARE, config=config)["objectness"] == pytest.approx(P * LOG2, rel=1e-5)
    outputs = zeros()
    outputs[0, 288 + (2 * 6 + 1) * 3, 2:4] = math.log(15 / 12)  # now 225 / 256
    outputs.requires_grad_()
    found = losses(outputs, SQUARE, config=config)
    assert found["objectness"].item() == pytest.approx((P - 1) * LOG2, rel=1e-5)
    found["objectness"].backward()
    assert outputs.grad is not None
    assert bool((outputs.grad[..., :4] == 0).all())  # no box moves for being ignored


def test_small_boxes_weigh_up_to_twice() -> None:
    outputs, plain = zeros(), replace(PLAIN, small_boxes=False)
    ratio = values(outputs, SQUARE)["boxes"] / values(outputs, SQUARE, config=plain)["boxes"]
    assert ratio == pytest.approx(2 - 256 / (64 * 96))
    # Of the image itself, not of the frame it lies in.
    half = values(outputs, SQUARE, image=(64, 48))["boxes"]
    ratio = half / values(outputs, SQUARE, config=plain)["boxes"]
    assert ratio == pytest.approx(2 - 256 / (64 * 48))


def test_without_objects_all_is_background() -> None:
    outputs = zeros().requires_grad_()
    found = losses(outputs, ([], []))
    assert found["boxes"].item() == found["classification"].item() == 0
    assert found["objectness"].item() == pytest.approx(P * LOG2, rel=1e-5)
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert outputs.grad is not None and bool(torch.isfinite(outputs.grad).all())


def test_two_objects_with_one_prior() -> None:
    # The box is the last one's, the classes both's (released code).
    first, last = [16.0, 32, 32, 48], [18.0, 34, 32, 48]
    together = values(zeros(), ([first, last], [1, 3]))
    alone = values(zeros(), ([last], [3]))
    assert together["boxes"] == pytest.approx(alone["boxes"])
    outputs = zeros().requires_grad_()
    losses(outputs, ([first, last], [1, 3]))["classification"].backward()
    assert outputs.grad is not None
    place = 288 + (2 * 6 + 1) * 3 + 1
    assert outputs.grad[0, place, 5:].tolist() == pytest.approx([-0.5, 0.5, -0.5])


def test_the_mean_of_the_images() -> None:
    outputs = torch.randn(2, P, 5 + K, generator=torch.Generator().manual_seed(1))
    together = values(outputs, SQUARE, ([], []))
    for key, value in values(outputs[:1], SQUARE).items():
        other = values(outputs[1:], ([], []))[key]
        assert together[key] == pytest.approx((value + other) / 2, rel=1e-5)


def bce(logit: float, truth: float) -> float:
    return math.log1p(math.exp(-abs(logit))) + max(logit, 0) - logit * truth


@pytest.mark.parametrize("seed", range(5))
def test_as_a_plain_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(1, P, 5 + K, generator=generator)
    where = torch.rand(7, 4, generator=generator) * torch.tensor([80.0, 50, 40, 30])
    boxes = torch.cat([where[:, :2], where[:, :2] + where[:, 2:] + 4], dim=1)
    labels = torch.randint(1, K + 1, (7,), generator=generator).tolist()
    found = assign(PRIORS, SIZES, boxes, PRIORS.boxes(), 0.5)
    wanted = {"boxes": 0.0, "objectness": 0.0, "classification": 0.0}
    at = {place: number for number, place in enumerate(found.places.tolist())}  # the last one's
    for number, answer in enumerate(outputs[0].tolist()):
        if not found.ignored[number]:
            wanted["objectness"] += bce(answer[4], float(number in at))
        if number not in at:
            continue
        x1, y1, x2, y2 = boxes[at[number]].tolist()
        (left, top), (stride,) = PRIORS.corners[number].tolist(), PRIORS.strides[number].tolist()
        (width, height) = PRIORS.sizes[number].tolist()
        weight = 2 - (x2 - x1) * (y2 - y1) / (64 * 96)
        one = bce(answer[0], ((x1 + x2) / 2 - left) / stride)
        one += bce(answer[1], ((y1 + y2) / 2 - top) / stride)
        one += (answer[2] - math.log((x2 - x1) / width)) ** 2 / 2
        one += (answer[3] - math.log((y2 - y1) / height)) ** 2 / 2
        wanted["boxes"] += weight * one
        classes = {labels[n] for n, place in enumerate(found.places.tolist()) if place == number}
        for k in range(K):
            wanted["classification"] += bce(answer[5 + k], float(k + 1 in classes))
    assert values(outputs, (boxes.tolist(), labels)) == pytest.approx(wanted, rel=1e-4)
