"""`make ablations PAPER=faster`: which rows there are, what each is made of, and what they claim.

Nothing is trained: a store that only plans says what would be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from faster_rcnn import ablations
from faster_rcnn.ablations import Table
from faster_rcnn.command import command
from faster_rcnn.config import PRESETS, Config
from faster_rcnn.pipeline import train_and_test
from stages.data.load import load_data
from stages.data.shapes import draw_shapes
from stages.proposals.cache import write_proposals
from stages.published.figures import Figure, paper_beside
from stages.seals import digest
from stages.store import Artifact, Store, describe
from tests.faster_rcnn.test_pipeline import options

MICRO = PRESETS["micro"]
# The paper's number of proposals, on which some claims depend.
WITH_300 = replace(MICRO, proposals=replace(MICRO.proposals, after=300))


class Plan(Store):
    """A store that only draws the data; every other stage is noted, and leaves what finds nothing.

    Attributes:
        stages: name and inputs of each that would be made, once.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.stages: dict[str, tuple[str, tuple[Any, ...]]] = {}

    def run(self, stage: Callable[..., None], *inputs: Any) -> Artifact:
        if stage is draw_shapes:
            return super().run(stage, *inputs)
        name = f"{stage.__module__}.{stage.__name__}"
        fingerprint = digest([name, [describe(value) for value in inputs]])
        made = Artifact(self.root / f"{stage.__name__}-{fingerprint}", fingerprint)
        if fingerprint not in self.stages:
            self.stages[fingerprint] = (stage.__name__, inputs)
            if not made.path.exists():
                self._leave(made.path, stage.__name__.startswith(("propose", "search")))
        return made

    def _leave(self, folder: Path, proposals: bool) -> None:
        folder.mkdir(parents=True)
        for kind in ("detections", "unregressed"):
            (folder / f"{kind}.json").write_text("[]")
        if proposals:
            whole = [np.array([[0, 0, 128, 96]], np.float32)] * 4
            write_proposals(folder / "proposals.h5", load_data(MICRO.data, self).test, whole)

    def count(self) -> Counter[str]:
        return Counter(name for name, _ in self.stages.values())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all plans: the data is drawn once."""
    return tmp_path_factory.mktemp("runs")


def rows_of(config: Config, root: Path, every: bool = True) -> tuple[Table, Plan, list[Config]]:
    """The tables' rows, what they are made of, and the other configurations that are trained."""
    plan, others = Plan(root / "store"), []
    table = Table(paper_beside("Faster R-CNN", config.backbone.name))

    def note(changed: Config, store: Store) -> Any:
        others.append(changed)
        return train_and_test(changed, store)

    base = train_and_test(config, plan)
    by_search = Artifact(root / "searched", "searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "train_and_test", note)
        own = ablations.test_time_rows(config, base, by_search, table, plan)
        if every:
            ablations.trained_rows(config, base, by_search, own, table, plan)
    return table, plan, others


@pytest.mark.parametrize("training", ["alternating", "joint"])
@pytest.mark.parametrize("config", [MICRO, WITH_300])
@pytest.mark.parametrize("every", [True, False])
def test_claims_are_of_rows_that_are_there(
    root: Path, config: Config, training: Any, every: bool
) -> None:
    table, _, _ = rows_of(replace(config, training=training), root, every)
    names = [row.name for row in table.rows]
    assert len(names) == len(set(names)) == (24 if every else 12)
    assert {claim.better for claim in table.claims} <= {*names}
    assert {claim.worse for claim in table.claims} <= {*names}
    assert not [claim for claim in table.claims if claim.better == claim.worse]


@pytest.mark.parametrize("training", ["alternating", "joint"])
def test_no_two_rows_are_the_same_detections(root: Path, training: Any) -> None:
    table, _, _ = rows_of(replace(WITH_300, training=training), root)
    rows: dict[Path, list[str]] = {}
    for row in table.rows:
        rows.setdefault(row.detections, []).append(row.name)
    twice = [names for names in rows.values() if len(names) > 1]
    # In the four steps the run's own loss is the MATLAB code's, lambda 10.
    own = ["300 proposals of the RPN (alternating)", "lambda = 10, the MATLAB code's loss"]
    assert twice == ([own] if training == "alternating" else [])


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Every value of a configuration by its path."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key in value for k, v in leaves(value[key], f"{name}.{key}").items()}


def test_each_training_differs_from_the_runs_own_in_what_its_row_says(root: Path) -> None:
    table, _, others = rows_of(MICRO, root)
    own = leaves(describe(MICRO))
    found = []
    for config in others:
        theirs = leaves(describe(config))
        found.append({key: theirs[key] for key in own if theirs[key] != own[key]})
    middle = MICRO.rpn.anchors.sizes[1]
    size, ratio, weight = ".rpn.anchors.sizes", ".rpn.anchors.ratios", ".rpn.loss.box_weight"
    matlab = {".rpn.loss.scale": "matlab"}
    assert found == [
        {".training": "joint"},
        {size: [middle], ratio: [1.0]},
        {size: [middle]},
        {ratio: [1.0]},
        {**matlab, weight: 0.1},
        {**matlab, weight: 1.0},
        {**matlab, weight: 10.0},  # what it is by itself, too
        {**matlab, weight: 100.0},
    ]
    names = [row.name for row in table.rows]
    at = names.index("anchors: 1 size, 1 ratio")
    assert names[at:] == [
        "anchors: 1 size, 1 ratio",
        "anchors: 1 size, 3 ratios",
        "anchors: 3 sizes, 1 ratio",
        *(f"lambda = {weight}, the MATLAB code's loss" for weight in ("0.1", "1", "10", "100")),
    ]


def test_the_papers_figures_are_of_the_runs_network(root: Path) -> None:
    table, _, _ = rows_of(WITH_300, root)
    figures = {row.name: row.paper for row in table.rows}
    assert {figure.network for figure in figures.values() if figure} == {"ZF"}
    own = table.rows[0].name
    assert figures[own] == Figure(59.9, "ZF")
    assert figures["100 proposals"] == Figure(55.1, "ZF")
    assert figures["lambda = 10, the paper's loss"] is None  # table 9 is VGG16's
    claims = {(claim.better, claim.worse): claim.paper for claim in table.claims}
    for pair, value, network in (
        ((own, "without reg: 300 anchors"), 56.8 - 52.1, "ZF"),
        (("joint training", own), 70.0 - 69.9, "VGG16"),
        ((own, "unshared: steps 1 and 2 alone"), 59.9 - 58.7, "ZF"),
        ((own, "anchors: 1 size, 1 ratio"), 69.9 - 66.7, "VGG16"),
        ((own, "anchors: 1 size, 3 ratios"), 69.9 - 67.9, "VGG16"),
        ((own, "anchors: 3 sizes, 1 ratio"), 69.9 - 69.8, "VGG16"),
    ):
        theirs = claims[pair]
        assert theirs is not None
        assert (theirs.value, theirs.network) == (pytest.approx(value), network)


def test_rows_at_test_time_need_no_other_training(root: Path) -> None:
    table, plan, _ = rows_of(MICRO, root, every=False)
    made = plan.count()
    # The run's own, all four steps of it.
    assert (made["train_rpn"], made["train_detector"], made["train_jointly"]) == (2, 2, 0)
    names = [row.name for row in table.rows]
    assert names[0] == "40 proposals of the RPN (alternating)"
    assert names[1] == "tested without box regression"
    assert not any(
        name.startswith(("anchors", "lambda", "unshared", "one stage")) for name in names
    )
    assert table.rows[0].detections.parent == table.rows[1].detections.parent
    # Each number of proposals is proposed once, by the same RPN.
    proposed = [inputs for name, inputs in plan.stages.values() if name == "propose_by_rpn"]
    assert len({inputs[1] for inputs in proposed[1:]}) == 1  # but the training's own, by step 1's


def test_all_rows_share_every_stage_they_can(root: Path) -> None:
    made = rows_of(MICRO, root)[1].count()
    assert made["pretrain"] == made["train_jointly"] == 1
    # The run's own, which is that of lambda 10, three choices of anchors and three lambdas; on selective
    # search's proposals and on every anchor, a detector alone.
    assert made["train_rpn"] == 2 * (1 + 3 + 3)
    assert made["train_detector"] == 2 * (1 + 3 + 3) + 2


def test_the_unshared_row_is_steps_1_and_2(root: Path) -> None:
    for training in ("alternating", "joint"):
        config = replace(MICRO, training=training)  # type: ignore[arg-type]
        table, plan, _ = rows_of(config, root)
        (row,) = [row for row in table.rows if row.name.startswith("unshared")]
        _, (_, proposals, fast) = plan.stages[row.detections.parent.name.rpartition("-")[2]]
        proposing = plan.stages[proposals.fingerprint][1][1]
        without_rpn = plan.stages[fast.fingerprint][1][1]
        detector = plan.stages[without_rpn.fingerprint][1][0]
        # The first of each training: neither starts from the other's convolutions.
        step_1, step_2 = (plan.stages[made.fingerprint] for made in (proposing, detector))
        assert (step_1[0], step_1[1][-1]) == ("train_rpn", None)
        assert (step_2[0], step_2[1][-2]) == ("train_detector", None)


@pytest.mark.parametrize("rows", ["all", "test"])
def test_a_run_ends_in_tables(
    root: Path,
    rows: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ablations, "store_of", lambda options: Plan(options.runs / "store"))
    command(["ablations", "--rows", rows, *options(root, "--tag", rows)])
    folder = root / "shapes-micro-tiny" / f"ablations-faster-{rows}"
    assert {path.name for path in folder.iterdir()} == {
        "ablations.md",
        "variants.csv",
        "claims.csv",
        "recall.csv",
        "recall.png",
        "config.json",
    }
    table = pd.read_csv(folder / "variants.csv")
    assert len(table) == (24 if rows == "all" else 12)
    claims = pd.read_csv(folder / "claims.csv")
    assert set(claims["better"]) | set(claims["worse"]) <= set(table["variant"])
    assert (folder / "ablations.md").read_text() in capsys.readouterr().out
    assert set(pd.read_csv(folder / "recall.csv").iloc[:, 0]) == {"the RPN", "selective search"}


def test_other_rows_are_unknown(root: Path) -> None:
    with pytest.raises(SystemExit):
        command(["ablations", "--rows", "some", *options(root)])
