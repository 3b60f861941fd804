"""torchvision's Faster and Mask R-CNN made of our parts, and ours and theirs timed in turns."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from benchmarks.mask_twin import mask_twin_of
from benchmarks.peers import (
    GIVEN,
    OURS,
    PAPERS,
    PLAIN,
    _in_a_new_process,
    faster_rcnn,
    mask_rcnn,
    peers,
)
from benchmarks.twin import twin_of
from benchmarks.untrained import CLASSES, random_backbone
from fast_rcnn.config import ScaleConfig
from faster_rcnn.detector import ready
from faster_rcnn.network import numbered
from mask_rcnn.config import Config as MaskPaper
from mask_rcnn.config import MaskConfig, NetworkConfig, PoolConfig, PyramidConfig
from mask_rcnn.detector import ready as ready_mask
from mask_rcnn.network import MaskRCNN
from mask_rcnn.network import build_untrained as build_mask
from stages.backbones.config import Name
from stages.backbones.frozen_norm import CarriedNorm
from stages.errors import InputError


def test_the_twin_detects_what_ours_detects() -> None:
    torch.manual_seed(0)
    ours = faster_rcnn("tiny", 96, 128)
    twin = twin_of(ours).eval()
    ready(ours, "float32", "cpu")
    image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    with torch.inference_mode():
        (mine,), (theirs,) = ours([image]), twin([image.float() / 255])
    assert len(mine["scores"]) > 20
    torch.testing.assert_close(mine["scores"], theirs["scores"], rtol=0, atol=1e-4)


def few(model: MaskRCNN) -> MaskRCNN:
    """With as few proposals and masks as a test has time for, and pixels that differ."""
    assert model.mask_head is not None
    nn.init.normal_(model.mask_head.logits.get_parameter("weight"), std=0.2)
    model.proposals = replace(model.proposals, after=40)
    model.train_proposals = replace(model.train_proposals, after=40)
    model.detection = replace(model.detection, per_image=12)
    return model


@pytest.mark.parametrize("name", ["tiny", "squeezenet1_1"])
def test_the_twin_pools_where_ours_does(name: Name) -> None:
    ours = faster_rcnn(name, 96, 128)
    maps = torch.randn(1, ours.backbone.channels, 12, 16)
    near = torch.rand(60, 2) * torch.tensor([200.0, 150])
    boxes = torch.cat([near, near + torch.rand(60, 2) * 50], dim=1)
    theirs = twin_of(ours).roi_heads.box_roi_pool({"0": maps}, [boxes], [(192, 256)])
    assert torch.equal(ours.pool([maps])(numbered([boxes])), theirs)


def test_the_twin_of_mask_rcnn_too() -> None:
    torch.manual_seed(0)
    ours = few(mask_rcnn("mobilenet_v2", 96, 128))
    twin = mask_twin_of(ours).eval()
    ready_mask(ours, "float32", "cpu")
    image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    with torch.inference_mode():
        (mine,), (theirs,) = ours([image]), twin([image.float() / 255])
    assert len(mine["scores"]) == 12
    assert mine["labels"].tolist() == theirs["labels"].tolist()
    torch.testing.assert_close(mine["scores"], theirs["scores"], rtol=0, atol=1e-4)
    torch.testing.assert_close(mine["boxes"], theirs["boxes"], rtol=0, atol=1e-2)
    masks = theirs["masks"][:, 0] >= 0.5
    assert mine["masks"].any()
    assert (mine["masks"] != masks).sum() < 1e-3 * masks.sum() + 1
    assert not any(isinstance(m, CarriedNorm) and m.carried for m in twin.modules())


def small_mask_rcnn(name: Name, shorter: int, longest: int) -> MaskRCNN:
    config = MaskPaper()
    anchors = replace(config.rpn.anchors, sizes=(16.0, 32.0, 64.0), centre=0.0, as_torchvision=True)
    network = NetworkConfig(
        pyramid=PyramidConfig(finest=8, width=16),
        pool=PoolConfig(half_pixel=False),
        fc=32,
        mask=MaskConfig(convs=1, width=16),
    )
    model = build_mask(
        random_backbone(name),
        CLASSES,
        network,
        replace(config.rpn, width=16, anchors=anchors),
        ScaleConfig((shorter,), (shorter,), longest),
        detection=replace(config.detection, least_score=0.0, rounded=True),
    )
    return few(model)


def test_a_run_of_mask_rcnn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PAPERS, "mask", replace(PAPERS["mask"], build=small_mask_rcnn))
    monkeypatch.setattr("benchmarks.peers._in_a_new_process", lambda case: 1.0)
    options = "--device cpu --backbone tiny --size 64 96 --rounds 1 --paper mask"
    peers([*options.split(), "--runs", str(tmp_path)])
    with open(tmp_path / "report" / "peers-mask.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == [OURS, PLAIN, GIVEN] * 2
    parts = {key for key in rows[0] if key.startswith("part: ") and rows[0][key]}
    assert {"part: RPN", "part: masks", "part: pasting"} <= parts
    assert capsys.readouterr().out.startswith("Mask R-CNN with tiny")


def test_the_twins_norms_are_torchvisions() -> None:
    ours = faster_rcnn("mobilenet_v2", 96, 128)
    twin = twin_of(ours)
    norms = [m for m in twin.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) > 40
    assert not any(isinstance(m, CarriedNorm) and m.carried for m in norms)
    assert any(isinstance(m, CarriedNorm) and m.carried for m in ours.modules())
    assert sum(isinstance(m, nn.Conv2d) for m in twin.modules()) > 40


def test_a_run_leaves_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # One system's memory is a process's, which takes seconds to start; the others' is made up.
    monkeypatch.setattr(
        "benchmarks.peers._in_a_new_process",
        lambda case: _in_a_new_process(case) if case[-1] == OURS else 1.0,
    )
    peers(f"--runs {tmp_path} --device cpu --backbone tiny --size 64 96 --rounds 1".split())
    with open(tmp_path / "report" / "peers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["phase"], row["system"]) for row in rows] == [
        (phase, system) for phase in ("inference", "training") for system in (OURS, PLAIN, GIVEN)
    ]
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert [float(row["peak_mib"] or 0) > 50 for row in rows] == [
        False,
        False,
        False,
        True,
        False,
        False,
    ]
    assert {float(row["ours_faster"]) for row in rows if row["system"] == OURS} == {1.0}
    parts = {key for key in rows[0] if key.startswith("part: ") and rows[0][key]}
    assert {"part: RPN", "part: head", "part: pooling", "part: convolutions"} <= parts
    said = capsys.readouterr().out
    assert "Ours by part" in said
    assert "selective search" in said


def test_an_unknown_network_is_said() -> None:
    with pytest.raises(InputError, match="--backbone lenet: takes"):
        peers(["--backbone", "lenet"])
