"""The heads' shapes and order, how they start, and that coarser scales reach finer ones and not back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.rivals.yolov3.heads import Heads
from benchmarks.rivals.yolov3.priors import place
from mask_rcnn.pyramid import Stage

K = 2
STAGES = [Stage("a", 6, 5.0), Stage("b", 10), Stage("c", 14)]
SHAPES = [(4, 8), (2, 4), (1, 2)]
P = 3 * (32 + 8 + 2)


@pytest.fixture
def heads() -> Heads:
    torch.manual_seed(0)
    return Heads(STAGES, 32, K).eval()


def maps(images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        stage.size * torch.randn(images, stage.channels, *shape, generator=generator)
        for stage, shape in zip(STAGES, SHAPES, strict=True)
    ]


def test_widths_are_those_of_the_released_network() -> None:
    # yolov3.cfg: Darknet-53's maps of 256, 512 and 1024 channels; 80 classes.
    with torch.device("meta"):
        heads = Heads([Stage("a", 256), Stage("b", 512), Stage("c", 1024)], 1024, 80)
    shapes = {key: tuple(value.shape[:2]) for key, value in heads.named_parameters()}
    wanted = {
        "scales.2.features.0.0": (512, 1024),
        "scales.2.features.1.0": (1024, 512),
        "scales.2.features.4.0": (512, 1024),
        "scales.2.last.0": (1024, 512),
        "scales.2.outputs": (255, 1024),
        "narrow.1.0": (256, 512),
        "scales.1.features.0.0": (256, 256 + 512),
        "scales.1.last.0": (512, 256),
        "narrow.0.0": (128, 256),
        "scales.0.features.0.0": (128, 128 + 256),
        "scales.0.outputs": (255, 256),
    }
    assert {key: shapes[f"{key}.weight"] for key in wanted} == wanted


def test_outputs_are_in_the_priors_order(heads: Heads) -> None:
    # Each output says which of its map's it is; at one cell of each map something is added.
    for level, head in enumerate(heads.scales):
        outputs = head.get_submodule("outputs")
        torch.nn.init.zeros_(outputs.get_parameter("weight"))
        bias = 100 * level + torch.arange(3.0 * (5 + K))
        outputs.get_parameter("bias").data = bias

        def mark(_module: object, _inputs: object, output: Tensor) -> Tensor:
            output[:, :, -1, 1] += 1000
            return output

        outputs.register_forward_hook(mark)
    with torch.inference_mode():
        found = heads(maps())
    assert found.shape == (2, P, 5 + K)
    priors = place(torch.ones(9, 2), SHAPES)
    for number, answer in enumerate(found[1].tolist()):
        level = int(priors.strides[number].item()) // 16
        row, column = (priors.corners[number].flip(0) / priors.strides[number]).tolist()
        marked = row == SHAPES[level][0] - 1 and column == 1
        first = 100 * level + (number % 3) * (5 + K) + 1000 * marked
        assert answer == [first + n for n in range(5 + K)]


def test_it_starts_at_the_priors_and_without_objects(heads: Heads) -> None:
    with torch.inference_mode():
        found = heads(maps())
    assert float(found[..., 4].sigmoid().mean()) == pytest.approx(0.01, rel=0.2)
    others = torch.cat([found[..., :4], found[..., 5:]], dim=-1)
    assert 0 < float(others.abs().max()) < 0.5


def changed(heads: Heads, level: int) -> list[bool]:
    """At which maps' priors anything changes with the map of that level."""
    given = maps(1)
    with torch.inference_mode():
        before = heads(given)
        given[level] = given[level] + STAGES[level].size
        after = heads(given)
    parts = (before != after).any(dim=2)[0].split([3 * h * w for h, w in SHAPES])
    return [bool(part.any()) for part in parts]


def test_the_coarser_is_handed_down_to_the_finer(heads: Heads) -> None:
    assert changed(heads, 0) == [True, False, False]
    assert changed(heads, 1) == [True, True, False]
    assert changed(heads, 2) == [True, True, True]


def test_neither_of_what_is_concatenated_drowns_the_other(heads: Heads) -> None:
    # The finest map's values are five times as large, and its first weights as much smaller.
    seen: list[Tensor] = []
    first = heads.scales[0].get_submodule("features.0.0")
    first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        heads.train()(maps())
    (merged,) = seen
    weight = first.get_parameter("weight")
    above = merged.shape[1] - STAGES[0].channels
    with torch.no_grad():
        parts = [
            torch.nn.functional.conv2d(merged[:, part], weight[:, part]).std()
            for part in (slice(0, above), slice(above, None))
        ]
    assert 0.3 < float(parts[0] / parts[1]) < 3
