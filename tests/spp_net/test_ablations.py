"""`make ablations PAPER=spp` on a `micro` run: which rows there are, and that stages are shared."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from spp_net.ablations import ROWS, Ablated, one_of, rows
from spp_net.command import command
from spp_net.config import PyramidConfig
from stages.ablation import Claim
from stages.published.figures import Figure, paper_beside


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    command(
        [
            "ablations",
            "--preset",
            "micro",
            "--runs",
            str(folder),
            "--device",
            "cpu",
            "--workers",
            "0",
        ]
    )
    return folder


def test_scales_layers_tuned_or_not_with_regression_and_without(runs: Path) -> None:
    folder = runs / "shapes-micro-tiny" / "ablations-spp"
    table = pd.read_csv(folder / "variants.csv")
    names = [
        f"{scales}, {variant}{moved}"
        for scales in ("1 scale", "2 scales")
        for variant in (
            "pool5, not fine-tuned",
            "fc6, not fine-tuned",
            "fc7, not fine-tuned",
            "fc6, fine-tuned",
            "fc7, fine-tuned",
        )
        for moved in ("", ", box regression")
    ]
    assert table["variant"].tolist() == names
    paper = dict(zip(table["variant"], table["paper_map"], strict=True))
    assert paper["2 scales, fc7, fine-tuned, box regression"] == 59.2
    assert paper["1 scale, pool5, not fine-tuned"] == 43.0
    assert pd.isna(paper["1 scale, fc7, not fine-tuned"])
    assert (folder / "ablations.md").exists()


def test_they_share_every_stage_they_can(runs: Path) -> None:
    made = [path.name.rpartition("-")[0] for path in (runs / "store").iterdir()]
    assert made.count("search_selectively") == 2  # a split each
    for stage in ("gather_proposals", "pretrain", "add_pyramid"):
        assert made.count(stage) == 1
    # A scale's maps; tuned, and regressors of the pyramid, for each set of scales.
    for stage in ("cache_maps", "cache_mirrored_maps", "fine_tune", "train_box_regressors"):
        assert made.count(stage) == 2
    for stage in ("cache_features", "train_svms", "detect"):
        assert made.count(stage) == 10


def test_one_scale_is_the_papers() -> None:
    assert one_of(PyramidConfig().scales) == 688
    assert one_of((300, 200)) == 300
    assert one_of((7,)) == 7


def test_the_papers_claims() -> None:
    tested = [
        Ablated(scales, layer, tuned, None, Path(layer))  # type: ignore[arg-type]
        for scales in (1, 5)
        for layer, tuned in (("fc6", False), ("fc6", True), ("fc7", True))
    ]
    variants, claims = rows(tested, paper_beside("SPPnet", "alexnet"))
    of_five = [44.8, None, 53.7, None, 55.2, 59.2]
    of_one = [42.5, None, 52.3, None, 54.5, 58.0]
    for scales, expected in (("1 scale", of_one), ("5 scales", of_five)):
        assert [v.paper for v in variants if scales in v.name] == [
            None if value is None else Figure(value, "ZF-5") for value in expected
        ]
    # Of VGG16 there is one, that Fast R-CNN's paper measured.
    of_vgg16 = [v for v in rows(tested, paper_beside("SPPnet", "vgg16"))[0] if v.paper]
    assert [(v.name, v.paper) for v in of_vgg16] == [
        ("5 scales, fc7, fine-tuned, box regression", Figure(63.1, "VGG16"))
    ]
    for claim in (
        Claim("1 scale, fc6, fine-tuned", "1 scale, fc6, not fine-tuned"),
        Claim("1 scale, fc7, fine-tuned", "1 scale, fc6, fine-tuned"),
        Claim("5 scales, fc7, fine-tuned", "1 scale, fc7, fine-tuned"),
        Claim("5 scales, fc7, fine-tuned, box regression", "5 scales, fc7, fine-tuned"),
        Claim(
            "5 scales, fc7, fine-tuned, box regression", "1 scale, fc7, fine-tuned, box regression"
        ),
    ):
        assert claims.count(claim) == 1
    # Regression 6, tuning 2, the last layer 2, scales 3 with regression and 3 without.
    assert len(claims) == 16
    assert len(ROWS) == 5
