"""`make mask WEIGHTS=torchvision-coco`: the command around the weights, which are of a small network here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.models import detection as zoo

from benchmarks.command import command as benchmarks
from mask_rcnn import published
from mask_rcnn.command import command
from mask_rcnn.detector import Description, load
from mask_rcnn.published import VOC_NAMES, of_coco
from mask_rcnn.torchvision_weights import coco_classes
from stages.data.images import image_tensor
from stages.device import DType
from stages.errors import InputError
from stages.evaluation.detections_io import load_detections
from tests.faster_rcnn.test_pipeline import metrics_of, options
from tests.mask_rcnn.conftest import SMALL, lively, with_masks

WEIGHTS = ("--weights", "torchvision-coco")
FILES = {
    True: zoo.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.url.rpartition("/")[2],
    False: zoo.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.url.rpartition("/")[2],
}


def describe(classes: tuple[str, ...], masks: bool, dtype: DType) -> Description:
    """In the place of the one of 44 million weights."""
    mask = replace(SMALL.network.mask, branch="fcn" if masks else "none")
    detection = replace(SMALL.detection, dtype=dtype, least_score=0.0, per_image=100)
    network = replace(SMALL.network, mask=mask)
    return replace(SMALL, classes=classes, network=network, detection=detection)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's folder of downloads, in which both files are, and `convert` as if they were torchvision's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for masks, name in FILES.items():
        model = lively(describe(coco_classes(), masks, "float32"))
        torch.save(model.state_dict(), folder / name)

    def convert(state: dict[str, Tensor], path: Path, eps: float) -> dict[str, Tensor]:
        assert path.parent == folder
        assert eps == 0
        return state

    monkeypatch.setattr(published, "convert", convert)
    # Which torchvision's own would not be: their names say what is in them.
    monkeypatch.setattr(published, "download", lambda url: folder / url.rpartition("/")[2])
    monkeypatch.setattr(published, "describe", describe)
    return folder


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """A function that puts data in the place of what `--data given` would be."""

    def put(data: Any) -> None:
        monkeypatch.setattr(published, "load_data", lambda *_: data)

    return put


@pytest.mark.parametrize("masks", [True, False])
def test_without_data_the_detector_is_left(
    tmp_path: Path, hub: Path, masks: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    more = () if masks else ("--network.mask.branch", "none")
    command(options(tmp_path, *WEIGHTS, *more))
    folder = tmp_path / "published-micro-resnet50" / "mask"
    assert str(folder) in capsys.readouterr().out
    left = {"metrics.json", "configuration.json", "summary.txt", "model"}
    assert {path.name for path in folder.iterdir()} == left
    assert [row["stage"] for row in metrics_of(folder)["stages"]] == ["import_published"]
    model = load(folder / "model", "cpu")
    assert model.classes == coco_classes()
    assert (model.mask_head is not None) == masks


def test_make_detect_takes_it(
    tmp_path: Path, hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(options(tmp_path, *WEIGHTS))
    capsys.readouterr()
    photo = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((120, 90)).save(photo)
    benchmarks(
        f"detect {photo} --model mask --runs {tmp_path} --device cpu --threshold 0.01".split()
    )
    first, *lines, last = capsys.readouterr().out.splitlines()
    folder = tmp_path / "detections" / "published-micro-resnet50" / "mask"
    picture = folder / "photo.png.png"
    assert last.endswith(str(folder / "detections.json"))
    assert first == f"{photo}: {len(lines)} detections; {picture}"
    assert picture.stat().st_size > 1000
    assert lines
    assert all(line.strip().split(" 0.")[0] in coco_classes() for line in lines)


def test_a_second_run_does_no_work(
    tmp_path: Path, hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(options(tmp_path, *WEIGHTS))
    first = capsys.readouterr()
    command(options(tmp_path, *WEIGHTS))
    second = capsys.readouterr()
    assert "-- import_published" in first.err
    assert "-- " not in second.err
    assert second.out == first.out


@pytest.mark.parametrize("masks", [True, False])
def test_what_it_finds_is_called_as_the_data_calls_it(
    tmp_path: Path,
    hub: Path,
    toy: Any,
    given: Callable[[Any], None],
    masks: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = replace(toy, train=toy.train[:6])
    network = lively(describe(coco_classes(), masks, "float32"))
    seen = Counter(
        coco_classes()[label - 1]
        for record in few.train
        for label in network([image_tensor(record)])[0]["labels"].tolist()
    )
    # Two of its classes are COCO's, in another order; one is nobody's.
    second, first = (name for name, _ in seen.most_common(2))
    names = (first, "gargoyle", second)
    few = replace(few, classes=names, category_ids=(7, 8, 9))
    data = with_masks(few)
    given(data)
    more = () if masks else ("--network.mask.branch", "none")
    command(options(tmp_path, *WEIGHTS, "--data", "given", *more))
    folder = tmp_path / "toy-micro-resnet50" / "mask"
    model = load(folder / "model", "cpu")
    found = load_detections(folder / "detections.json", data.category_ids)
    ours = {coco_classes().index(name) + 1: names.index(name) + 1 for name in (first, second)}
    kept = 0
    for record in data.test:
        (alone,) = model([image_tensor(record)])
        known = torch.tensor([label in ours for label in alone["labels"].tolist()])
        kept += int(known.sum())
        assert not known.all()
        if not known.any():
            assert record.image_id not in found
            continue
        saved = found[record.image_id]
        assert saved["scores"] == pytest.approx(alone["scores"][known].numpy(), abs=1e-5)
        assert saved["labels"].tolist() == [ours[k] for k in alone["labels"][known].tolist()]
        assert ("segmentation" in saved) == masks
    assert kept > 10
    metrics = metrics_of(folder)
    stages = [row["stage"] for row in metrics["stages"]]
    assert stages == ["import_published", "detect_by_name", "evaluate_detections"]
    assert ("masks" in metrics["result"]) == masks
    # Measured where it can find something; of the other class nothing counts as missed.
    assert list(metrics["result"]["per_class"]) == [first, second]
    aps = [of_class["ap_area"] for of_class in metrics["result"]["per_class"].values()]
    assert metrics["result"]["area_map"] == pytest.approx(
        np.mean([x for x in aps if x is not None])
    )
    said = "toy: measured on 2 of its 3 classes, COCO has none called gargoyle\n"
    assert capsys.readouterr().err.count(said) == 1
    # Its own classes are all of COCO's, for `make detect`.
    assert metrics["classes"] == list(coco_classes())
    assert json.dumps(metrics["usual_scores"]).count("0.5") == len(set(coco_classes()))


def test_data_without_a_common_class_is_refused(
    tmp_path: Path, hub: Path, toy: Any, given: Callable[[Any], None]
) -> None:
    given(replace(toy, classes=("gargoyle", "griffin", "N/a")))
    with pytest.raises(InputError, match=r"^toy: none of its classes is one of COCO's") as caught:
        command(options(tmp_path, *WEIGHTS, "--data", "given"))
    assert "\n" not in caught.value.line


def test_classes_are_cocos_by_name_or_by_vocs(toy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for names in (("cat", "dog", "sofa"), ("tvmonitor", "couch", "potted plant")):
        data = replace(toy, classes=names)
        assert of_coco(data) is data  # whose evaluation is the same as ever
    assert {*VOC_NAMES.values()} <= {*coco_classes()}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "option",
    [
        ("--detection.mask-threshold", "0.3"),
        ("--network.fc", "8"),
        ("--train.train.sgd.iterations", "7"),
        ("--difficult",),
        ("--backbone.normalisation", "caffe"),
        ("--backbone.name", "vgg16"),
    ],
)
def test_what_is_fixed_cannot_be_chosen(tmp_path: Path, hub: Path, option: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"is trained already, so no --\w+\.\. applies") as caught:
        command([*options(tmp_path), *WEIGHTS, *option])
    assert option[0].partition(".")[0] + ".." in str(caught.value)


def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def fail(*_: object, **__: object) -> None:
        raise URLError("nobody\nanswers")

    monkeypatch.setattr("stages.backbones.weights.fetch_file", fail)
    with pytest.raises(InputError, match="download failed") as caught:
        command(options(tmp_path, *WEIGHTS))
    assert zoo.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.url in caught.value.line
    assert "\n" not in caught.value.line
    assert not list(tmp_path.glob("published*"))


def test_a_file_of_something_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "weights.pth")
    monkeypatch.setattr(published, "download", lambda url: tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth: not weights of torchvision's") as caught:
        command(options(tmp_path, *WEIGHTS))
    assert "\n" not in caught.value.line


def test_the_files_are_torchvisions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def note(url: str) -> Path:
        asked.append(url)
        raise InputError("enough")

    monkeypatch.setattr(published, "download", note)
    for more in ((), ("--network.mask.branch", "none")):
        with pytest.raises(InputError, match="enough"):
            command(options(tmp_path, *WEIGHTS, *more))
    assert [url.rpartition("/")[2] for url in asked] == [FILES[True], FILES[False]]
