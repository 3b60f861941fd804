"""`make speed`: what is counted and tabulated; nothing about how fast it is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.arithmetic import counting
from benchmarks.command import command
from benchmarks.papers import FC_SHARE, TABLE_4
from benchmarks.untrained import distinct, fast_rcnn, random_boxes
from fast_rcnn.config import SVDConfig
from stages.errors import InputError

SMALL = ["speed", "--networks", "tiny", "--size", "64", "96", "--device", "cpu", "--one-scale"]


def test_multiply_adds_of_hand_worked_layers() -> None:
    net = nn.Sequential(
        # 8x6 to 4x3 outputs of 10 channels, each of 3 x 3 values of 4 / 2 channels.
        nn.Conv2d(4, 10, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(10 * 4 * 3, 7),
    )
    one = 10 * 4 * 3 * (3 * 3 * 2) + 120 * 7
    with counting(net) as count:
        net(torch.zeros(1, 4, 8, 6))
        assert count.multiply_adds == one
        net(torch.zeros(5, 4, 8, 6))
    assert count.multiply_adds == 6 * one
    net(torch.zeros(1, 4, 8, 6))  # no more
    assert count.multiply_adds == 6 * one


def test_vgg16_is_counted_as_the_literature_has_it() -> None:
    from benchmarks.untrained import random_backbone

    with torch.device("meta"):
        backbone = random_backbone("vgg16")
    with counting(backbone) as count:
        backbone(torch.zeros(1, 3, 224, 224, device="meta"))
    assert count.multiply_adds == 15_346_630_656 + (25088 + 4096) * 4096


def test_boxes_lie_in_the_image_and_differ_on_the_map() -> None:
    boxes = random_boxes(500, 600, 1000)
    assert boxes.shape == (500, 4) and boxes.dtype == torch.float32
    assert bool((boxes >= 0).all() and (boxes[:, 2] <= 1000).all() and (boxes[:, 3] <= 600).all())
    assert bool((boxes[:, 2:] > boxes[:, :2]).all())
    assert distinct(boxes, 16) == 500
    assert distinct(random_boxes(500, 48, 48), 16) < 500  # there are not so many, but as many boxes
    assert len(random_boxes(500, 48, 48)) == 500


def test_every_system_is_timed_by_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--repeats", "2", "--proposals", "40", "--crops", "10", "--images", "2"]
    command([*SMALL, *options, "--runs", str(tmp_path)])
    table = pd.read_csv(tmp_path / "report" / "speed.csv")
    detection, training = (table[table.phase == phase] for phase in ("detection", "training"))
    assert set(detection.system) == {"R-CNN", "SPPnet, 1 scale", "Fast R-CNN"}
    assert training.system.nunique() == 4
    assert (table.seconds_q1 <= table.seconds).all() and (table.seconds <= table.seconds_q3).all()
    parts = {"warp", "conv", "pool", "fc6", "fc7", "outputs", "NMS", "rest"}
    for phase, of_phase in (("detection", parts), ("training", {"conv", "fc", "update"})):
        for _, rows in table[table.phase == phase].groupby("system"):
            seconds = rows.set_index("part").seconds
            assert set(seconds.index) == {"whole", *of_phase}
            # Medians of the parts; nothing that takes long is left out of them.
            assert seconds.drop("whole").sum() == pytest.approx(seconds["whole"], rel=0.5)
            assert seconds.get("rest", 0.0) < 0.5 * seconds["whole"]
    whole = detection[detection.part == "whole"].set_index("system")
    assert whole.loc["R-CNN", "timed"] == "10 of 40 crops"
    # Whoever looks at 40 crops of 64 pixels multiplies 40 times what one takes.
    assert whole.loc["R-CNN", "multiply_adds"] % 40 == 0
    assert whole.loc["R-CNN", "times_faster"] == 1.0
    assert whole.loc["Fast R-CNN", "times_fewer_multiply_adds"] == pytest.approx(
        whole.loc["R-CNN", "multiply_adds"] / whole.loc["Fast R-CNN", "multiply_adds"], rel=1e-4
    )
    printed = capsys.readouterr().out
    markdown = (tmp_path / "report" / "speed.md").read_text()
    for name in {*detection.system, *training.system}:
        assert f"\n{name} " in printed
        assert f"\n| {name} |" in markdown


def test_svd_makes_two_layers_of_each() -> None:
    model = fast_rcnn("squeezenet1_1", "cpu", 64, SVDConfig(8, 4))
    assert model.backbone.head.fc6[0][0].out_features == 8
    assert model.backbone.head.fc7[0][0].out_features == 4
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_the_papers_factors_are_their_seconds_ratios() -> None:
    for (network, _), paper in TABLE_4.items():
        r_cnn = TABLE_4[network, "R-CNN"]
        # Printed from seconds with more digits than the table has.
        assert paper.test_gain == pytest.approx(r_cnn.test / paper.test, rel=0.05)
        if paper.train:
            assert paper.train_gain == pytest.approx(r_cnn.train / paper.train, rel=0.02)
    assert FC_SHARE["vgg16", "Fast R-CNN"] == pytest.approx(45, abs=0.5)  # its caption


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--repeats", "0"], r"--repeats 0: takes 1 or more"),
        (["--proposals", "-5"], r"--proposals -5: takes"),
        (["--proposals", "many"], r"--proposals: invalid int"),
        (["--size", "8", "96"], r"--size 8 96: takes 32"),
        (["--images", "1"], r"--images 1: takes 2 to 128"),
        (["--networks", "vgg19"], r"--networks: invalid choice: 'vgg19'"),
        (["--networks", "resnet18"], r"resnet18: SPPnet needs fully connected"),
        (["--device", "tpu"], r"DEVICE=tpu"),
        (["--speed"], r"unrecognized arguments: --speed"),
    ],
)
def test_what_is_no_option_is_one_line(options: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        command([*SMALL, *options])
    assert "\n" not in caught.value.line
