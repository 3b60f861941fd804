"""Which images a file of weights expects: said, known, guessed, or asked for; and then given to them."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.backbones import expected
from stages.backbones.backbone import Backbone
from stages.backbones.config import BackboneConfig, Expected, Name
from stages.backbones.expected import CAFFE_VGG16, SMALLEST_NORM, first_norm, published
from stages.backbones.networks import classifier, cut, tiny
from stages.backbones.normalisation import (
    CAFFE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NORMALISATIONS,
    TF,
    TORCHVISION,
    Normalisation,
)
from stages.backbones.weights import Weights, build_backbone, fill, find_weights, load_built
from stages.errors import InputError
from stages.store import Store

State = dict[str, Tensor]
FIRST: dict[Name, tuple[str, str]] = {  # its first convolution, and the batch norm after it
    "tiny": ("trunk.0.0", "trunk.0.1"),
    "squeezenet1_1": ("features.0", ""),
    "mobilenet_v2": ("features.0.0", "features.0.1"),
    "resnet18": ("conv1", "bn1"),
}


def sample(name: Name) -> State:
    """A state that torchvision's images are for, its batch norms not the identity."""
    torch.manual_seed(1)
    network: nn.Module = tiny() if name == "tiny" else classifier(name)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    state = network.state_dict()
    return {key: value for key, value in state.items() if key not in ("mean", "std")}


def converted(state: State, name: Name, images: Normalisation) -> State:
    """The same function of an image, of weights for those images: the algebra, by hand."""
    conv, norm = FIRST[name]
    own_mean, own_std, mean, std = (
        torch.tensor(numbers).double()[:, None, None]
        for numbers in (IMAGENET_MEAN, IMAGENET_STD, images.mean, images.std)
    )
    weight = state[f"{conv}.weight"].double()
    # (p - m) / s = (std / s) (p - mean) / std + (mean - m) / s
    shift = (weight * (mean - own_mean) / own_std).sum(dim=(1, 2, 3))
    weight = weight * std / own_std
    new = {**state, f"{conv}.weight": (weight.flip(1) if images.bgr else weight).float()}
    if norm:
        new[f"{norm}.running_mean"] = (state[f"{norm}.running_mean"] - shift).float()
    else:
        new[f"{conv}.bias"] = (state[f"{conv}.bias"] + shift).float()
    return new


def pixels(side: int = 96) -> Tensor:
    """An image uint8 [3, side, side]; its channels are far from alike."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(0, 120, (3, side, side), generator=generator, dtype=torch.uint8)
    return noise + torch.tensor([100, 40, 0], dtype=torch.uint8)[:, None, None]


def maps(backbone: Backbone, layers: int = 99) -> Tensor:
    """After so many of the trunk's layers."""
    backbone.eval()
    with torch.inference_mode():
        seen = backbone.normalise(pixels())[None]
        return nn.Sequential(*list(backbone.trunk.children())[:layers])(seen)  # type: ignore[no-any-return]


def kept(path: Path, state: dict[str, Any]) -> Path:
    torch.save(state, path)
    return path


def found(
    path: Path, name: Name = "squeezenet1_1", wanted: Expected = "auto", store: Store | None = None
) -> Weights:
    config = BackboneConfig(name, str(path), normalisation=wanted)
    return find_weights(config, store or Store(path.parent / "store"))


def refused(path: Path, name: Name = "squeezenet1_1", wanted: Expected = "auto") -> str:
    with pytest.raises(InputError) as caught:
        found(path, name, wanted)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


# The numbers ---------------------------------------------------------------------------------


def test_caffes_by_hand() -> None:
    backbone = Backbone("tiny", nn.Conv2d(3, 1, 1), nn.Sequential(), 1, 1, 1)
    backbone.expect(CAFFE)
    image = torch.tensor([200, 100, 0], dtype=torch.uint8)[:, None, None]  # red most
    seen = backbone.normalise(image).flatten().tolist()
    # py-faster-rcnn: PIXEL_MEANS 102.9801, 115.9465, 122.7717 of blue, green and red.
    assert seen == pytest.approx([200 - 122.7717, 100 - 115.9465, 0 - 102.9801], abs=1e-3)


