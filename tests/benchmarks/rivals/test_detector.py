"""A finished detector: on disk, behind our call, and what is said of files that are none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.rivals.detector import Description, load, read_description, save
from benchmarks.rivals.torchvision_detectors import build
from stages.backbones.weights import Weights
from stages.errors import InputError
from stages.stopwatch import Stopwatch

ABOUT = Description("torchvision-faster", ("cat", "dog", "never"), 64, 100, 32, "float32")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector's folder; its weights by chance."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    torch.manual_seed(0)
    save(folder, ABOUT, build(Weights(None, "random"), 3, 64, 100).state_dict())
    return folder


def photographs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        for size in ((48, 60), (90, 70))
    ]


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_it_is_what_was_saved(saved: Path) -> None:
    torch.manual_seed(0)
    network = build(Weights(None, "random"), 3, 64, 100).eval()
    images = photographs()
    detector = load(saved, "cpu")
    found = detector(images)
    # torchvision's own call, an image at a time: together it pads them to one size.
    for image, ours in zip(images, found, strict=True):
        with torch.inference_mode():
            [theirs] = network([image / 255])
        assert equal(ours, theirs)
        assert equal(detector([image / 255])[0], ours)
        assert ours["boxes"].shape == (len(ours["scores"]), 4)
        assert set(ours["labels"].tolist()) <= {1, 2, 3}
        assert len(ours["scores"]) > 5
        assert bool((ours["scores"].diff() <= 0).all())
    assert not detector.training
    assert not any(parameter.requires_grad for parameter in detector.parameters())
    assert detector.classes == ABOUT.classes


def test_parts_are_timed(saved: Path) -> None:
    detector = load(saved, "cpu")
    detector.watch = watch = Stopwatch()
    detector(photographs())
    assert list(watch.seconds) == ["resize", "convolutions", "RPN", "RoI heads", "pasting"]


def test_bfloat16_is_near(saved: Path, tmp_path: Path) -> None:
    about = dataclasses.replace(ABOUT, dtype="bfloat16")
    save(tmp_path, about, torch.load(saved / "weights.pt", weights_only=True))
    detector, image = load(tmp_path, "cpu"), photographs()[0]
    assert detector.network.rpn.head.conv[0][0].weight.is_contiguous(
        memory_format=torch.channels_last
    )
    [found], [plain] = detector([image]), load(saved, "cpu")([image])
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    best = float(plain["scores"][0])
    assert float(found["scores"][0]) == pytest.approx(best, abs=0.02)
    assert not equal(found, plain)


def change(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    fields = {**dataclasses.asdict(ABOUT), **changes}
    (folder / "model.json").write_text(json.dumps(fields))
    return folder / "model.json"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"paper": "fast"}, "paper: "),
        ({"classes": []}, "no classes"),
        ({"classes": 3}, "classes: "),
        ({"shorter": 0}, "a side"),
        ({"longest": "long"}, "longest: "),
        ({"finest_stride": 7}, "finest_stride: "),
        ({"dtype": "float8"}, "dtype: "),
        ({"more": 1}, "more"),
    ],
)
def test_a_description_that_is_none_is_one_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = change(tmp_path, **changes)
    with pytest.raises(InputError, match=said) as caught:
        read_description(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_description_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_description(change(tmp_path)) == ABOUT


def test_missing_and_broken_files_are_named(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(InputError, match=r"model\.json"):
        load(tmp_path, "cpu")
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(InputError, match=r"model\.json"):
        load(tmp_path, "cpu")
    change(tmp_path)
    with pytest.raises(InputError, match=r"weights\.pt"):
        load(tmp_path, "cpu")
    (tmp_path / "weights.pt").write_bytes((saved / "weights.pt").read_bytes())
    change(tmp_path, classes=["cat"])
    with pytest.raises(InputError, match=r"weights\.pt: does not fit"):
        load(tmp_path, "cpu")
