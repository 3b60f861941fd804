"""SPPnet's network: features of windows by hand, fc6 over the pyramid, and who cannot be one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spp_net.config import PyramidConfig
from spp_net.maps import Maps
from spp_net.network import (
    PyramidNetwork,
    add_pyramid,
    build,
    check_backbone,
    new_layers,
    with_pyramid,
)
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from stages.data.decode import image_of
from stages.errors import InputError
from stages.stopwatch import OFF, Stopwatch
from stages.store import Job
from tests.spp_net.conftest import PYRAMID, RANDOM, Made

PAPER = PyramidConfig().levels
BOXES = torch.tensor(
    [[0.0, 0, 30, 30], [4, 4, 57, 45], [20, 10, 60, 48], [7, 7, 9, 9], [30, 0, 45, 48]]
)


def network(made: Made, batch: int = 128, **changes: Any) -> PyramidNetwork:
    pyramid = dataclasses.replace(PYRAMID, **changes)
    return PyramidNetwork.load(
        "tiny", made.network.path / "weights.pt", "cpu", "float32", pyramid, batch
    )


def image_tensor(data: Any, n: int) -> Tensor:
    return torch.from_numpy(image_of(data.train[n])).permute(2, 0, 1)


@torch.inference_mode()
def features(net: PyramidNetwork, look: Tensor | Maps, boxes: Tensor = BOXES) -> Tensor:
    return torch.cat([net.until("fc7", pooled) for pooled in net.pooled(look, boxes, OFF)])


# Features of windows -------------------------------------------------------------------------


def test_by_hand(toy: Any, made: Made) -> None:
    net, maps = network(made), made.cache.of(toy.train[0])
    (pooled,) = net.pooled(maps, BOXES, OFF)
    assert pooled.shape == (5, net.pooled_size) == (5, 128 * 21)
    # 30 x 30 doubled is 60 x 60, nearest to 64 x 64: cells 0..3 of the larger map.
    # 53 x 41 as it is, 2,173 pixels, is 1,923 away; doubled, 8,692, 4,596 away: cells 0..3 x 0..2.
    for row, scale, rows, columns in ((0, 1, slice(4), slice(4)), (1, 0, slice(1, 3), slice(1, 4))):
        window = maps.cells[scale][rows, columns].permute(2, 0, 1).float()
        expected = torch.cat([F.adaptive_max_pool2d(window, n).flatten() for n in (4, 2, 1)])
        assert torch.equal(pooled[row], expected)


def test_of_an_image_or_of_its_cached_maps(toy: Any, made: Made) -> None:
    net = network(made)
    assert torch.equal(
        features(net, image_tensor(toy, 2)), features(net, made.cache.of(toy.train[2]))
    )


def test_each_scale_alone(toy: Any, made: Made) -> None:
    both = network(made)
    maps = made.cache.of(toy.train[1])
    chosen = both.cells(maps, BOXES)[:, 0].tolist()
    assert set(chosen) == {0, 1}
    for scale in (0, 1):
        one = Maps(maps.cells[scale : scale + 1], maps.ratios[scale : scale + 1])
        alone = features(network(made, scales=PYRAMID.scales[scale : scale + 1]), one)
        for row, (of_both, of_one) in enumerate(zip(features(both, maps), alone, strict=True)):
            if chosen[row] == scale:
                torch.testing.assert_close(of_both, of_one)


def test_batches_do_not_shape_it(toy: Any, made: Made) -> None:
    maps = made.cache.of(toy.train[0])
    torch.testing.assert_close(
        features(network(made, batch=2), maps), features(network(made), maps)
    )


def test_the_window_side_moves_the_scale(toy: Any, made: Made) -> None:
    maps = made.cache.of(toy.train[0])
    assert network(made, window_side=8).cells(maps, BOXES)[:, 0].tolist() == [0, 0, 0, 1, 0]
    assert network(made, window_side=400).cells(maps, BOXES)[:, 0].tolist() == [1] * 5


def test_no_windows_no_work(toy: Any, made: Made) -> None:
    watch = Stopwatch()
    assert list(network(made).pooled(image_tensor(toy, 0), torch.zeros(0, 4), watch)) == []
    assert watch.seconds == {}


def test_it_tells_where_its_time_went(toy: Any, made: Made) -> None:
    watch = Stopwatch()
    list(network(made).pooled(image_tensor(toy, 0), BOXES, watch))
    assert set(watch.seconds) == {"convolutions", "pooling"}


def test_windows_outside_the_image(toy: Any, made: Made) -> None:
    outside = torch.tensor([[-90.0, -90, -70, -70], [300, 300, 400, 400], [-50, -50, 500, 500]])
    found = features(network(made), made.cache.of(toy.train[0]), outside)
    assert torch.isfinite(found).all()


# The head ------------------------------------------------------------------------------------


def test_with_the_networks_own_level_it_begins_as_it_was() -> None:
    plain = build_backbone("tiny", RANDOM).eval()
    pyramid = with_pyramid(build_backbone("tiny", RANDOM), (2, 4, 1)).eval()
    assert pyramid.new == ()
    maps = torch.rand(3, 128, 4, 4)
    pooled = torch.cat([F.adaptive_max_pool2d(maps, n).flatten(1) for n in (2, 4, 1)], dim=1)
    torch.testing.assert_close(pyramid.head(pooled), plain.head(maps))


def test_without_it_fc6_is_new_and_fc7_as_it_was() -> None:
    plain = build_backbone("tiny", RANDOM)
    pyramid = with_pyramid(build_backbone("tiny", RANDOM), PAPER)
    assert pyramid.new == ("head.fc6.",)
    own, before = pyramid.state_dict(), plain.state_dict()
    assert own["head.fc6.0.weight"].shape == (256, 128 * 50)
    assert float(own["head.fc6.0.weight"].std()) == pytest.approx((2 / 6400) ** 0.5, rel=0.01)
    assert all(torch.equal(own[key], before[key]) for key in own if not key.startswith("head.fc6."))
    # The same in every run.
    again = with_pyramid(build_backbone("tiny", RANDOM), PAPER).state_dict()
    assert torch.equal(again["head.fc6.0.weight"], own["head.fc6.0.weight"])


@pytest.mark.parametrize(
    ("name", "levels", "expected"),
    [
        ("alexnet", PAPER, ()),
        ("vgg16", PAPER, ("fc6", "fc7")),
        ("vgg16", (7, 3, 2, 1), ()),
        ("tiny", PAPER, ("fc6", "fc7")),
        ("tiny", (4, 2, 1), ()),
        ("squeezenet1_1", PAPER, ("fc6", "fc7")),  # it never had any
    ],
)
def test_layers_that_are_noise_until_tuned(
    name: Name, levels: tuple[int, ...], expected: tuple[str, ...]
) -> None:
    assert new_layers(name, levels) == expected


def test_saved_and_built_again(tmp_path: Path) -> None:
    add_pyramid(Job(tmp_path), RANDOM, "tiny", PAPER)
    state = with_pyramid(build_backbone("tiny", RANDOM), PAPER).state_dict()
    built = build("tiny", PAPER, tmp_path / "weights.pt").state_dict()
    assert built.keys() == state.keys()
    assert all(torch.equal(built[key], state[key]) for key in state)
    with pytest.raises(InputError, match=r"shape head\.fc6\.0\.weight"):
        build("tiny", (4, 2, 1), tmp_path / "weights.pt")


def test_weights_before_the_pyramid_are_not_taken_for_its_own(tmp_path: Path) -> None:
    torch.save(build_backbone("tiny", RANDOM).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match="does not fit"):
        build("tiny", PAPER, tmp_path / "weights.pt")
    add_pyramid(Job(tmp_path), Weights(tmp_path / "weights.pt", ""), "tiny", PAPER)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
def test_networks_without_fully_connected_layers_are_refused(name: Name) -> None:
    with pytest.raises(InputError, match=f"BACKBONE={name}: SPPnet needs fully connected layers"):
        check_backbone(name)


@pytest.mark.parametrize("name", ["tiny", "alexnet", "vgg16", "squeezenet1_1"])
def test_the_others_are_not(name: Name) -> None:
    check_backbone(name)


@pytest.mark.parametrize(("name", "side"), [("tiny", 96), ("squeezenet1_1", 224)])
def test_the_side_of_a_window_where_none_is_given(name: Name, side: int) -> None:
    backbone = with_pyramid(build_backbone(name, RANDOM), (1,))
    pyramid = dataclasses.replace(PYRAMID, window_side=None, levels=(1,))
    assert PyramidNetwork(backbone, "cpu", "float32", pyramid, 1).side == side