def test_tensorflows_by_hand() -> None:
    backbone = Backbone("tiny", nn.Conv2d(3, 1, 1), nn.Sequential(), 1, 1, 1)
    before = backbone.trunk.get_parameter("weight").clone()
    backbone.expect(TF)
    image = torch.tensor([0.0, 0.5, 1.0])[:, None, None]
    assert backbone.normalise(image).flatten().tolist() == [-1, 0, 1]
    assert torch.equal(backbone.trunk.get_parameter("weight"), before)


@pytest.mark.parametrize("images", NORMALISATIONS.values(), ids=NORMALISATIONS)
def test_what_lies_outside_an_image_is_its_mean_colour(images: Normalisation) -> None:
    backbone = Backbone("tiny", nn.Conv2d(3, 1, 1), nn.Sequential(), 1, 1, 1)
    backbone.expect(images)
    mean = torch.tensor(images.mean)[:, None, None]
    assert torch.equal(backbone.normalise(mean), torch.zeros(3, 1, 1))


def test_blue_first_is_turned_round_once() -> None:
    conv = nn.Conv2d(3, 2, 3)
    backbone = Backbone("tiny", nn.Sequential(conv, nn.Conv2d(2, 3, 1)), nn.Sequential(), 3, 1, 1)
    first, second = conv.weight.detach().clone(), backbone.trunk.get_parameter("1.weight").clone()
    backbone.expect(CAFFE)
    for n in range(3):
        assert torch.equal(conv.weight[:, n], first[:, 2 - n])
    assert torch.equal(backbone.trunk.get_parameter("1.weight"), second)


# The same network for other images -----------------------------------------------------------


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("bgr", [False, True])
def test_converted_weights_are_the_same_network(tmp_path: Path, name: Name, bgr: bool) -> None:
    # Of the same mean colour, which is what each network sees beyond an image's edge.
    images = Normalisation(IMAGENET_MEAN, (1 / 255, 1 / 128, 1 / 64), bgr)
    state = sample(name)
    plain = build_backbone(name, Weights(kept(tmp_path / "plain.pth", state), ""))
    other = kept(tmp_path / "other.pth", converted(state, name, images))
    # Random networks forget in a few layers what they were shown, and would agree anyway.
    wanted = maps(plain, 2)
    got = maps(build_backbone(name, Weights(other, "", images)), 2)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)
    # Fed as torchvision's they are another function altogether.
    wrong = (maps(build_backbone(name, Weights(other, "")), 2) - wanted).abs().mean()
    assert wrong > 0.05 * wanted.abs().mean()


@pytest.mark.parametrize("wanted", ["caffe", "tf"])
def test_caffes_and_tensorflows_squeezenet(tmp_path: Path, wanted: Expected) -> None:
    # Its first convolution has no padding, so that another mean colour changes nothing.
    state = sample("squeezenet1_1")
    plain = build_backbone("squeezenet1_1", Weights(kept(tmp_path / "plain.pth", state), ""))
    images = NORMALISATIONS[wanted]
    path = kept(tmp_path / "other.pth", converted(state, "squeezenet1_1", images))
    weights = found(path, wanted=wanted)
    assert weights.expects == images
    backbone = build_backbone("squeezenet1_1", weights)
    torch.testing.assert_close(maps(backbone), maps(plain), rtol=1e-3, atol=1e-4)


def test_saved_again_they_are_ours_and_need_no_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept(tmp_path / "caffe.pth", converted(sample("squeezenet1_1"), "squeezenet1_1", CAFFE))
    first = build_backbone("squeezenet1_1", Weights(path, "", CAFFE))
    ours = kept(tmp_path / "ours.pt", first.state_dict())
    for wanted in ("auto", "caffe"):
        weights = found(ours, wanted=wanted)  # type: ignore[arg-type]
        assert weights.expects is None
        assert torch.equal(maps(build_backbone("squeezenet1_1", weights)), maps(first))
    assert capsys.readouterr().err == ""
    assert "leave it out" in refused(ours, wanted="torchvision")


