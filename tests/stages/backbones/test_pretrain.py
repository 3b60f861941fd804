"""Pre-training's batches, and the stage once through."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.backbones.config import PretrainConfig
from stages.backbones.pretrain import ObjectBatches, pretrain
from stages.backbones.weights import Weights, build_backbone
from stages.store import Job
from stages.training.sgd import SGDConfig


def numbered(count: int = 40) -> ObjectBatches:
    """Crops that begin with their number and end with nought."""
    crops = np.zeros((count, 2, 3, 3), np.uint8)
    crops[:, :, 0] = np.arange(1, count + 1)[:, None, None]
    return ObjectBatches(crops, np.arange(count), 16, 5)


def test_a_batch_is_a_function_of_seed_and_iteration() -> None:
    first, again = numbered(), numbered()
    expected = first[3]
    again[0], again[7]
    got = again[3]
    assert torch.equal(got["crops"], expected["crops"])
    assert torch.equal(got["labels"], expected["labels"])
    assert not torch.equal(first[4]["labels"], expected["labels"])
    other = ObjectBatches(first.crops, first.labels, 16, 6)
    assert not torch.equal(other[3]["labels"], expected["labels"])


def test_crops_and_labels_belong_together_mirrored_or_not() -> None:
    batches = numbered()
    before = batches.crops.copy()
    mirrored = 0
    for s in range(20):
        batch = batches[s]
        assert batch["crops"].shape == (16, 3, 2, 3)
        assert batch["image_ids"] == batch["labels"].tolist()
        assert len(set(batch["image_ids"])) == 16
        for crop, label in zip(batch["crops"], batch["labels"], strict=True):
            assert sorted(crop[0, 0].tolist()) == [0, 0, label + 1]
            mirrored += int(crop[0, 0, -1] == label + 1)
    assert 0.35 < mirrored / (20 * 16) < 0.65
    assert np.array_equal(batches.crops, before), "the drawn objects themselves were mirrored"


def test_fewer_objects_than_a_batch_takes() -> None:
    assert len(numbered(4)[0]["labels"]) == 16


def test_the_stage_leaves_a_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = PretrainConfig(
        objects=20, held_out=8, batch=8, sgd=SGDConfig(lr=0.01, iterations=2, dtype="float32")
    )
    pretrain(Job(tmp_path), "tiny", config)
    backbone = build_backbone("tiny", Weights(tmp_path / "weights.pt", "")).eval()
    features = backbone(torch.zeros(1, 3, 64, 64))
    assert features.shape == (1, 256)
    assert torch.isfinite(features).all()
    accuracy = json.loads((tmp_path / "accuracy.json").read_text())
    assert accuracy["objects"] == 8
    assert 0 <= accuracy["accuracy"] <= 100
