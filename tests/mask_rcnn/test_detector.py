"""The finished detector's file: kept whole, and what is no such file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from torch import Tensor, nn

from fast_rcnn.config import ScaleConfig
from faster_rcnn.config import AnchorConfig, LabelConfig, ProposalConfig, RPNConfig, RPNLossConfig
from mask_rcnn.config import (
    MaskConfig,
    MaskDetectionConfig,
    NetworkConfig,
    PoolConfig,
    PyramidConfig,
)
from mask_rcnn.detector import Description, load, save
from mask_rcnn.network import MaskRCNN
from mask_rcnn.pipeline import detect
from stages.data.images import image_tensor
from stages.device import choose_dtype
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections, sizes_of
from stages.store import Artifact, Job
from stages.typed_json import read_typed
from tests.mask_rcnn.conftest import SMALL, lively

PICTURE = torch.randint(
    0, 256, (3, 48, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    return lively()


@pytest.fixture
def saved(tmp_path: Path, model: MaskRCNN) -> Path:
    save(tmp_path / "model", SMALL, model.state_dict())
    return tmp_path / "model"


def described(folder: Path) -> Description:
    return read_typed(folder / "model.json", Description, "a test")


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert len(one["scores"]) > 3
    assert all(torch.equal(one[key], other[key]) for key in one)


# Kept ----------------------------------------------------------------------------------------


def test_a_saved_detector_detects_the_same(saved: Path, model: MaskRCNN) -> None:
    loaded = load(saved, "cpu")
    assert {path.name for path in saved.iterdir()} == {"model.json", "weights.pt"}
    assert loaded.classes == SMALL.classes
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    ours, theirs = loaded([PICTURE])[0], model([PICTURE])[0]
    torch.testing.assert_close(ours["scores"], theirs["scores"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours["boxes"], theirs["boxes"], rtol=1e-4, atol=1e-2)
    assert (ours["masks"] != theirs["masks"]).float().mean() < 1e-3


def test_saved_again_it_is_still_the_same(saved: Path, tmp_path: Path) -> None:
    first = load(saved, "cpu")
    save(tmp_path / "again", described(saved), first.state_dict())
    assert_same(first([PICTURE])[0], load(tmp_path / "again", "cpu")([PICTURE])[0])


def test_every_field_of_the_description_is_kept(tmp_path: Path) -> None:
    # None of them at its default.
    description = Description(
        "mask",
        "tiny",
        ("dog", "cät"),
        ScaleConfig((32, 48), (96,), 300, 99, True),
        NetworkConfig(
            "c4",
            PyramidConfig(8, 24, 99.5),
            PoolConfig("warp", 3, False, 5, 6, "max"),
            40,
            MaskConfig("mlp", 2, 20, 24, "softmax", False),
        ),
        RPNConfig(
            24,
            AnchorConfig((20.0, 40.5), (0.25, 1.0, 3.0), 0.0, True),
            LabelConfig(0.6, 0.2, False, 99, 0.25),
            RPNLossConfig("python", 3.0, 0.5),
        ),
        ProposalConfig(None, 0.6, 9, 3.5, "none", "none"),
        MaskDetectionConfig(9, 0.4, 0.01, 50, "bfloat16", 0.4, True),
    )
    for part, default in (
        (description.network, NetworkConfig()),
        (description.network.pyramid, PyramidConfig()),
        (description.network.pool, PoolConfig()),
        (description.network.mask, MaskConfig()),
        (description.detection, MaskDetectionConfig()),
    ):
        assert not [key for key in vars(default) if getattr(part, key) == getattr(default, key)]
    save(tmp_path, description, lively(description).state_dict())
    assert described(tmp_path) == description
    loaded = load(tmp_path, "cpu")
    assert (loaded.scale, loaded.detection) == (description.scale, description.detection)
    assert (loaded.rpn.config, loaded.proposals) == (description.rpn, description.proposals)
    assert loaded.mask_head is not None
    assert loaded.mask_head.config == description.network.mask
    assert loaded.mask_pool.config == description.network.pool
    assert loaded.classes == ("dog", "cät")


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(
            replace(SMALL.network, mask=replace(SMALL.network.mask, branch="none")), id="no masks"
        ),
        pytest.param(
            replace(SMALL.network, mask=replace(SMALL.network.mask, branch="mlp")), id="MLP"
        ),
        pytest.param(replace(SMALL.network, features="c4"), id="C4"),
        pytest.param(replace(SMALL.network, features="c5"), id="C5"),
    ],
)
def test_other_networks_are_kept_too(tmp_path: Path, network: NetworkConfig) -> None:
    backbone: Any = "tiny" if network.features == "fpn" else "mobilenet_v2"
    description = replace(SMALL, backbone=backbone, network=network)
    model = lively(description)
    save(tmp_path, description, model.state_dict())
    loaded = load(tmp_path, "cpu")
    ours, theirs = loaded.score([PICTURE])[0], model.score([PICTURE])[0]
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-3, atol=1e-4)
    assert ("masks" in loaded([PICTURE])[0]) == (network.mask.branch != "none")


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_it_computes_as_it_is_described(tmp_path: Path, model: MaskRCNN, dtype: Any) -> None:
    description = replace(SMALL, detection=replace(SMALL.detection, dtype=dtype))
    save(tmp_path, description, model.state_dict())
    loaded = load(tmp_path, "cpu")
    assert loaded.mask_head is not None
    wanted = {f"torch.{choose_dtype(dtype, 'cpu')}"}
    inner: tuple[nn.Module, ...] = (loaded.backbone, loaded.rpn.conv, loaded.mask_head.features)
    for part in inner:
        assert {str(p.dtype) for p in part.parameters()} == wanted
    # What is decided by comes out of float32 layers in any case.
    for part in (loaded.rpn.scores, loaded.rpn.offsets, loaded.predictor, loaded.mask_head.logits):
        assert {p.dtype for p in part.parameters()} == {torch.float32}
    found = loaded([PICTURE])[0]
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert found["masks"].dtype == torch.bool
    assert len(found["masks"]) > 3


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


def garbled(path: Path) -> None:
    path.write_bytes(b"\xffgarbage")


def refused(folder: Path, name: str) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, "cpu")
    said = str(caught.value)
    assert said.startswith(f"{folder / name}: ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name", ["model.json", "weights.pt"])
@pytest.mark.parametrize("damage", [Path.unlink, halved, garbled])
def test_a_broken_file_is_named(saved: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(saved / name)
    refused(saved, name)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("network", None),
        ("network.mask", None),
        ("detection.mask_threshold", None),
        ("paper", "faster"),
        ("backbone", "lenet"),
        ("classes", []),
        ("network.features", "c3"),
        ("network.pool.kind", "max"),
        ("network.mask.branch", "cnn"),
        ("network.mask.class_specific", 1),
        ("network.pyramid.finest", 5),
        ("network.top", 9),
        ("detection.mask_threshold", "0.5"),
        # Not above 0.
        ("network.pyramid.width", 0),
        ("network.pyramid.canonical_side", 0.0),
        ("network.pool.points", -1),
        ("network.pool.box_side", 0),
        ("network.pool.mask_side", 0),
        ("network.fc", 0),
        ("network.mask.convs", -1),
        ("network.mask.width", 0),
        ("network.mask.fc", -3),
        ("rpn.width", 0),
        ("rpn.anchors.sizes", []),
        ("proposals.after", 0),
        ("detection.per_class", 0),
        ("detection.per_image", 0),
        ("scale.longest", 0),
        ("scale.test", [0]),
        ("scale.test", []),
        ("scale.test", [64, 96]),
        # What cannot be built.
        ("network.features", "c5"),
        ("rpn.anchors.sizes", [16.0, 32.0]),
        ("backbone", "alexnet"),
    ],
)
def test_a_description_of_something_else_is_refused(saved: Path, path: str, value: Any) -> None:
    edited(path, value)(saved / "model.json")
    refused(saved, "model.json")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("classes", ["cat"]),
        ("network.features", "c4"),
        ("network.mask.branch", "none"),
        ("network.mask.loss", "softmax"),
        ("network.mask.convs", 2),
        ("network.pyramid.width", 8),
    ],
)
def test_weights_of_another_description_are_refused(saved: Path, path: str, value: Any) -> None:
    edited(path, value)(saved / "model.json")
    refused(saved, "weights.pt")


def test_a_weight_that_is_not_there_is_named(saved: Path, model: MaskRCNN) -> None:
    state = model.state_dict()
    del state["mask_head.logits.bias"]
    torch.save(state, saved / "weights.pt")
    assert "missing mask_head.logits.bias" in refused(saved, "weights.pt")


# A whole split -------------------------------------------------------------------------------


def test_the_split_is_detected_as_each_image_is(toy: Any, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    detect(Job(tmp_path / "found"), toy, Artifact(saved, "x"))
    path = tmp_path / "found" / "detections.json"
    found = load_detections(path, toy.category_ids, sizes_of(toy.test))
    model = load(saved, "cpu")
    for record in toy.test:
        alone = model([image_tensor(record)])[0]
        ours = found[record.image_id]
        assert ours["scores"] == pytest.approx(alone["scores"].numpy(), abs=1e-5)
        assert ours["labels"].tolist() == alone["labels"].tolist()
        size = [record.height, record.width]
        runs = [{"size": size, "counts": counts} for counts in ours["segmentation"].tolist()]
        masks = coco.decode(runs).transpose(2, 0, 1).astype(bool)
        assert np.array_equal(masks, alone["masks"].numpy())
    assert max(found[record.image_id]["segmentation"].size for record in toy.test) > 10


def test_a_split_in_which_nothing_is_found(toy: Any, saved: Path, tmp_path: Path) -> None:
    edited("proposals.least_side", 900.0)(saved / "model.json")
    (tmp_path / "found").mkdir()
    detect(Job(tmp_path / "found"), toy, Artifact(saved, "x"))
    assert load_detections(tmp_path / "found" / "detections.json", toy.category_ids) == {}
