"""A finished detector: on disk, behind our call, and what is said of files that are none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.rivals.detector import KINDS, Description, load, read_description, save
from benchmarks.rivals.torchvision_detectors import build
from stages.backbones.weights import Weights
from stages.errors import InputError
from stages.stopwatch import Stopwatch

ABOUT = Description("torchvision-faster", ("cat", "dog", "never"), 64, 100, 32, "float32")
OTHERS = {
    "torchvision-faster": ABOUT,
    "ssd": dataclasses.replace(ABOUT, paper="ssd", longest=64, finest_stride=16),
    "retinanet": dataclasses.replace(ABOUT, paper="retinanet", finest_stride=8),
}
PARTS = {
    "torchvision-faster": ["resize", "convolutions", "RPN", "RoI heads", "pasting"],
    "ssd": ["resize", "convolutions", "heads", "NMS"],
    "retinanet": ["resize", "convolutions", "heads", "NMS"],
}


def network(about: Description) -> Any:
    """Its weights by chance; of RetinaNet's, whose first scores are all of a hundredth, some are higher."""
    torch.manual_seed(0)
    sides = (about.shorter, about.longest, about.finest_stride)
    model = build(KINDS[about.paper], Weights(None, "random"), len(about.classes), *sides)
    if about.paper == "retinanet":
        torch.nn.init.normal_(model.head.classification_head.cls_logits.bias, std=3.0)
    return model


@pytest.fixture(scope="module", params=OTHERS)
def any_saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Description]:
    """A detector's folder, of each kind, and its description."""
    folder, about = tmp_path_factory.mktemp("saved") / "model", OTHERS[request.param]
    save(folder, about, network(about).state_dict())
    return folder, about


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faster R-CNN's folder."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(folder, ABOUT, network(ABOUT).state_dict())
    return folder


def photographs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        for size in ((48, 60), (90, 70))
    ]


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_it_is_what_was_saved(any_saved: tuple[Path, Description]) -> None:
    saved, about = any_saved
    torchvisions = network(about).eval()
    images = photographs()
    detector = load(saved, "cpu")
    found = detector(images)
    # torchvision's own call, an image at a time: together it pads them to one size.
    for image, ours in zip(images, found, strict=True):
        with torch.inference_mode():
            [theirs] = torchvisions([image / 255])
        if about.paper == "retinanet":
            theirs = objects_alone(theirs)
        assert equal(ours, theirs)
        assert equal(detector([image / 255])[0], ours)
        assert ours["boxes"].shape == (len(ours["scores"]), 4)
        assert set(ours["labels"].tolist()) <= {1, 2, 3}
        assert len(ours["scores"]) > 5
        assert bool((ours["scores"].diff() <= 0).all())
    assert not detector.training
    assert not any(parameter.requires_grad for parameter in detector.parameters())
    assert detector.classes == ABOUT.classes


def objects_alone(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what RetinaNet calls background: a column of its own that nothing teaches here."""
    assert 0 in found["labels"]
    return {key: values[found["labels"] > 0] for key, values in found.items()}


def test_parts_are_timed(any_saved: tuple[Path, Description]) -> None:
    saved, about = any_saved
    detector = load(saved, "cpu")
    detector.watch = watch = Stopwatch()
    detector(photographs())
    assert list(watch.seconds) == PARTS[about.paper]


def test_bfloat16_is_near(any_saved: tuple[Path, Description], tmp_path: Path) -> None:
    saved, about = any_saved
    about = dataclasses.replace(about, dtype="bfloat16")
    save(tmp_path, about, torch.load(saved / "weights.pt", weights_only=True))
    detector, image = load(tmp_path, "cpu"), photographs()[0]
    convolutions = [p for p in detector.parameters() if p.ndim == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in convolutions)
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
        ({"paper": "ssd"}, "SSD's image is no square"),
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


@pytest.mark.parametrize("paper", OTHERS)
def test_a_description_is_read_as_it_was_written(paper: str, tmp_path: Path) -> None:
    assert read_description(change(tmp_path, **dataclasses.asdict(OTHERS[paper]))) == OTHERS[paper]


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
