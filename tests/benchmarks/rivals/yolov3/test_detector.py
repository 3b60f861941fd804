"""The finished detector's file: kept whole, and what is no such file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.rivals.yolov3.detector import Description, build, load, read_description, save
from benchmarks.rivals.yolov3.network import YOLOv3
from fast_rcnn.config import DetectionConfig, ScaleConfig
from stages.errors import InputError

ABOUT = Description(
    "yolov3",
    "tiny",
    ("cat", "dog", "never"),
    tuple((float(side), side + 2.5) for side in (6, 9, 12, 16, 20, 26, 34, 45, 60)),
    16,
    ScaleConfig(train=(64, 80), test=(64,), longest=200),
    DetectionConfig(50, 0.4, 0.01, 80, "float32"),
)
PICTURE = torch.randint(
    0, 256, (3, 48, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


@pytest.fixture(scope="module")
def model() -> YOLOv3:
    """A network with random weights whose batch norm does something."""
    torch.manual_seed(0)
    model = build(ABOUT)
    with torch.no_grad():
        for head in model.heads.scales:
            head.get_parameter("outputs.weight").normal_(std=0.2)
            head.get_parameter("outputs.bias").zero_()
        for key, value in model.named_buffers():
            if key.endswith("running_mean"):
                value.normal_(std=0.1)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture
def saved(tmp_path: Path, model: YOLOv3) -> Path:
    save(tmp_path / "model", ABOUT, model.state_dict())
    return tmp_path / "model"


def assert_near(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert len(one["scores"]) > 3
    assert one["labels"].tolist() == other["labels"].tolist()
    torch.testing.assert_close(one["boxes"], other["boxes"], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-4, atol=1e-5)


def test_a_saved_detector_detects_the_same(saved: Path, model: YOLOv3, tmp_path: Path) -> None:
    loaded = load(saved, "cpu")
    assert_near(loaded([PICTURE])[0], model([PICTURE])[0])
    assert loaded.classes == ABOUT.classes
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in loaded.modules())
    assert {path.name for path in saved.iterdir()} == {"model.json", "weights.pt"}
    # And saved again it is still the same.
    save(tmp_path / "again", read_description(saved / "model.json"), loaded.state_dict())
    assert_near(load(tmp_path / "again", "cpu")([PICTURE])[0], loaded([PICTURE])[0])


def test_a_description_is_read_as_it_was_written(saved: Path) -> None:
    assert read_description(saved / "model.json") == ABOUT
    loaded = load(saved, "cpu")
    assert (loaded.scale, loaded.detection) == (ABOUT.scale, ABOUT.detection)
    assert loaded.sizes.tolist() == [list(prior) for prior in ABOUT.priors]


def test_in_bfloat16_all_but_the_outputs(tmp_path: Path, model: YOLOv3) -> None:
    about = replace(ABOUT, detection=replace(ABOUT.detection, dtype="bfloat16"))
    save(tmp_path, about, model.state_dict())
    loaded = load(tmp_path, "cpu")
    kinds: dict[torch.dtype, set[str]] = {}
    for key, parameter in loaded.named_parameters():
        kinds.setdefault(parameter.dtype, set()).add(key)
    assert kinds.keys() == {torch.float32, torch.bfloat16}
    assert kinds[torch.float32] == {
        f"heads.scales.{n}.outputs.{kind}" for n in range(3) for kind in ("weight", "bias")
    }
    [found], [plain] = loaded([PICTURE]), model([PICTURE])
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert float(found["scores"][0]) == pytest.approx(float(plain["scores"][0]), abs=0.03)


# What is no such file ------------------------------------------------------------------------


def refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        load(folder, "cpu")
    said = str(caught.value)
    assert str(folder / name) in said
    assert "\n" not in said


def edited(folder: Path, **changes: Any) -> None:
    fields = {**dataclasses.asdict(ABOUT), **changes}
    (folder / "model.json").write_text(json.dumps(fields))


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["model.json", "weights.pt"])
@pytest.mark.parametrize("damage", [Path.unlink, halved, emptied])
def test_a_broken_file_is_named(saved: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(saved / name)
    refused(saved, name)


SCALE, DETECTION = dataclasses.asdict(ABOUT.scale), dataclasses.asdict(ABOUT.detection)


@pytest.mark.parametrize(
    "changes",
    [
        {"paper": "faster"},
        {"backbone": "lenet"},
        {"backbone": "vgg16"},
        {"classes": []},
        {"classes": 3},
        {"priors": []},
        {"priors": ABOUT.priors[:8]},
        {"priors": [[6.0]] * 9},
        {"priors": [[6.0, 0.0]] * 9},
        {"priors": [[6.0, float("nan")]] * 9},
        {"width": 0},
        {"width": 18},
        {"width": "16"},
        {"scale": {**SCALE, "test": [64, 96]}},
        {"scale": {**SCALE, "test": [-64]}},
        {"scale": {**SCALE, "longest": 0}},
        {"detection": {**DETECTION, "dtype": "float16"}},
        {"detection": {**DETECTION, "per_class": 0}},
        {"detection": None},
        {"more": 1},
    ],
    ids=str,
)
def test_a_description_of_something_else_is_refused(saved: Path, changes: dict[str, Any]) -> None:
    edited(saved, **changes)
    refused(saved, "model.json")


@pytest.mark.parametrize("changes", [{"classes": ["cat"]}, {"width": 32}, {"backbone": "resnet18"}])
def test_weights_of_another_description_are_refused(saved: Path, changes: dict[str, Any]) -> None:
    edited(saved, **changes)
    refused(saved, "weights.pt")
