"""The finished detector: its scores by formula, its file, its call. What is R-CNN's is tested there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rcnn_v1.config import DetectionConfig
from rcnn_v1.detector import RCNN, save
from spp_net.detector import Description, load, load_network
from spp_net.network import with_pyramid
from stages.backbones.weights import build_backbone
from stages.boxes import clip, decode
from stages.errors import InputError
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.stopwatch import OFF, Stopwatch
from tests.spp_net.conftest import PYRAMID, RANDOM

POOLED = 128 * 21
DESCRIPTION = Description(
    paper="spp",
    backbone="tiny",
    classes=("cat", "dog"),
    layer="fc7",
    dtype="float32",
    top=25,
    proposals=SelectiveSearchConfig(),
    detection=DetectionConfig(),
    pyramid=PYRAMID,
)
BOXES = torch.tensor(
    [[0.0, 0, 40, 30], [10.5, 5, 50, 60], [60, 20, 100, 72], [0, 0, 100, 72], [30, 30, 52, 51]]
)


def svms(width: int = 256) -> dict[str, np.ndarray]:
    return {
        "weights": np.random.default_rng(0).normal(size=(2, width)).astype(np.float32),
        "bias": np.array([0.5, -0.25], np.float32),
        "scale": np.float32(2),
    }


def regressors() -> dict[str, np.ndarray]:
    return {
        "weights": np.random.default_rng(1).normal(0, 2e-3, (2, 4, POOLED)).astype(np.float32),
        "bias": np.array([[0.1, 0, 0.05, 0], [0, -0.1, 0, 0.05]], np.float32),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = with_pyramid(build_backbone("tiny", RANDOM), PYRAMID.levels).state_dict()
    save(tmp_path / "model", DESCRIPTION, state, svms(), regressors())
    return tmp_path / "model"


@pytest.fixture
def model(folder: Path) -> RCNN:
    return load(folder, "cpu")


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """Blocks of colour: selective search finds something in it. uint8 [3, 72, 100]."""
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8).repeat(24, axis=0).repeat(25, axis=1)
    noisy = blocks.astype(int) + rng.integers(-12, 13, blocks.shape)
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)


def test_scores_and_boxes_by_formula(folder: Path, model: RCNN, picture: Tensor) -> None:
    _, network = load_network(folder, "cpu")
    scores, moved = model.score(picture, BOXES)
    assert scores.shape == (5, 2)
    assert moved.shape == (5, 2, 4)
    svm, box = svms(), regressors()
    with torch.inference_mode():
        (pooled,) = network.pooled(picture, BOXES, OFF)
        fc7 = network.until("fc7", pooled).half().float().numpy()
    for r in range(5):
        for k in range(2):
            margin = svm["weights"][k] @ (fc7[r] * svm["scale"]) + svm["bias"][k]
            assert float(scores[r, k]) == pytest.approx(float(margin), rel=1e-2, abs=1e-2)
            offsets = box["weights"][k] @ pooled[r].numpy() + box["bias"][k]
            expected = clip(decode(BOXES[r], torch.from_numpy(offsets)), 72, 100)
            torch.testing.assert_close(moved[r, k], expected, rtol=1e-3, atol=0.05)


def test_it_is_called_as_torchvisions_are(model: RCNN, picture: Tensor) -> None:
    found = model([picture, picture[:, :60].float() / 255])
    assert len(found) == 2
    for detections in found:
        n = len(detections["scores"])
        assert n > 0
        assert detections["boxes"].shape == (n, 4)
        assert set(detections["labels"].tolist()) <= {1, 2}
        assert (detections["scores"].diff() <= 0).all()
    again = model([picture], [model.propose(picture)])[0]
    assert all(torch.equal(again[key], found[0][key]) for key in again)


def test_no_image_and_no_proposals(model: RCNN, picture: Tensor) -> None:
    assert model([], []) == []
    assert model([picture], [torch.zeros(0, 4)])[0]["boxes"].shape == (0, 4)


def test_it_tells_where_its_time_went(model: RCNN, picture: Tensor) -> None:
    model.watch = Stopwatch()
    model([picture])
    parts = {"proposals", "convolutions", "pooling", "head", "SVMs and boxes", "NMS"}
    assert set(model.watch.seconds) == parts


def test_what_is_saved_is_what_is_loaded(folder: Path, model: RCNN, tmp_path: Path) -> None:
    assert model.description == DESCRIPTION
    save(tmp_path / "again", DESCRIPTION, model.backbone.state_dict(), svms(), regressors())
    again = load(tmp_path / "again", "cpu")
    image = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)
    for one, other in zip(again.score(image, BOXES), model.score(image, BOXES), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"pyramid": None},
        {"pyramid": {"scales": [48]}},
        {"pyramid": {"scales": 48, "levels": [1]}},
        {"pyramid": [1, 2]},
        {"backbone": "resnet18"},
        {"context": 0.1},
    ],
)
def test_what_is_no_finished_sppnet_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(InputError) as caught:
        load(folder, "cpu")
    assert "\n" not in str(caught.value)


def test_another_pyramids_weights_are_refused(folder: Path) -> None:
    path = folder / "model.json"
    fields = json.loads(path.read_text())
    fields["pyramid"]["levels"] = [6, 3, 2, 1]
    path.write_text(json.dumps(fields))
    with pytest.raises(InputError, match=r"weights\.pt: does not fit"):
        load(folder, "cpu")
