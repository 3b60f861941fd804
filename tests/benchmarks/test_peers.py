"""torchvision's Faster R-CNN made of our parts, and the two timed in turns."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from benchmarks.peers import GIVEN, OURS, PLAIN, faster_rcnn, peers
from benchmarks.twin import twin_of
from faster_rcnn.detector import ready
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


def test_the_twins_norms_are_torchvisions() -> None:
    ours = faster_rcnn("mobilenet_v2", 96, 128)
    twin = twin_of(ours)
    norms = [m for m in twin.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) > 40
    assert not any(isinstance(m, CarriedNorm) and m.carried for m in norms)
    assert any(isinstance(m, CarriedNorm) and m.carried for m in ours.modules())
    assert sum(isinstance(m, nn.Conv2d) for m in twin.modules()) > 40


def test_a_run_leaves_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peers(f"--runs {tmp_path} --device cpu --backbone tiny --size 64 96 --rounds 1".split())
    with open(tmp_path / "report" / "peers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["phase"], row["system"]) for row in rows] == [
        (phase, system) for phase in ("inference", "training") for system in (OURS, PLAIN, GIVEN)
    ]
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert {float(row["ours_faster"]) for row in rows if row["system"] == OURS} == {1.0}
    parts = {key for key in rows[0] if key.startswith("part: ") and rows[0][key]}
    assert {"part: RPN", "part: head", "part: pooling", "part: convolutions"} <= parts
    said = capsys.readouterr().out
    assert "Ours by part" in said
    assert "selective search" in said


def test_an_unknown_network_is_said() -> None:
    with pytest.raises(InputError, match="--backbone lenet: takes"):
        peers(["--backbone", "lenet"])
