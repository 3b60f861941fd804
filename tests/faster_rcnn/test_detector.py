"""The finished detector's file: kept whole, and what is no such file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fast_rcnn.config import DetectionConfig, ScaleConfig
from faster_rcnn.config import (
    AnchorConfig,
    LabelConfig,
    ProposalConfig,
    RPNConfig,
    RPNLossConfig,
)
from faster_rcnn.detector import Description, build, load, save
from faster_rcnn.network import FasterRCNN
from faster_rcnn.pipeline import detect
from stages.data.images import image_tensor
from stages.device import choose_dtype
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections
from stages.store import Artifact, Job
from stages.typed_json import read_typed

DESCRIPTION = Description(
    paper="faster",
    backbone="tiny",
    classes=("cat", "dog", "never"),
    scale=ScaleConfig(train=(64,), test=(64,), longest=200),
    rpn=RPNConfig(width=16, anchors=AnchorConfig(sizes=(16.0, 32.0))),
    proposals=ProposalConfig(before=100, after=12, least_side=4.0),
    detection=DetectionConfig(dtype="float32"),
)


def made(description: Description = DESCRIPTION) -> FasterRCNN:
    """A network with random weights, the same every time, whose answers are not all alike."""
    torch.manual_seed(2)
    model = build(description)
    with torch.no_grad():
        model.rpn.conv.weight.normal_(std=0.02)
        model.rpn.scores.weight.normal_(std=0.1)
        model.rpn.offsets.weight.normal_(std=0.03)
        model.predictor.scores.weight.normal_(std=0.15)
        model.predictor.offsets.weight.normal_(std=0.03)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    return made()


@pytest.fixture
def saved(tmp_path: Path, model: FasterRCNN) -> Path:
    save(tmp_path / "model", DESCRIPTION, model.state_dict())
    return tmp_path / "model"


PICTURE = torch.randint(
    0, 256, (3, 48, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def described(folder: Path) -> Description:
    return read_typed(folder / "model.json", Description, "a test")


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() == {"boxes", "labels", "scores"}
    assert len(one["scores"]) > 3
    assert all(torch.equal(one[key], other[key]) for key in one)


# Kept ----------------------------------------------------------------------------------------


def test_a_saved_detector_detects_the_same(saved: Path, model: FasterRCNN) -> None:
    loaded = load(saved, "cpu")
    for one, other in zip(loaded.score([PICTURE])[0], model.score([PICTURE])[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert loaded.classes == DESCRIPTION.classes
    assert {path.name for path in saved.iterdir()} == {"model.json", "weights.pt"}


def test_saved_again_it_is_still_the_same(saved: Path, tmp_path: Path) -> None:
    first = load(saved, "cpu")
    save(tmp_path / "again", described(saved), first.state_dict())
    second = load(tmp_path / "again", "cpu")
    assert_same(first([PICTURE])[0], second([PICTURE])[0])


def test_every_field_of_the_description_is_kept(tmp_path: Path) -> None:
    # None of them at its default.
    description = Description(
        "faster",
        "tiny",
        ("dog", "cät"),
        ScaleConfig((32, 48), (96,), 300, 99, True),
        RPNConfig(
            24,
            AnchorConfig((20.0, 40.5), (0.25, 1.0, 3.0), 0.0, True),
            LabelConfig(0.6, 0.2, False, 99, 0.25),
            RPNLossConfig("python", 3.0, 0.5),
        ),
        ProposalConfig(None, 0.6, 9, 3.5, "none", "none"),
        DetectionConfig(9, 0.4, 0.01, 50, "bfloat16"),
    )
    save(tmp_path, description, made(description).state_dict())
    assert described(tmp_path) == description
    loaded = load(tmp_path, "cpu")
    assert (loaded.scale, loaded.detection) == (description.scale, description.detection)
    assert (loaded.rpn.config, loaded.proposals) == (description.rpn, description.proposals)
    assert loaded.classes == ("dog", "cät")


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_it_computes_as_it_is_described(tmp_path: Path, dtype: Any) -> None:
    description = replace(DESCRIPTION, detection=DetectionConfig(dtype=dtype))
    save(tmp_path, description, made(description).state_dict())
    loaded = load(tmp_path, "cpu")
    wanted = {f"torch.{choose_dtype(dtype, 'cpu')}"}
    for part in (loaded.backbone.trunk, loaded.backbone.head, loaded.rpn.conv):
        assert {str(p.dtype) for p in part.parameters()} == wanted
    # Scores and offsets, of anchors and of RoIs, come out of float32 layers in any case.
    for part in (loaded.rpn.scores, loaded.rpn.offsets, loaded.predictor):
        assert {p.dtype for p in part.parameters()} == {torch.float32}
    found = loaded([PICTURE])[0]
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert len(found["boxes"]) > 3


@pytest.mark.parametrize("backbone", ["resnet18", "squeezenet1_1"])
def test_other_networks_are_kept_too(tmp_path: Path, backbone: Any) -> None:
    description = replace(DESCRIPTION, backbone=backbone)
    model = made(description)
    save(tmp_path, description, model.state_dict())
    ours, theirs = load(tmp_path, "cpu").score([PICTURE])[0], model.score([PICTURE])[0]
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-3, atol=1e-4)


# What is no such file ------------------------------------------------------------------------


def edited(path: str, value: Any) -> Callable[[Path], None]:
    """The field at "a.b.c" set to another value, or with None removed."""

    def change(file: Path) -> None:
        fields = json.loads(file.read_text())
        *outer, name = path.split(".")
        inside = fields
        for key in outer:
            inside = inside[key]
        if value is None:
            del inside[name]
        else:
            inside[name] = value
        file.write_text(json.dumps(fields))

    return change


def halved(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbled(path: Path) -> None:
    path.write_bytes(b"\xffgarbage")


def refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        load(folder, "cpu")
    said = str(caught.value)
    assert str(folder / name) in said
    assert "\n" not in said


@pytest.mark.parametrize("name", ["model.json", "weights.pt"])
@pytest.mark.parametrize("damage", [Path.unlink, halved, emptied, garbled])
def test_a_broken_file_is_named(saved: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(saved / name)
    refused(saved, name)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(edited("classes", None), id="no classes"),
        pytest.param(edited("scale", None), id="no scale"),
        pytest.param(edited("rpn", None), id="no RPN"),
        pytest.param(edited("proposals", None), id="no proposals"),
        pytest.param(edited("detection", None), id="no detection"),
        pytest.param(edited("paper", "fast"), id="another paper"),
        pytest.param(edited("backbone", "lenet"), id="unknown network"),
        pytest.param(edited("backbone", ["tiny"]), id="networks"),
        pytest.param(edited("classes", 7), id="classes"),
        pytest.param(edited("classes", "cat"), id="a class"),
        pytest.param(edited("classes", [1, 2, 3]), id="numbers for names"),
        pytest.param(edited("scale", [600]), id="scale"),
        pytest.param(edited("scale.test", [64.5]), id="half a pixel"),
        pytest.param(edited("scale.test", ["64"]), id="a word for a number"),
        pytest.param(edited("rpn.width", True), id="a yes for a number"),
        pytest.param(edited("rpn.anchors.sizes", 128), id="one size"),
        pytest.param(edited("rpn.loss.scale", "caffe"), id="unknown scale"),
        pytest.param(edited("proposals.nms_iou", "0.7"), id="a word for an overlap"),
        pytest.param(edited("detection.dtype", "float16"), id="unknown dtype"),
        pytest.param(lambda path: path.write_text("[]"), id="a list"),
        pytest.param(lambda path: path.write_text("null"), id="nothing"),
        pytest.param(edited("more", 1), id="a field too many"),
        pytest.param(edited("cells", None), id="trained without regard to where cells look"),
        pytest.param(edited("proposals.top", 9), id="a field too many inside"),
        pytest.param(edited("proposals.after", None), id="a field too few inside"),
        pytest.param(edited("proposals.nms_iou", float("nan")), id="no number"),
        pytest.param(edited("scale.test", []), id="no scale at test"),
        pytest.param(edited("scale.test", [-5]), id="a scale below 0"),
        pytest.param(edited("rpn.width", -1), id="a width below 0"),
        pytest.param(edited("rpn.anchors.ratios", [0.0]), id="a ratio of 0"),
        pytest.param(edited("rpn.anchors.sizes", []), id="no anchors"),
        pytest.param(edited("proposals.before", -1), id="a number of candidates below 0"),
        pytest.param(edited("proposals.after", 0), id="no proposals wanted"),
        pytest.param(edited("detection.per_class", -1), id="a number of boxes below 0"),
        pytest.param(edited("scale.test", [64, 96]), id="two scales at test"),
        pytest.param(edited("scale.test", [10**6]), id="a scale of terabytes"),
    ],
)
def test_a_description_of_something_else_is_refused(
    saved: Path, damage: Callable[[Path], None]
) -> None:
    damage(saved / "model.json")
    refused(saved, "model.json")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(edited("classes", ["cat"]), id="fewer classes"),
        pytest.param(edited("backbone", "resnet18"), id="another network"),
        pytest.param(edited("rpn.width", 8), id="another width"),
        pytest.param(edited("rpn.anchors.ratios", [1.0]), id="fewer anchors"),
    ],
)
def test_weights_of_another_description_are_refused(
    saved: Path, damage: Callable[[Path], None]
) -> None:
    damage(saved / "model.json")
    refused(saved, "weights.pt")


@pytest.mark.parametrize("change", ["missing", "left over", "shape"])
def test_weights_that_do_not_fit_are_refused(saved: Path, model: FasterRCNN, change: str) -> None:
    state = model.state_dict()
    if change == "missing":
        del state["rpn.offsets.bias"]
    elif change == "left over":
        state["rpn.box_mean"] = torch.zeros(4)
    else:
        state["rpn.offsets.bias"] = torch.zeros(8)
    torch.save(state, saved / "weights.pt")
    refused(saved, "weights.pt")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        load(tmp_path / "nowhere", "cpu")


# A whole split -------------------------------------------------------------------------------


def detected(data: Any, saved: Path, folder: Path) -> dict[str, Any]:
    """What the stage finds, by kind and image."""
    folder.mkdir()
    detect(Job(folder), data, Artifact(saved, "x"))
    assert {path.name for path in folder.iterdir()} == {"detections.json", "unregressed.json"}
    return {path.stem: load_detections(path, data.category_ids) for path in folder.glob("*.json")}


def test_the_split_is_detected_as_each_image_is(toy: Any, saved: Path, tmp_path: Path) -> None:
    found = detected(toy, saved, tmp_path / "found")
    model = load(saved, "cpu")
    for record in toy.test:
        alone = model([image_tensor(record)])[0]
        ours = found["detections"][record.image_id]
        assert ours["scores"] == pytest.approx(alone["scores"].numpy(), abs=1e-5)
        assert ours["boxes"] == pytest.approx(alone["boxes"].numpy(), abs=0.02)
        assert ours["labels"].tolist() == alone["labels"].tolist()
        # Without regression: proposals as they are, with scores of the same softmax.
        still = found["unregressed"][record.image_id]
        ((proposed, _),) = model.propose([image_tensor(record)])
        apart = torch.cdist(torch.from_numpy(still["boxes"]).float(), proposed, p=1)
        assert float(apart.amin(dim=1).max()) < 0.05
        assert float(max(still["scores"])) == pytest.approx(float(max(alone["scores"])), abs=1e-5)
    kinds = [[len(found[kind][r.image_id]["boxes"]) for r in toy.test] for kind in found]
    assert kinds[0] != kinds[1], "regression must make a difference here"


def test_an_image_in_which_nothing_is_proposed(toy: Any, saved: Path, tmp_path: Path) -> None:
    edited("proposals.least_side", 900.0)(saved / "model.json")
    found = detected(toy, saved, tmp_path / "found")
    assert found == {"detections": {}, "unregressed": {}}