def test_what_is_built_from_a_description_has_the_files_images(tmp_path: Path) -> None:
    backbone = tiny()
    backbone.expect(CAFFE)
    path = kept(tmp_path / "model.pt", backbone.state_dict())
    built = load_built(tiny, path, "no network")
    assert torch.equal(maps(built), maps(backbone))
    assert built.mean.flatten().tolist() == pytest.approx(CAFFE.mean)


def test_models_that_do_not_say_are_torchvisions(tmp_path: Path) -> None:
    built = load_built(tiny, kept(tmp_path / "old.pt", sample("tiny")), "no network")
    assert built.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)
    assert built.std.flatten().tolist() == pytest.approx(IMAGENET_STD)


@pytest.mark.parametrize("numbers", [[0.0, 1, 1], [-1.0, 1, 1], [torch.nan, 1, 1], [torch.inf] * 3])
def test_numbers_that_normalise_nothing_are_refused(tmp_path: Path, numbers: list[float]) -> None:
    state = {**tiny().state_dict(), "std": torch.tensor(numbers)[:, None, None]}
    path = kept(tmp_path / "damaged.pt", state)
    with pytest.raises(InputError, match=r"damaged\.pt: mean and std"):
        fill(tiny(), state, path)
    with pytest.raises(InputError, match=r"damaged\.pt: mean and std"):
        load_built(tiny, path, "no network")


# What a file says ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["normalisation", "normalization"])
@pytest.mark.parametrize("form", ["safetensors", "beside the tensors", "beside a state_dict"])
def test_a_file_says_what_it_expects(
    tmp_path: Path, form: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state = sample("squeezenet1_1")
    if form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path, {"format": "pt", key: "caffe"})
    elif form == "beside the tensors":
        path = kept(tmp_path / "weights.pth", {**state, key: "caffe"})
    else:
        path = kept(tmp_path / "weights.pth", {"state_dict": state, key: "caffe", "epoch": 3})
    weights = found(path)
    assert weights.expects == CAFFE
    assert capsys.readouterr().err == ""
    backbone = build_backbone("squeezenet1_1", weights)
    assert backbone.mean.flatten().tolist() == pytest.approx(CAFFE.mean)
    first = backbone.trunk.get_parameter("0.weight")
    assert torch.equal(first, state["features.0.weight"].flip(1))


def test_safetensors_without_a_word_are_as_a_state_dict(tmp_path: Path) -> None:
    state = sample("squeezenet1_1")
    save_file(state, tmp_path / "weights.safetensors")
    weights = found(tmp_path / "weights.safetensors")
    assert weights.expects is None
    plain = build_backbone("squeezenet1_1", Weights(kept(tmp_path / "plain.pth", state), ""))
    assert torch.equal(maps(build_backbone("squeezenet1_1", weights)), maps(plain))


@pytest.mark.parametrize("said", ["Caffe", "imagenet", ""])
def test_a_word_that_nobody_knows_is_refused(tmp_path: Path, said: str) -> None:
    state = {**sample("squeezenet1_1"), "normalisation": said}
    message = refused(kept(tmp_path / "weights.pth", state))
    assert repr(said) in message
    assert "none of caffe, torchvision, tf" in message
    # Who knows better may say so.
    assert found(tmp_path / "weights.pth", wanted="tf").expects == TF


