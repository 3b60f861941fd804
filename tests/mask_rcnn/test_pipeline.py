"""All of Mask R-CNN once through in seconds, by its own command: whole, found again, and in all its forms."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from mask_rcnn import pipeline
from mask_rcnn.command import command
from mask_rcnn.config import PRESETS, Config
from mask_rcnn.detector import load
from mask_rcnn.pipeline import run, train_and_test
from stages.data.images import image_tensor
from stages.data.load import load_data
from stages.errors import InputError
from stages.options import resolve_dtypes
from stages.proposals.cache import Proposals
from stages.store import Store
from stages.training.image_batches import ImageBatches
from tests.faster_rcnn.test_pipeline import (
    AskedError,
    changed,
    forbid,
    metrics_of,
    no_pictures,
    numbers,
    options,
    state_of,
    store_in,
)

CONFIG: Config = resolve_dtypes(PRESETS["micro"], "cpu")  # as the front door does
STAGES = [
    "draw_shapes",
    "pretrain",
    "train_network",
    "assemble",
    "detect",
    "evaluate_detections",
    "propose",
    "draw_pictures",
]
RUN = "shapes-micro-tiny/mask"
MOBILENET = ("--backbone", "mobilenet_v2", "--weights", "none")
FEW = ("--train.train.sgd.iterations", "1", "--train.sampling.rois", "8", "--proposals.after", "10")
FORMS = {
    "boxes": ("--network.mask.branch", "none"),
    "c4": ("--network.features", "c4"),
    "c4-shared": ("--network.features", "c4", *MOBILENET, *FEW),
    "c5": ("--network.features", "c5", *MOBILENET, *FEW),
}


def in_form(runs: Path, tag: str) -> Path:
    backbone = "mobilenet_v2" if MOBILENET[1] in FORMS[tag] else "tiny"
    return runs / f"shapes-micro-{backbone}" / f"mask-{tag}"


def rows_of(folder: Path) -> Any:
    return json.loads((folder / "detections.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its pictures, and one of each other form without."""
    folder = tmp_path_factory.mktemp("runs")
    command(options(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "draw_pictures", no_pictures)
        for tag, more in FORMS.items():
            command(options(folder, "--tag", tag, *more))
    return folder


# Whole ---------------------------------------------------------------------------------------


def test_every_number_is_finite(runs: Path) -> None:
    seen = set()
    for path in runs.rglob("*"):
        for values in numbers(path) if path.is_file() else ():
            seen.add(path.suffix)
            assert np.isfinite(values).all(), path
    assert seen == {".pt", ".json", ".csv"}
    assert list((runs / "store/unfinished").iterdir()) == []


def test_what_a_run_leaves(runs: Path) -> None:
    assert {path.name for path in (runs / RUN).iterdir()} == {
        "metrics.json",
        "configuration.json",
        "summary.txt",
        "detections.json",
        "model",
        "masks.png",
        "proposals.png",
        "detections.png",
        "best_detections.png",
        "worst_mistakes.png",
        "mistakes_by_kind.png",
    }
    assert np.asarray(Image.open(runs / RUN / "masks.png")).std() > 5
    metrics = metrics_of(runs / RUN)
    assert metrics["paper"] == "mask"
    assert [row["stage"] for row in metrics["stages"]] == STAGES
    seconds = {row["stage"]: row["seconds"] for row in metrics["stages"]}
    trained = seconds["train_network"] + seconds["assemble"]
    assert metrics["train_seconds"] == pytest.approx(trained, abs=0.01)
    assert metrics["proposals"].keys() == {"test"}
    # Boxes and masks, by the same measures.
    result = metrics["result"]
    assert result["images"] == 4
    assert set(result["masks"]) - {"objects_without_mask"} <= set(result)
    assert {"voc07_map", "voc07_interval", "coco", "per_class"} <= set(result["masks"])
    boxes, masks = (runs / RUN / "summary.txt").read_text().splitlines()[-2:]
    assert boxes.startswith("boxes: mAP") and boxes.endswith("; 4 images")
    assert masks.startswith("masks: mAP") and masks.endswith("; 4 images")


def test_every_detection_has_a_mask_that_pycocotools_reads(runs: Path) -> None:
    data = load_data(CONFIG.data, store_in(runs))
    sizes = {record.image_id: [record.height, record.width] for record in data.test}
    rows = rows_of(runs / RUN)
    assert len(rows) > 20
    assert all(row["segmentation"]["size"] == sizes[row["image_id"]] for row in rows)
    masks = [row["segmentation"] for row in rows]
    area = coco.decode(masks).sum(axis=(0, 1))
    # One by one: of hundreds at once pycocotools' own overflow.
    assert [coco.area(mask) for mask in masks] == area.tolist()
    assert (area > 0).mean() > 0.5
    for row, mask in zip(rows, masks, strict=True):
        (x, y, width, height), (left, top, wide, high) = row["bbox"], coco.toBbox(mask)
        if wide:  # a pixel is the box's if its middle is
            assert left + 0.5 >= x and left + wide - 0.5 <= x + width
            assert top + 0.5 >= y and top + high - 0.5 <= y + height


def test_the_models_folder_is_all_a_user_needs(runs: Path) -> None:
    # As someone would call it who has only that and an image.
    model = load(runs / RUN / "model", "cpu")
    data = load_data(CONFIG.data, store_in(runs))
    assert model.classes == data.classes
    for record in data.test:
        (found,) = model([image_tensor(record)])
        rows = [row for row in rows_of(runs / RUN) if row["image_id"] == record.image_id]
        assert [row["score"] for row in rows] == pytest.approx(found["scores"].tolist(), abs=1e-5)
        masks = coco.decode([row["segmentation"] for row in rows]).transpose(2, 0, 1)
        # The file's order of scores that are the same in six digits may be another.
        assert np.array_equal(masks.sum(axis=0), found["masks"].sum(dim=0))


def test_the_proposals_that_are_measured_are_the_models_own(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "draw_pictures", no_pictures)
    done = run(CONFIG, store_in(runs))
    model = load(done.model.path, "cpu")
    reader = Proposals(done.proposals.path / "proposals.h5")
    for record in done.data.test:
        ((boxes, _),) = model.propose([image_tensor(record)])
        assert 0 < len(boxes) <= 40
        np.testing.assert_allclose(reader.of(record), boxes.numpy(), atol=1e-3)


# Other forms ---------------------------------------------------------------------------------


def test_without_the_branch_there_are_no_masks_anywhere(runs: Path) -> None:
    folder = in_form(runs, "boxes")
    assert rows_of(folder)
    assert not any("segmentation" in row for row in rows_of(folder))
    assert "masks" not in metrics_of(folder)["result"]
    assert "masks:" not in (folder / "summary.txt").read_text()
    state = torch.load(folder / "model" / "weights.pt", weights_only=True)
    assert not any("mask" in key for key in state)
    (trained,) = {
        row["artifact"] for row in metrics_of(folder)["stages"] if row["stage"] == "train_network"
    }
    with open(runs / "store" / trained / "losses.csv") as file:
        assert "masks" not in file.readline()


@pytest.mark.parametrize("tag", ["c4", "c4-shared", "c5"])
def test_on_one_map(runs: Path, tag: str) -> None:
    folder = in_form(runs, tag)
    rows = rows_of(folder)
    assert rows
    assert all(row["segmentation"]["size"] == [96, 128] for row in rows)
    assert "masks" in metrics_of(folder)["result"]
    model = load(folder / "model", "cpu")
    assert model.shared == (("blocks",) if tag == "c4-shared" else ())
    assert model.rpn.strides == ((32,) if tag == "c5" else (16,))
    assert model.proposals.before == CONFIG.one_map.test == 600


# Found again ---------------------------------------------------------------------------------


def test_a_second_run_does_no_work(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid(monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in (runs / "store").rglob("*.*")}
    command(options(runs))
    said = capsys.readouterr()
    assert "-- " not in said.err
    assert (runs / RUN / "summary.txt").read_text() in said.out
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("k", [1, 2])
def test_one_that_died_in_training_ends_as_one_that_did_not(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    for made in ("draw_shapes", "pretrain"):
        (folder,) = (runs / "store").glob(f"{made}-*")
        shutil.copytree(folder, tmp_path / folder.name)
    plain = ImageBatches.__getitem__
    asked_for: list[int] = []

    def dies(self: ImageBatches, iteration: int) -> dict[str, Any]:
        if iteration == k:
            raise ZeroDivisionError
        return plain(self, iteration)

    def notes(self: ImageBatches, iteration: int) -> dict[str, Any]:
        asked_for.append(iteration)
        return plain(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(ImageBatches, "__getitem__", dies)
        with pytest.raises(ZeroDivisionError):
            train_and_test(CONFIG, Store(tmp_path, checkpoint_seconds=0.0))
    monkeypatch.setattr(ImageBatches, "__getitem__", notes)
    torch.manual_seed(987)
    resumed = train_and_test(CONFIG, Store(tmp_path))
    assert asked_for == list(range(k, 3))
    whole = train_and_test(CONFIG, store_in(runs))
    state, expected = state_of(resumed.model), state_of(whole.model)
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in state.items())
    assert rows_of(resumed.detections.path) == rows_of(whole.detections.path)


@pytest.mark.parametrize(
    ("path", "value", "first"),
    [
        ("scale.train", (64,), "train_network"),
        ("network.mask.width", 8, "train_network"),
        ("network.pool.kind", "pool", "train_network"),
        ("train.sampling.rois", 16, "train_network"),
        ("loss.box_weight", 0.5, "train_network"),
        ("scale.test", (64,), "assemble"),
        ("proposals.after", 30, "assemble"),
        ("detection.mask_threshold", 0.4, "assemble"),
        ("train.train.mirror", True, None),  # as it is
        ("one_map.train", 9, None),  # there are several maps
        ("one_map.test", 9, None),
        ("network.features", "c4", None),  # which is there
    ],
)
def test_another_value_makes_anew_only_what_it_shapes(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    value: Any,
    first: str | None,
) -> None:
    assert asked(runs, monkeypatch, changed(CONFIG, path, value)) == first


def asked(runs: Path, monkeypatch: pytest.MonkeyPatch, config: Config) -> str | None:
    """The first stage that is not there yet."""

    def refuse(self: Store, artifact: Any, *_: object) -> None:
        raise AskedError(artifact.path.name.rpartition("-")[0])

    monkeypatch.setattr(Store, "_make", refuse)
    try:
        train_and_test(config, store_in(runs))
    except AskedError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("path", "value", "first"),
    [
        ("one_map.train", 9, "train_network"),
        ("one_map.test", 9, "assemble"),
        ("train.proposals.before", 9, None),  # of each of several maps
        ("proposals.before", 9, None),
    ],
)
def test_and_on_one_map(
    runs: Path, monkeypatch: pytest.MonkeyPatch, path: str, value: Any, first: str | None
) -> None:
    on_one_map = changed(CONFIG, "network.features", "c4")
    assert asked(runs, monkeypatch, changed(on_one_map, path, value)) == first


def test_difficult_objects_teach_where_they_are_asked_to(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(data: Any, difficult: bool) -> None:
        raise AskedError(str(difficult))

    monkeypatch.setattr(pipeline, "training_split", asked)
    for difficult in (True, False):
        with pytest.raises(AskedError, match=str(difficult)):
            train_and_test(dataclasses.replace(CONFIG, difficult=difficult), store_in(runs))


# What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--scale.test", "64", "96"), r"^scale\.test: Mask R-CNN sees an image at one size$"),
        (("--train.train.learn", "boxes"), "^learn boxes: "),
        (("--network.features", "c5"), "^BACKBONE=tiny: has no C5"),
        (("--backbone", "alexnet", "--weights", "none"), "^BACKBONE=alexnet: .* takes tiny, "),
        (("--rpn.anchors.sizes", "16", "32"), r"^rpn\.anchors\.sizes: .* there are 2$"),
        (("--network.features", "c3"), "c3"),
        (("--network.mask.branch", "cnn"), "cnn"),
        (("--proposals.before", "0.5"), "before"),
    ],
)
def test_what_cannot_be_is_one_line(runs: Path, more: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        command(options(runs, "--tag", "refused", *more))
    assert "\n" not in caught.value.line
    assert not (runs / "shapes-micro-tiny/mask-refused").exists()


def test_another_configuration_needs_a_name(runs: Path) -> None:
    with pytest.raises(InputError, match="TAG"):
        command(options(runs, *FORMS["boxes"]))
