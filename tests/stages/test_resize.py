"""Images at the network's scale: sizes, pixels and ratios by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stages.backbones.backbone import Backbone
from stages.backbones.networks import tiny
from stages.resize import LEAST, MULTIPLE, resize, size_at

SIDE = st.integers(1, 3000)
NETWORK = tiny()


@pytest.fixture
def backbone() -> Backbone:
    return NETWORK


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


# Sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        pytest.param(375, 500, (600, 800), id="VOC's usual"),
        pytest.param(500, 375, (800, 600), id="upright"),
        pytest.param(300, 600, (500, 1000), id="the longer side is held"),
        pytest.param(600, 300, (1000, 500), id="upright and held"),
        pytest.param(360, 600, (600, 1000), id="both at once"),
        pytest.param(1200, 1600, (600, 800), id="shrunk"),
        pytest.param(600, 600, (600, 600), id="as it is"),
        pytest.param(3, 10_000, (1, 1000), id="a thread keeps a pixel"),
        pytest.param(10_000, 3, (1000, 1), id="an upright thread"),
    ],
)
def test_sizes_by_hand(height: int, width: int, expected: tuple[int, int]) -> None:
    assert size_at(height, width, 600, 1000) == expected


@given(SIDE, SIDE, st.integers(1, 1200), st.integers(1, 2000))
def test_a_side_is_as_wanted_and_none_too_long(
    height: int, width: int, shorter: int, longest: int
) -> None:
    size = size_at(height, width, shorter, longest)
    assert min(size) >= 1
    assert max(size) <= max(longest, 1)
    assert min(size) <= shorter
    assert min(size) == shorter or max(size) == longest
    assert (size[0] > size[1]) <= (height > width)
    # The shape is kept to half a pixel.
    scale = min(shorter / min(height, width), longest / max(height, width))
    assert abs(size[0] - height * scale) <= 0.5 or size[0] == 1
    assert abs(size[1] - width * scale) <= 0.5 or size[1] == 1


# The frame -----------------------------------------------------------------------------------


def test_a_frame_of_whole_cells_in_the_mean_colour(backbone: Backbone) -> None:
    # 50 x 70 at 100: 100 x 140, in a frame of 128 x 160.
    batch = resize([picture(50, 70)], backbone, [100], 1000)
    assert batch.pixels.shape == (1, 3, 128, 160)
    assert batch.pixels.dtype == torch.float32
    assert batch.sizes == [(100, 140)]
    assert (batch.pixels[..., 100:, :] == 0).all()
    assert (batch.pixels[..., 140:] == 0).all()
    assert (batch.pixels[..., 99, :140].abs().sum(dim=1) > 0).float().mean() > 0.9
    assert (batch.pixels[..., :100, 139].abs().sum(dim=1) > 0).float().mean() > 0.9


def test_a_small_image_gets_the_smallest_frame(backbone: Backbone) -> None:
    batch = resize([picture(3, 3)], backbone, [5], 1000)
    assert batch.pixels.shape == (1, 3, LEAST, LEAST)
    assert batch.sizes == [(5, 5)]


def test_one_pixel(backbone: Backbone) -> None:
    batch = resize([picture(1, 1)], backbone, [96], 1000)
    assert batch.sizes == [(96, 96)]
    assert torch.isfinite(batch.pixels).all()
    assert batch.ratios.tolist() == [[96] * 4]


def test_images_of_several_sizes_and_scales_share_a_frame(backbone: Backbone) -> None:
    images, shorter = [picture(40, 60, 1), picture(90, 45, 2)], [80, 64]
    batch = resize(images, backbone, shorter, 1000)
    assert batch.sizes == [(80, 120), (128, 64)]
    assert batch.pixels.shape == (2, 3, 128, 128)
    for n, (image, length) in enumerate(zip(images, shorter, strict=True)):
        alone = resize([image], backbone, [length], 1000)
        height, width = batch.sizes[n]
        assert torch.equal(batch.pixels[n, :, :height, :width], alone.pixels[0, :, :height, :width])
        assert torch.equal(batch.ratios[n], alone.ratios[0])
        assert (batch.pixels[n, :, height:] == 0).all()
        assert (batch.pixels[n, :, :, width:] == 0).all()


@given(*[st.integers(1, 90)] * 4, st.integers(10, 100), st.integers(10, 100))
def test_the_frame_holds_all_and_is_of_multiples(
    h1: int, w1: int, h2: int, w2: int, first: int, second: int
) -> None:
    images = [torch.zeros(3, h1, w1), torch.zeros(3, h2, w2)]
    batch = resize(images, NETWORK, [first, second], 200)
    for axis in (0, 1):
        side = batch.pixels.shape[2 + axis]
        needed = max(size[axis] for size in batch.sizes)
        assert side % MULTIPLE == 0
        assert side >= max(needed, LEAST)
        assert side < max(needed, LEAST) + MULTIPLE
    # A box of the whole image is a box of all its pixels in the frame.
    for n, (height, width) in enumerate([(h1, w1), (h2, w2)]):
        box = torch.tensor([0.0, 0, width, height]) * batch.ratios[n]
        expected = torch.tensor([0.0, 0, batch.sizes[n][1], batch.sizes[n][0]])
        torch.testing.assert_close(box, expected)


def test_ratios_are_of_the_size_it_got_not_of_the_size_wanted(backbone: Backbone) -> None:
    # 33 x 50 at 100 is 100 x 151.5: 152 pixels wide.
    batch = resize([picture(33, 50)], backbone, [100], 1000)
    assert batch.sizes == [(100, 152)]
    expected = torch.tensor([[152 / 50, 100 / 33, 152 / 50, 100 / 33]])
    assert torch.equal(batch.ratios, expected)
    assert batch.ratios.device.type == "cpu"


# Pixels --------------------------------------------------------------------------------------


def test_at_its_own_size_pixels_are_only_normalised(backbone: Backbone) -> None:
    image = picture(64, 80)
    batch = resize([image], backbone, [64], 1000)
    assert torch.equal(batch.pixels[0, :, :64, :80], backbone.normalise(image))


def test_bytes_and_floats_are_the_same(backbone: Backbone) -> None:
    image = picture(50, 70)
    first, second = (resize([one], backbone, [96], 1000) for one in (image, image.float() / 255))
    assert torch.equal(first.pixels, second.pixels)


def test_the_image_given_is_not_changed(backbone: Backbone) -> None:
    image = torch.rand(3, 64, 64)
    before = image.clone()
    resize([image], backbone, [64], 1000).pixels.zero_()
    assert torch.equal(image, before)


def test_growing_is_bilinear_between_pixels_centres(backbone: Backbone) -> None:
    image = torch.zeros(3, 40, 40)
    image[:, :, 20:] = 1
    batch = resize([image], backbone, [80], 1000)
    row = (batch.pixels * backbone.std + backbone.mean)[0, 0, 40, :80]
    expected = [0.0] * 39 + [0.25, 0.75] + [1.0] * 39
    assert row.tolist() == pytest.approx(expected, abs=1e-5)


def test_shrinking_does_not_smooth(backbone: Backbone) -> None:
    # To a quarter: each pixel is the mean of the two by two about its centre, of sixteen.
    image = torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(0))
    batch = resize([image], backbone, [64], 1000)
    middle = image.unfold(1, 4, 4).unfold(2, 4, 4)[..., 1:3, 1:3].mean(dim=(-2, -1))
    torch.testing.assert_close(batch.pixels[0], backbone.normalise(middle), rtol=1e-4, atol=1e-4)