@pytest.mark.parametrize("said", ["torchvision", "caffe"])
def test_the_option_counts_more_and_says_so_where_they_differ(
    tmp_path: Path, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept(tmp_path / "weights.pth", {**sample("squeezenet1_1"), "normalisation": said})
    assert found(path, wanted="caffe").expects == CAFFE
    line = f"{path}: says torchvision, but --backbone.normalisation caffe counts\n"
    assert capsys.readouterr().err == (line if said == "torchvision" else "")


# What is known of it -------------------------------------------------------------------------


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has torchvision have published a file for SqueezeNet, for images of that mean and deviation."""

    def published_as(path: Path, images: Normalisation) -> None:
        digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        entry = SimpleNamespace(
            url=f"https://example.org/squeezenet1_1-{digits}.pth",
            transforms=lambda: SimpleNamespace(mean=list(images.mean), std=list(images.std)),
        )
        monkeypatch.setattr(expected.zoo, "get_model_weights", lambda name: [entry])

    return published_as


def test_torchvisions_own_is_known_by_its_content(
    tmp_path: Path, publish: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept(tmp_path / "renamed.pth", sample("squeezenet1_1"))
    publish(path, TORCHVISION)
    weights = found(path)
    assert weights.expects is None
    # What was made of it before files were asked what they expect is found again.
    assert weights.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert capsys.readouterr().err == ""
    assert found(path, wanted="tf").expects == TF
    assert "published by torchvision, but --backbone.norm" in capsys.readouterr().err


def test_torchvision_is_taken_at_its_word(tmp_path: Path, publish: Any) -> None:
    path = kept(tmp_path / "features.pth", sample("squeezenet1_1"))
    publish(path, Normalisation((0.25, 0.5, 0.75), (0.5, 0.25, 1)))
    weights = found(path)
    assert weights.expects == Normalisation((0.25, 0.5, 0.75), (0.5, 0.25, 1))


@pytest.mark.parametrize(
    ("name", "digits", "mean", "std"),
    [
        ("vgg16", "397923af", IMAGENET_MEAN, IMAGENET_STD),
        ("resnet50", "11ad3fa6", IMAGENET_MEAN, IMAGENET_STD),
        ("resnet50", "19c8e357", IMAGENET_MEAN, IMAGENET_STD),  # which it no longer lists
        # SSD's, which torchvision took over from another project: 0 to 255.
        ("vgg16", "88682ab5", (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
    ],
)
def test_torchvisions_real_files(name: Name, digits: str, mean: Any, std: Any) -> None:
    assert published(name, f"{digits}01234567") == Normalisation(mean, std)


@pytest.mark.parametrize("name", ["vgg16", "squeezenet1_1", "resnet18", "tiny"])
def test_any_other_file_is_not_torchvisions(name: Name) -> None:
    assert published(name, "0123456789abcdef") is None


# What is not known ---------------------------------------------------------------------------


def test_a_file_that_does_not_say_is_named_with_what_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = kept(tmp_path / "found.pth", sample("squeezenet1_1")), Store(tmp_path / "store")
    for _ in range(2):  # as two variants of an ablation ask for it
        assert found(path, store=store).expects is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: is no file known to be torchvision's")
    assert "taken as torchvision's (RGB, 0 to 1" in line
    assert "--backbone.normalisation caffe" in line
    found(path, wanted="torchvision")
    assert capsys.readouterr().err == ""


def test_our_own_older_files_are_torchvisions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(kept(tmp_path / "old.pt", sample("tiny")), "tiny").expects is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [name for name in FIRST if name != "tiny"])
def test_a_first_layer_for_0_to_255_is_not_taken_for_torchvisions(
    tmp_path: Path, name: Name
) -> None:
    path = kept(tmp_path / "caffe.pth", converted(sample(name), name, CAFFE))
    message = refused(path, name)
    assert "pixels of 0 to 255" in message
    assert "say --backbone.normalisation caffe" in message
    assert found(path, name, "caffe").expects == CAFFE


@pytest.mark.parametrize("name", [name for name in FIRST if name != "tiny"])
def test_first_norms_of_networks(name: Name) -> None:
    state = sample(name)
    norm = first_norm(state, classifier(name))
    assert norm > 4 * SMALLEST_NORM
    # What a batch norm right after it undoes is no scale of the layer's.
    conv, after = FIRST[name]
    if after:
        scaled = {**state, f"{conv}.weight": state[f"{conv}.weight"] / 57}
        scaled[f"{after}.running_var"] = state[f"{after}.running_var"] / 57**2
        assert first_norm(scaled, classifier(name)) == pytest.approx(norm, rel=0.05)


def test_filters_that_nothing_comes_out_of_do_not_count() -> None:
    state = sample("squeezenet1_1")
    norm = first_norm(state, classifier("squeezenet1_1"))
    state["features.0.weight"][:40] = 1e-9
    assert first_norm(state, classifier("squeezenet1_1")) == pytest.approx(norm, rel=0.3)


def test_caffes_vgg16_is_known_though_its_filters_are_of_usual_size(tmp_path: Path) -> None:
    # 550 MB are not written for it: what is looked at is the first layer.
    state = {"features.0.weight": torch.randn(64, 3, 3, 3) / 4, "features.0.bias": torch.zeros(64)}
    with torch.device("meta"):
        network = classifier("vgg16")
    path = Path("vgg16_caffe.pth")
    expected._refuse_others(state, path, network)
    state["features.0.bias"][: len(CAFFE_VGG16)] = torch.tensor(CAFFE_VGG16)
    with pytest.raises(InputError, match="is VGG16 as Caffe trained it") as caught:
        expected._refuse_others(state, path, network)
    assert "say --backbone.normalisation caffe" in str(caught.value)


def test_caffes_resnet50_strides_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.device("meta"):
        network = classifier("resnet50")
    arguments = ({}, "caffe", "0123", "resnet50", "auto", Path("r50.pth"), network)
    lines: list[str] = []
    assert expected.expected_by(*arguments, lines.append) == CAFFE  # type: ignore[arg-type]
    assert len(lines) == 1
    assert "stride" in lines[0]


# Before anything is made of it ---------------------------------------------------------------


def test_a_file_that_does_not_fit_is_refused_when_it_is_found(tmp_path: Path) -> None:
    path = kept(tmp_path / "squeezenet.pth", sample("squeezenet1_1"))
    assert "does not fit MobileNetV2" in refused(path, "mobilenet_v2")
    assert "does not fit Backbone" in refused(path, "tiny")
    assert refused(kept(tmp_path / "list.pth", {"a": 3})).endswith("(a dictionary of tensors)")


def test_weights_for_other_images_are_other_weights(tmp_path: Path) -> None:
    path = kept(tmp_path / "weights.pth", sample("squeezenet1_1"))
    prints = {
        wanted: found(path, wanted=wanted).fingerprint  # type: ignore[arg-type]
        for wanted in ("auto", "torchvision", "caffe", "tf")
    }
    assert prints["auto"] == prints["torchvision"]
    assert len(set(prints.values())) == 3


@pytest.mark.parametrize("weights", ["default", "drawn"])
@pytest.mark.parametrize("name", ["tiny", "squeezenet1_1"])
def test_what_is_fetched_or_made_here_is_for_torchvisions(
    tmp_path: Path, weights: str, name: Name
) -> None:
    config = BackboneConfig(name, weights, normalisation="caffe")
    with pytest.raises(InputError, match=r"^--backbone\.normalisation caffe: is for a file"):
        find_weights(config, Store(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_random_weights_learn_from_whatever_images(tmp_path: Path) -> None:
    config = BackboneConfig("tiny", "none", normalisation="tf")
    weights = find_weights(config, Store(tmp_path))
    backbone = build_backbone("tiny", weights)
    assert backbone.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    plain = find_weights(dataclasses.replace(config, normalisation="auto"), Store(tmp_path))
    assert plain == Weights(None, "random")
    assert weights.fingerprint != "random"
    assert cut("alexnet", classifier("alexnet")).mean.flatten().tolist() == pytest.approx(
        IMAGENET_MEAN
    )
