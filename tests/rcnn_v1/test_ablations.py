"""`make ablations PAPER=rcnn` on a `micro` run: which rows there are, and that stages are shared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from rcnn_v1.ablations import ROWS, SOFTMAX, Ablated, rows
from rcnn_v1.command import command
from stages.ablation import Claim
from stages.backbones.config import Name
from stages.errors import InputError
from stages.published.figures import Figure, paper_beside


def ablate(folder: Path, *more: str) -> None:
    options = ("--preset", "micro", "--runs", str(folder), "--device", "cpu", "--workers", "0")
    command(["ablations", *options, *more])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    ablate(folder)
    return folder


def test_every_layer_tuned_and_not_with_regression_and_without(runs: Path) -> None:
    table = pd.read_csv(runs / "shapes-micro-tiny" / "ablations-rcnn" / "variants.csv")
    names = [
        f"{layer}, {tuned}{moved}"
        for tuned in ("not fine-tuned", "fine-tuned")
        for layer in ("pool5", "fc6", "fc7")
        for moved in ("", ", box regression")
    ]
    assert table["variant"].tolist() == [*names, SOFTMAX]
    paper = dict(zip(table["variant"], table["paper_map"], strict=True))
    assert paper["fc7, fine-tuned, box regression"] == 58.5
    assert paper["pool5, not fine-tuned"] == 44.2
    assert (runs / "shapes-micro-tiny" / "ablations-rcnn" / "ablations.md").exists()


def test_they_share_every_stage_they_can(runs: Path) -> None:
    made = [path.name.rpartition("-")[0] for path in (runs / "store").iterdir()]
    assert made.count("search_selectively") == 2  # a split each
    assert made.count("pretrain") == made.count("fine_tune") == 1
    assert made.count("train_box_regressors") == 2
    assert made.count("cache_features") == made.count("train_svms") == made.count("detect") == 6
    assert made.count("detect_by_softmax") == 1


def test_softmax_against_svms(runs: Path) -> None:
    """Appendix B: the same network's features, the same windows, no box regression."""
    claims = pd.read_csv(runs / "shapes-micro-tiny" / "ablations-rcnn" / "claims.csv")
    (claim,) = claims[claims["worse"] == SOFTMAX].to_dict("records")
    assert claim["better"] == "fc7, fine-tuned"
    assert claim["paper_difference"] == pytest.approx(54.2 - 50.9)
    assert claim["paper_network"] == "AlexNet"


def test_softmax_and_svms_alone(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = runs / "shapes-micro-tiny" / "ablations-rcnn" / "variants.csv"
    before = whole.read_text()
    ablate(runs, "--rows", "softmax", "--tag", "mine")
    folder = runs / "shapes-micro-tiny" / "ablations-rcnn-softmax-mine"
    names = ["fc7, fine-tuned", "fc7, fine-tuned, box regression", SOFTMAX]
    table = pd.read_csv(folder / "variants.csv")
    assert table["variant"].tolist() == names
    # Nothing else is trained: the whole table had all of it.
    assert "-- " not in capsys.readouterr().err
    assert whole.read_text() == before
    assert table.to_csv() == pd.read_csv(whole).iloc[-3:].reset_index(drop=True).to_csv()
    with pytest.raises(InputError, match=r"fine-tune.sgd.iterations 0: leaves no softmax"):
        ablate(tmp_path, "--rows", "softmax", "--fine-tune.sgd.iterations", "0")
    assert list(tmp_path.iterdir()) == []


def test_without_fine_tuning_there_is_no_softmax() -> None:
    tested = [Ablated("fc7", False, None, Path("fc7"))]  # type: ignore[arg-type]
    variants, claims = rows(tested, paper_beside("R-CNN", "vgg16"))
    assert SOFTMAX not in {variant.name for variant in variants} and len(claims) == 1
    # The paper has it of AlexNet alone, and the table says so.
    by_softmax = dataclasses.replace(tested[0], tuned=True, by_softmax=Path("softmax"))
    variants, claims = rows([by_softmax], paper_beside("R-CNN", "vgg16"))
    assert variants[-1].name == SOFTMAX and variants[-1].paper is None
    assert claims[-1].paper == Figure(pytest.approx(3.3), "AlexNet")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alexnet", [44.2, 46.2, 44.7, 47.3, 53.1, 54.2, 58.5]),
        ("vgg16", [None, None, None, None, None, 62.2, 66.0]),
    ],
)
def test_the_papers_figures_are_of_the_runs_network(name: Name, expected: list) -> None:
    paper = paper_beside("R-CNN", name)
    tested = [
        Ablated(layer, tuned, None, Path(layer))  # type: ignore[arg-type]
        for tuned in (False, True)
        for layer in ("pool5", "fc6", "fc7")
    ]
    figures = [row.paper for row in rows(tested, paper)[0]]
    found = [figure and figure.value for figure in figures]
    # Of its last row alone the paper has box regression.
    assert found[1:-1:2] == [None] * 5
    assert [*found[::2], found[-1]] == expected
    assert {figure.network for figure in figures if figure} == {paper.network}
    assert len(ROWS) == 7


def test_the_papers_claims() -> None:
    tested = [
        Ablated(layer, tuned, None, Path(layer))  # type: ignore[arg-type]
        for layer, tuned in (("pool5", False), ("pool5", True), ("fc7", True))
    ]
    _, claims = rows(tested, paper_beside("R-CNN", "tiny"))
    for claim in (
        Claim("pool5, fine-tuned", "pool5, not fine-tuned"),
        Claim("fc7, fine-tuned", "pool5, fine-tuned"),
        Claim("fc7, fine-tuned, box regression", "fc7, fine-tuned"),
    ):
        assert claim in claims
    assert len(claims) == 5
