"""The finished detector's file: kept whole, decomposed or not, and what is no such file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fast_rcnn.config import DetectionConfig, ScaleConfig, SVDConfig
from fast_rcnn.detector import Description, build, load, read_description, save
from fast_rcnn.network import FastRCNN
from fast_rcnn.pipeline import decompose, detect
from fast_rcnn.svd import compress, split
from stages.data.images import image_tensor
from stages.device import choose_dtype
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections
from stages.proposals.cache import write_proposals
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.store import Artifact, Job

Make = Callable[..., Any]
DESCRIPTION = Description(
    paper="fast",
    backbone="tiny",
    classes=("cat", "dog", "never"),
    top=25,
    proposals=SelectiveSearchConfig(),
    scale=ScaleConfig(train=(64,), test=(64,), longest=200),
    detection=DetectionConfig(dtype="float32"),
)


def made(description: Description = DESCRIPTION) -> FastRCNN:
    """A network with random weights, the same every time, whose scores are not all alike."""
    torch.manual_seed(2)
    model = build(description)
    with torch.no_grad():
        model.predictor.scores.weight.normal_(std=0.15)
        model.predictor.offsets.weight.normal_(std=0.03)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> FastRCNN:
    return made()


@pytest.fixture
def saved(tmp_path: Path, model: FastRCNN) -> Path:
    save(tmp_path / "model", DESCRIPTION, model.state_dict())
    return tmp_path / "model"


PICTURE = torch.randint(
    0, 256, (3, 48, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
BOXES = torch.tensor([[0.0, 0, 40, 30], [10.5, 5, 50, 40], [0, 0, 60, 48], [30, 20, 52, 41]])


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() == {"boxes", "labels", "scores"}
    assert len(one["scores"]) > 0
    assert all(torch.equal(one[key], other[key]) for key in one)


# Kept ----------------------------------------------------------------------------------------


def test_a_saved_detector_detects_the_same(saved: Path, model: FastRCNN) -> None:
    loaded = load(saved, "cpu")
    for one, other in zip(loaded.score(PICTURE, BOXES), model.score(PICTURE, BOXES), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert loaded.classes == DESCRIPTION.classes


def test_saved_again_it_is_still_the_same(saved: Path, tmp_path: Path) -> None:
    first = load(saved, "cpu")
    save(tmp_path / "again", read_description(saved / "model.json"), first.state_dict())
    second = load(tmp_path / "again", "cpu")
    assert_same(first([PICTURE], proposals=[BOXES])[0], second([PICTURE], proposals=[BOXES])[0])


def test_every_field_of_the_description_is_kept(tmp_path: Path) -> None:
    description = Description(
        "fast",
        "tiny",
        ("dog", "cat"),
        None,
        SelectiveSearchConfig("quality", 7, 3),
        ScaleConfig((32, 48), (64, 96, 128), 300, 99),
        DetectionConfig(9, 0.4, 0.01, 50, "bfloat16"),
        SVDConfig(12, 5),
    )
    save(tmp_path, description, made(description).state_dict())
    assert read_description(tmp_path / "model.json") == description
    loaded = load(tmp_path, "cpu")
    assert (loaded.scale, loaded.detection) == (description.scale, description.detection)
    assert (loaded.proposals, loaded.top) == (description.proposals, None)
    assert loaded.classes == ("dog", "cat")


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_it_computes_as_it_is_described(tmp_path: Path, dtype: Any) -> None:
    description = replace(DESCRIPTION, detection=DetectionConfig(dtype=dtype))
    save(tmp_path, description, made(description).state_dict())
    loaded = load(tmp_path, "cpu")
    wanted = choose_dtype(dtype, "cpu")
    types = {str(p.dtype) for p in loaded.backbone.parameters()}
    assert types == {f"torch.{wanted}"}
    # Scores and offsets come out of float32 layers in any case.
    assert {p.dtype for p in loaded.predictor.parameters()} == {torch.float32}
    found = loaded([PICTURE], proposals=[BOXES])[0]
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32


@pytest.mark.parametrize("backbone", ["resnet18", "squeezenet1_1"])
def test_other_networks_are_kept_too(tmp_path: Path, backbone: Any) -> None:
    description = replace(DESCRIPTION, backbone=backbone)
    model = made(description)
    save(tmp_path, description, model.state_dict())
    scores, _ = load(tmp_path, "cpu").score(PICTURE, BOXES)
    torch.testing.assert_close(scores, model.score(PICTURE, BOXES)[0], rtol=1e-3, atol=1e-4)


# Decomposed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SVDConfig(16, 8), SVDConfig(fc6=16), SVDConfig(fc7=8)])
def test_a_decomposed_model_is_kept(saved: Path, tmp_path: Path, config: SVDConfig) -> None:
    folder = tmp_path / "decomposed"
    folder.mkdir()
    decompose(Job(folder), Artifact(saved, "x"), config)
    loaded = load(folder, "cpu")
    expected = made()
    compress(expected.backbone, config, split)
    scores, moved = loaded.score(PICTURE, BOXES)
    chances, boxes = expected.score(PICTURE, BOXES)
    torch.testing.assert_close(scores, chances, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(moved, boxes, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(scores, made().score(PICTURE, BOXES)[0], atol=1e-3)
    assert read_description(folder / "model.json") == replace(DESCRIPTION, svd=config)
    sizes = [(path / "weights.pt").stat().st_size for path in (folder, saved)]
    assert sizes[0] < sizes[1]


def test_decomposed_at_full_rank_it_detects_the_same(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decomposed"
    folder.mkdir()
    decompose(Job(folder), Artifact(saved, "x"), SVDConfig(256, 256))
    scores, moved = load(folder, "cpu").score(PICTURE, BOXES)
    chances, boxes = load(saved, "cpu").score(PICTURE, BOXES)
    torch.testing.assert_close(scores, chances, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(moved, boxes, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("config", [SVDConfig(fc6=257), SVDConfig(fc7=0)])
def test_a_rank_there_is_not_leaves_no_model(
    saved: Path, tmp_path: Path, config: SVDConfig
) -> None:
    folder = tmp_path / "decomposed"
    folder.mkdir()
    with pytest.raises(InputError, match="singular values"):
        decompose(Job(folder), Artifact(saved, "x"), config)
    assert list(folder.iterdir()) == []


# What is no such file ------------------------------------------------------------------------


def edited(**changes: Any) -> Callable[[Path], None]:
    """A field set to another value, or with None removed."""

    def change(path: Path) -> None:
        fields = json.loads(path.read_text())
        for key, value in changes.items():
            if value is None:
                del fields[key]
            else:
                fields[key] = value
        path.write_text(json.dumps(fields))

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
        pytest.param(edited(classes=None), id="no classes"),
        pytest.param(edited(scale=None), id="no scale"),
        pytest.param(edited(cells=None), id="trained without regard to where cells look"),
        pytest.param(edited(svd=None), id="no svd"),
        pytest.param(edited(top=None), id="no top"),
        pytest.param(edited(more=1), id="a field too many"),
        pytest.param(edited(scale=[600]), id="scale"),
        pytest.param(edited(scale={"height": 3}), id="another scale"),
        pytest.param(edited(proposals={"mode": "fast", "depth": 3}), id="proposals"),
        pytest.param(edited(detection=[1]), id="detection"),
        pytest.param(edited(svd={"fc8": 3}), id="another layer"),
        pytest.param(edited(classes=7), id="classes"),
        pytest.param(edited(backbone="lenet"), id="unknown network"),
        pytest.param(edited(backbone=["tiny"]), id="networks"),
        pytest.param(lambda path: path.write_text("[]"), id="a list"),
        pytest.param(lambda path: path.write_text("null"), id="nothing"),
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
        pytest.param(edited(classes=["cat"]), id="fewer classes"),
        pytest.param(edited(backbone="resnet18"), id="another network"),
        pytest.param(edited(svd={"fc6": 16, "fc7": None}), id="decomposed"),
    ],
)
def test_weights_of_another_description_are_refused(
    saved: Path, damage: Callable[[Path], None]
) -> None:
    damage(saved / "model.json")
    refused(saved, "weights.pt")


@pytest.mark.parametrize("svd", [{"fc6": 0, "fc7": None}, {"fc6": None, "fc7": 10**9}])
def test_a_decomposition_there_cannot_be_is_refused(saved: Path, svd: dict[str, Any]) -> None:
    edited(svd=svd)(saved / "model.json")
    with pytest.raises(InputError) as caught:
        load(saved, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["missing", "left over", "shape"])
def test_weights_that_do_not_fit_are_refused(saved: Path, model: FastRCNN, change: str) -> None:
    state = model.state_dict()
    if change == "missing":
        del state["predictor.offsets.bias"]
    elif change == "left over":
        state["box_mean"] = torch.zeros(3, 4)
    else:
        state["predictor.offsets.bias"] = torch.zeros(8)
    torch.save(state, saved / "weights.pt")
    refused(saved, "weights.pt")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        load(tmp_path / "nowhere", "cpu")


# A whole split -------------------------------------------------------------------------------


def detected(data: Any, saved: Path, folder: Path) -> dict[str, Any]:
    """What the stage finds, by kind and image."""
    folder.mkdir()
    detect(Job(folder), data, data.proposals, Artifact(saved, "x"))
    assert {path.name for path in folder.iterdir()} == {"detections.json", "unregressed.json"}
    return {path.stem: load_detections(path, data.category_ids) for path in folder.glob("*.json")}


def test_the_split_is_detected_as_each_image_is(toy: Any, saved: Path, tmp_path: Path) -> None:
    found = detected(toy, saved, tmp_path / "found")
    model = load(saved, "cpu")
    for record in toy.test:
        boxes = torch.from_numpy(toy.reader.of(record, 25))
        alone = model([image_tensor(record)], proposals=[boxes])[0]
        if record.image_id == "005":  # which has no proposal
            assert len(alone["scores"]) == 0
            assert not any(record.image_id in of_kind for of_kind in found.values())
            continue
        saved_ones = found["detections"][record.image_id]
        assert saved_ones["scores"] == pytest.approx(alone["scores"].numpy(), abs=1e-5)
        assert saved_ones["boxes"] == pytest.approx(alone["boxes"].numpy(), abs=0.02)
        # Without regression: proposals as they are, with scores of the same softmax.
        still = found["unregressed"][record.image_id]
        apart = torch.cdist(torch.from_numpy(still["boxes"]).float(), boxes, p=1).min(dim=1).values
        assert float(apart.max()) < 0.05
        assert float(max(still["scores"])) == pytest.approx(float(max(alone["scores"])), abs=1e-5)


def test_only_the_best_ranked_proposals_are_seen(toy_of: Make, saved: Path, tmp_path: Path) -> None:
    edited(top=1)(saved / "model.json")
    data = toy_of([[]], [[]], [[[0, 0, 20, 20], [30, 20, 60, 48]]])
    found = detected(data, saved, tmp_path / "found")
    boxes = found["unregressed"]["000"]["boxes"]
    assert {tuple(box) for box in boxes.tolist()} == {(0, 0, 20, 20)}


def test_proposals_of_another_data_set_are_refused(
    toy: Any, toy_of: Make, saved: Path, tmp_path: Path
) -> None:
    other = toy_of([[]], [[]], [[]])
    for records, words in (
        ([replace(toy.test[0], width=61)], "another data set"),  # another size
        ([replace(toy.test[0], image_id="a")], "another data set"),  # another name
    ):
        write_proposals(other.proposals.path / "proposals.h5", records, [BOXES.numpy()])
        with pytest.raises(InputError, match=words) as caught:
            detect(Job(tmp_path), toy, other.proposals, Artifact(saved, "x"))
        assert "\n" not in str(caught.value)
