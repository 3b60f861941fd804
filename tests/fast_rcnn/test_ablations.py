"""`make ablations PAPER=fast` on a `micro` run: which rows there are, and that stages are shared."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fast_rcnn.ablations import FULL, HARD
from fast_rcnn.command import command
from stages.errors import InputError


def ablate(folder: Path, *more: str) -> pd.DataFrame:
    options = ("--preset", "micro", "--runs", str(folder), "--device", "cpu", "--workers", "0")
    command(["ablations", *options, *more])
    return pd.read_csv(folder / "shapes-micro-tiny" / "ablations-fast" / "variants.csv")


def made(folder: Path) -> list[str]:
    return [path.name.rpartition("-")[0] for path in (folder / "store").iterdir()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def test_rows_of_the_finished_detector_need_no_other_training(runs: Path) -> None:
    table = ablate(runs, "--rows", "test")
    names = table["variant"].tolist()
    assert names[0] == FULL
    assert {"tested without box regression", "SVMs instead of the softmax"} <= set(names)
    assert sum(name.startswith("truncated SVD") for name in names) == 2
    assert made(runs).count("train_detector") == 1
    # What is compared by speed has its seconds; a row that only drops the regression has none.
    seconds = dict(zip(names, table["seconds"], strict=True))
    assert seconds["five scales at test only"] > 0
    assert pd.isna(seconds["tested without box regression"])
    paper = dict(zip(names, table["paper_map"], strict=True))
    assert (paper[FULL], paper["SVMs instead of the softmax"]) == (57.1, 56.3)
    assert paper["tested without box regression"] == 53.3
    folder = runs / "shapes-micro-tiny" / "ablations-fast"
    assert "| paper (AlexNet) |" in (folder / "ablations.md").read_text()


def test_all_rows_share_every_stage_they_can(runs: Path) -> None:
    names = ablate(runs)["variant"].tolist()
    assert len(names) == len(set(names)) == 16
    stages = made(runs)
    assert stages.count("search_selectively") == 2  # a split each
    assert stages.count("gather_proposals") == stages.count("pretrain") == 1
    # The run's own, without boxes, the boxes afterwards, L2, two choices of layers, five scales,
    # two numbers of proposals, and hard examples.
    assert stages.count("train_detector") == 10
    claims = pd.read_csv(runs / "shapes-micro-tiny" / "ablations-fast" / "claims.csv")
    paper = {
        (row.better, row.worse): row.paper_difference for row in claims.itertuples(index=False)
    }
    assert paper[FULL, "tested without box regression"] == pytest.approx(3.8)
    assert paper[FULL, "only the fc layers learn"] == pytest.approx(5.5)
    assert set(claims["better"]) | set(claims["worse"]) <= set(names)
    networks = {
        (row.better, row.worse): row.paper_network for row in claims.itertuples(index=False)
    }
    assert networks[FULL, "tested without box regression"] == "AlexNet"
    assert networks[FULL, "only the fc layers learn"] == "VGG16"
    # Shrivastava et al.'s own model M, less their own baseline.
    assert paper[HARD, FULL] == pytest.approx(62.0 - 59.6)
    assert networks[HARD, FULL] == "VGG_M"


def test_hard_examples_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ablate(runs)
    before = made(runs)
    capsys.readouterr()
    ablate(runs, "--rows", "hard", "--tag", "mine")
    folder = runs / "shapes-micro-tiny" / "ablations-fast-hard-mine"
    assert pd.read_csv(folder / "variants.csv")["variant"].tolist() == [FULL, HARD]
    assert f"| {HARD} less {FULL} |" in capsys.readouterr().out
    assert made(runs) == before


def test_figure_3s_options_are_of_figure_3(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--counts, --dense: are of --rows proposals"):
        ablate(tmp_path, "--counts", "100")
    assert list(tmp_path.iterdir()) == []
