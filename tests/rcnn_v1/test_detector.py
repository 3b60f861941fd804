"""The finished detector: its suppression by hand, its scores by formula, its file, its call."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rcnn_v1 import detector
from rcnn_v1.config import DetectionConfig
from rcnn_v1.detector import RCNN, Description, load
from rcnn_v1.extract import WindowNetwork
from rcnn_v1.warp import crop_windows
from stages.backbones.weights import Weights, build_backbone
from stages.boxes import clip, decode
from stages.data.decode import image_of
from stages.device import choose_dtype
from stages.errors import InputError
from stages.proposals.cache import Proposals, write_proposals
from stages.proposals.selective_search import SelectiveSearchConfig, search, search_record
from stages.stopwatch import Stopwatch

CONTEXT = 16 / 227
RANDOM = Weights(None, "random")
DESCRIPTION = Description(
    paper="rcnn",
    backbone="tiny",
    classes=("cat", "dog"),
    layer="fc7",
    context=CONTEXT,
    dtype="float32",
    top=25,
    proposals=SelectiveSearchConfig(),
    detection=DetectionConfig(),
)


def svms() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "weights": rng.normal(size=(2, 256)).astype(np.float32),
        "bias": np.array([0.5, -0.25], np.float32),
        "scale": np.float32(2),
    }


def regressors(size: float = 2e-3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "weights": rng.normal(0, size, (2, 4, 2048)).astype(np.float32),
        "bias": np.array([[0.1, 0, 0.05, 0], [0, -0.1, 0, 0.05]], np.float32),
    }


def network(description: Description) -> WindowNetwork:
    return WindowNetwork(
        build_backbone("tiny", RANDOM), "cpu", "float32", CONTEXT, description.detection.batch
    )


def build(size: float = 2e-3, **changes: Any) -> RCNN:
    description = dataclasses.replace(DESCRIPTION, **changes)
    return RCNN(description, network(description), svms(), regressors(size))


@pytest.fixture(scope="module")
def model() -> RCNN:
    return build()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """Blocks of colour: selective search finds something in it. uint8 [3, 72, 100]."""
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8).repeat(24, axis=0).repeat(25, axis=1)
    noisy = blocks.astype(int) + rng.integers(-12, 13, blocks.shape)
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)


BOXES = torch.tensor(
    [[0.0, 0, 40, 30], [10.5, 5, 50, 60], [60, 20, 100, 72], [0, 0, 100, 72], [30, 30, 52, 51]]
)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys() == {"boxes", "labels", "scores"}
    assert all(torch.equal(one[key], other[key]) for key in one)


# Suppression by hand -------------------------------------------------------------------------


def suppress(
    scores: list[list[float]], boxes: list[list[list[float]]], per_class: int = 100
) -> list[tuple[list[float], int, float]]:
    """Detections as (box, label, score)."""
    detection = DetectionConfig(per_class=per_class)
    rcnn = build(detection=detection)
    found = rcnn.suppress(
        torch.tensor(scores, dtype=torch.float32).reshape(-1, 2),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 2, 4),
    )
    assert found["labels"].dtype == torch.int64
    return [
        (box, label, pytest.approx(score))
        for box, label, score in zip(
            found["boxes"].tolist(),
            found["labels"].tolist(),
            found["scores"].tolist(),
            strict=True,
        )
    ]


A, NEAR_A, HALF_A, FAR = [0, 0, 10, 10], [0, 1, 10, 11], [0, 0, 10, 5], [50, 50, 60, 60]
BESIDE_A = [0, 5.5, 10, 15.5]  # IoU 4.5 / 15.5 = 0.29 with A
NOTHING = [5, 5, 5, 9]


def test_of_two_that_overlap_the_better_stays() -> None:
    found = suppress([[1, -9], [2, -9]], [[A, FAR], [NEAR_A, FAR]])
    assert [(box, label) for box, label, _ in found] == [(NEAR_A, 1), (FAR, 2)]


def test_overlap_up_to_three_tenths_is_let_be() -> None:
    found = suppress([[3, -1], [2, -2], [1, -3]], [[A, A], [BESIDE_A, BESIDE_A], [HALF_A, HALF_A]])
    assert found == [(A, 1, 3), (BESIDE_A, 1, 2), (A, 2, -1), (BESIDE_A, 2, -2)]


def test_classes_do_not_suppress_one_another() -> None:
    assert suppress([[1, 2]], [[A, NEAR_A]]) == [(NEAR_A, 2, 2), (A, 1, 1)]


def test_what_was_suppressed_suppresses_nothing() -> None:
    # The middle one falls to the first; the last overlaps only the middle one.
    first, middle, last = [0, 0, 10, 10], [0, 5, 10, 15], [0, 10, 10, 20]
    found = suppress([[3, -1], [2, -1], [1, -1]], [[first, FAR], [middle, FAR], [last, FAR]])
    assert [box for box, label, _ in found if label == 1] == [first, last]


def test_only_the_best_of_each_class_are_looked_at() -> None:
    apart = [[20.0 * n, 0, 20.0 * n + 10, 10] for n in range(4)]
    scores = [[1, 40], [2, 30], [3, 20], [4, 10]]
    found = suppress(scores, [[box, box] for box in apart], per_class=2)
    assert found == [(apart[0], 2, 40), (apart[1], 2, 30), (apart[3], 1, 4), (apart[2], 1, 3)]


def test_boxes_without_area_are_no_detections() -> None:
    found = suppress([[5, 1], [4, 2]], [[NOTHING, A], [[5, 5, 9, 5], FAR]])
    assert found == [(FAR, 2, 2), (A, 2, 1)]


def test_each_class_has_its_own_boxes() -> None:
    found = suppress([[1, 2], [4, 3]], [[A, FAR], [[20, 20, 30, 30], [70, 0, 80, 9]]])
    assert found == [([20, 20, 30, 30], 1, 4), ([70, 0, 80, 9], 2, 3), (FAR, 2, 2), (A, 1, 1)]


def test_no_window_no_detection() -> None:
    assert suppress([], []) == []


def test_many_windows_are_suppressed_as_a_loop_does(model: RCNN) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 5 + torch.rand(300, 2, 2, generator=generator) * 40], dim=2)
    scores = torch.randn(300, 2, generator=generator)
    found = model.suppress(scores, boxes)
    expected = []
    for k in range(2):
        kept: list[list[float]] = []
        for row in scores[:, k].argsort(descending=True)[:100]:
            box = boxes[row, k].tolist()
            if all(iou(box, other) <= 0.3 for other in kept):
                kept.append(box)
                expected.append((float(scores[row, k]), k + 1, box))
    expected.sort(key=lambda one: -one[0])
    assert found["scores"].tolist() == [score for score, _, _ in expected]
    assert found["labels"].tolist() == [label for _, label, _ in expected]
    assert found["boxes"].tolist() == [box for _, _, box in expected]


def iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, width) * max(0.0, height)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


# Scores --------------------------------------------------------------------------------------


def test_scores_and_boxes_by_formula(model: RCNN, picture: Tensor) -> None:
    net = build_backbone("tiny", RANDOM).eval()
    scores, moved = model.score(picture, BOXES)
    assert scores.shape == (5, 2)
    assert moved.shape == (5, 2, 4)
    svm, box = svms(), regressors()
    with torch.inference_mode():
        for r in range(5):
            crop = crop_windows(net.normalise(picture), BOXES[r : r + 1], 64, CONTEXT)
            pooled = net.pool5(net.trunk(crop))
            fc7 = net.until("fc7", pooled)[0].half().float().numpy()
            pool5 = pooled.flatten().half().float().numpy()
            for k in range(2):
                margin = svm["weights"][k] @ (fc7 * svm["scale"]) + svm["bias"][k]
                assert float(scores[r, k]) == pytest.approx(float(margin), rel=1e-2, abs=1e-2)
                offsets = box["weights"][k] @ pool5 + box["bias"][k]
                expected = clip(decode(BOXES[r], torch.from_numpy(offsets)), 72, 100)
                torch.testing.assert_close(moved[r, k], expected, rtol=1e-3, atol=0.05)


def test_boxes_are_clipped_before_suppression(picture: Tensor) -> None:
    _, moved = build(size=1.0).score(picture, BOXES)
    assert torch.isfinite(moved).all()
    assert (moved >= 0).all()
    assert (moved[..., 0::2] <= 100).all()
    assert (moved[..., 1::2] <= 72).all()
    assert (moved[..., 2:] >= moved[..., :2]).all()


def test_batches_of_windows_do_not_shape_the_scores(model: RCNN, picture: Tensor) -> None:
    in_twos = build(detection=DetectionConfig(batch=2))
    for one, other in zip(in_twos.score(picture, BOXES), model.score(picture, BOXES), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-2)


def test_another_layer_may_be_scored(picture: Tensor) -> None:
    rng = np.random.default_rng(0)
    of_pool5 = {**svms(), "weights": rng.normal(size=(2, 2048)).astype(np.float32)}
    description = dataclasses.replace(DESCRIPTION, layer="pool5")
    scores, _ = RCNN(description, network(description), of_pool5, regressors()).score(
        picture, BOXES
    )
    assert scores.shape == (5, 2)


# The call ------------------------------------------------------------------------------------


def test_it_is_called_as_torchvisions_are(model: RCNN, picture: Tensor) -> None:
    found = model([picture, picture[:, :60]], [BOXES, BOXES[:2]])
    assert len(found) == 2
    for detections in found:
        n = len(detections["scores"])
        assert n > 0
        assert detections["boxes"].shape == (n, 4)
        assert detections["boxes"].dtype == detections["scores"].dtype == torch.float32
        assert detections["labels"].dtype == torch.int64
        assert set(detections["labels"].tolist()) <= {1, 2}
        assert (detections["scores"].diff() <= 0).all()
        assert not any(value.requires_grad for value in detections.values())
    assert_same(found[0], model([picture], [BOXES])[0])


def test_no_image_no_detections(model: RCNN) -> None:
    assert model([], []) == []


def test_no_proposals_no_detections(model: RCNN, picture: Tensor) -> None:
    found = model([picture], [torch.zeros(0, 4)])[0]
    assert found["boxes"].shape == (0, 4)
    assert found["labels"].shape == found["scores"].shape == (0,)
    assert found["labels"].dtype == torch.int64


def test_an_image_in_which_nothing_is_proposed(model: RCNN) -> None:
    # Smaller than the smallest proposal.
    found = model([torch.zeros(3, 15, 15, dtype=torch.uint8)])[0]
    assert found["boxes"].shape == (0, 4)


def test_without_proposals_it_searches(model: RCNN, picture: Tensor) -> None:
    proposed = search(picture.permute(1, 2, 0).numpy(), DESCRIPTION.proposals)
    assert len(proposed) > 25, "the picture must offer more than are looked at"
    assert_same(model([picture])[0], model([picture], [torch.from_numpy(proposed[:25])])[0])


def test_all_proposals_where_there_is_no_limit(picture: Tensor) -> None:
    proposed = search(picture.permute(1, 2, 0).numpy(), DESCRIPTION.proposals)
    assert len(build(top=None).propose(picture)) == len(proposed)
    assert build(top=7).propose(picture).tolist() == proposed[:7].tolist()


def test_cached_proposals_give_the_same(model: RCNN, toy: Any, tmp_path: Path) -> None:
    records = toy.train[:2]
    write_proposals(
        tmp_path / "p.h5", records, [search_record((r, DESCRIPTION.proposals)) for r in records]
    )
    reader = Proposals(tmp_path / "p.h5")
    images = [torch.from_numpy(image_of(record)).permute(2, 0, 1) for record in records]
    cached = [torch.from_numpy(reader.of(record, 25)) for record in records]
    for one, other in zip(model(images), model(images, cached), strict=True):
        assert len(one["scores"]) > 0
        assert_same(one, other)


def test_bytes_and_floats_are_the_same_image(model: RCNN, picture: Tensor) -> None:
    assert_same(model([picture])[0], model([picture.float() / 255])[0])
    assert_same(model([picture], [BOXES])[0], model([picture.float() / 255], [BOXES])[0])


def test_it_tells_where_its_time_went(picture: Tensor) -> None:
    model = build()
    model.watch = Stopwatch()
    model([picture])
    parts = {"proposals", "warp", "convolutions", "head", "SVMs and boxes", "NMS"}
    assert set(model.watch.seconds) == parts
    assert all(seconds > 0 for seconds in model.watch.seconds.values())


# The file ------------------------------------------------------------------------------------


def save(folder: Path, description: Description = DESCRIPTION) -> Path:
    state = build_backbone("tiny", RANDOM).state_dict()
    detector.save(folder, description, state, svms(), regressors())
    return folder


def test_a_saved_detector_detects_the_same(model: RCNN, picture: Tensor, tmp_path: Path) -> None:
    loaded = load(save(tmp_path / "model"), "cpu")
    assert loaded.description == DESCRIPTION
    assert loaded.classes == ("cat", "dog")
    assert_same(loaded([picture])[0], model([picture])[0])
    # Saved again from what was loaded, still the same.
    again = tmp_path / "again"
    detector.save(again, loaded.description, loaded.backbone.state_dict(), svms(), regressors())
    assert_same(load(again, "cpu")([picture])[0], model([picture])[0])


def test_every_field_of_the_description_is_kept(tmp_path: Path) -> None:
    description = Description(
        "rcnn",
        "tiny",
        ("dog", "cat"),
        "fc7",
        "bfloat16",
        None,
        SelectiveSearchConfig("quality", 7, 3),
        DetectionConfig(9, 0.4, 5),
        context=0.1,
    )
    assert load(save(tmp_path, description), "cpu").description == description


def test_left_to_the_device_it_computes_as_features_were_cached(tmp_path: Path) -> None:
    description = dataclasses.replace(DESCRIPTION, dtype="auto")
    loaded = load(save(tmp_path, description), "cpu")
    wanted = choose_dtype("auto", "cpu")
    assert str(loaded.network.dtype) == f"torch.{wanted}"


def without(key: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with np.load(path) as arrays:
            kept = {name: value for name, value in arrays.items() if name != key}
        np.savez(path, **kept)

    return change


def other(**arrays: np.ndarray) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with np.load(path) as given:
            np.savez(path, **{**given, **arrays})

    return change


def compressed(path: Path) -> None:
    with np.load(path) as arrays:
        np.savez_compressed(path, **arrays)


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


@pytest.mark.parametrize("name", ["model.json", "weights.pt", "svms.npz", "regressors.npz"])
@pytest.mark.parametrize("damage", [Path.unlink, halved, emptied, garbled])
def test_a_broken_file_is_named(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    folder = save(tmp_path / "model")
    damage(folder / name)
    with pytest.raises(InputError) as caught:
        load(folder, "cpu")
    assert str(folder) in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param("model.json", edited(classes=None), id="no classes"),
        pytest.param("model.json", edited(context=None), id="no context"),
        pytest.param("model.json", edited(more=1), id="a field too many"),
        pytest.param("model.json", edited(proposals={"mode": "fast", "depth": 3}), id="proposals"),
        pytest.param("model.json", edited(detection=[1]), id="detection"),
        pytest.param("model.json", edited(backbone="lenet"), id="unknown network"),
        pytest.param("model.json", lambda path: path.write_text("[]"), id="a list"),
        pytest.param("svms.npz", without("bias"), id="SVMs without bias"),
        pytest.param("svms.npz", without("scale"), id="SVMs without scale"),
        pytest.param("regressors.npz", without("weights"), id="regressors without weights"),
        pytest.param("svms.npz", other(bias=np.zeros(3)), id="SVMs of three classes"),
        pytest.param("svms.npz", other(weights=np.zeros((2, 255))), id="SVMs of other features"),
        pytest.param("svms.npz", other(bias=np.full(2, np.nan)), id="a bias that is none"),
        pytest.param("svms.npz", other(bias=np.array(["a", "b"])), id="a bias of text"),
        pytest.param("regressors.npz", other(weights=np.zeros((2, 4, 9))), id="other regressors"),
        pytest.param("regressors.npz", compressed, id="compressed"),
        pytest.param("model.json", edited(layer="fc9"), id="no such layer"),
        pytest.param("model.json", edited(top=-1), id="fewer than no proposals"),
        pytest.param("model.json", edited(context=0.5), id="a frame that is all context"),
        pytest.param("model.json", edited(context=1e308), id="a context of everything"),
    ],
)
def test_what_is_no_finished_detector_is_refused(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    folder = save(tmp_path / "model")
    damage(folder / name)
    with pytest.raises(InputError) as caught:
        load(folder, "cpu")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        load(tmp_path / "nowhere", "cpu")
