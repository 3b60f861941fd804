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
from faster_rcnn.ablations import BY_SEARCH, Table
from faster_rcnn.command import command
from faster_rcnn.config import PRESETS, AnchorConfig, Config
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
                self._leave(made.path, stage.__name__)
        return made

    def _leave(self, folder: Path, stage: str) -> None:
        folder.mkdir(parents=True)
        if stage == "measure_anchors":
            rows = ["0,,"] * 9
            (folder / "anchors.csv").write_text(
                "\n".join(["proposals,mean_width,mean_height", *rows, ""])
            )
        for kind in ("detections", "unregressed"):
            (folder / f"{kind}.json").write_text("[]")
        if stage.startswith(("propose", "gather")):
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
    assert len(names) == len(set(names)) == (36 if every else 12)
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
    smallest, middle, largest = MICRO.rpn.anchors.sizes
    size, ratio, weight = ".rpn.anchors.sizes", ".rpn.anchors.ratios", ".rpn.loss.box_weight"
    matlab = {".rpn.loss.scale": "matlab"}
    assert found == [
        {".training": "joint"},
        {size: [smallest], ratio: [1.0]},
        {size: [middle], ratio: [1.0]},
        {size: [smallest]},
        {size: [middle]},
        {ratio: [1.0]},
        {size: [smallest / 2, smallest, middle, largest, 2 * largest]},
        {**matlab, weight: 0.1},
        {**matlab, weight: 1.0},
        {**matlab, weight: 10.0},  # what it is by itself, too
        {**matlab, weight: 100.0},
    ]
    names = [row.name for row in table.rows]
    at = names.index("anchors: 1 size (16), 1 ratio")
    assert names[at:] == [
        "anchors: 1 size (16), 1 ratio",
        "anchors: 1 size (32), 1 ratio",
        "anchors: 1 size (16), 3 ratios",
        "anchors: 1 size (32), 3 ratios",
        "anchors: 3 sizes, 1 ratio",
        "anchors: 5 sizes, 3 ratios",
        *(f"lambda = {weight}, the MATLAB code's loss" for weight in ("0.1", "1", "10", "100")),
    ]


def test_the_papers_figures_are_of_the_runs_network(root: Path) -> None:
    table, _, _ = rows_of(WITH_300, root)
    figures = {row.name: row.paper for row in table.rows}
    assert {figure.network for figure in figures.values() if figure} == {"ZF"}
    own = table.rows[0].name
    assert figures[own] == Figure(59.9, "ZF")
    # Table 2's are of a detector that was trained on selective search's, and so are these rows.
    own_detector = ("100 proposals", "1000 proposals", "6000 proposals, no NMS")
    own_detector += ("without cls: 100 at random", "without reg: 300 anchors")
    assert [figures[row] for row in own_detector] == [None] * 5
    for row, value in (
        ("its 2000", 58.7),
        ("100 of the RPN", 55.1),
        ("300 of the RPN", 56.8),
        ("1000 of the RPN", 56.3),
        ("6000 of the RPN, no NMS", 55.2),
        ("100 at random, without cls", 44.6),
        ("300 at random, without cls", 51.4),
        ("1000 at random, without cls", 55.8),
        ("300 anchors, without reg", 52.1),
        ("1000 anchors, without reg", 51.3),
    ):
        assert figures[f"{BY_SEARCH}{row}"] == Figure(value, "ZF")
    assert figures["one stage: the detector on every anchor"] == Figure(53.8, "ZF")
    assert figures["one stage, five scales"] == Figure(53.9, "ZF")
    assert figures["joint training"] is None  # VGG16's
    assert figures["lambda = 10, the MATLAB code's loss"] is None  # table 9 is VGG16's
    claims = {(claim.better, claim.worse): claim.paper for claim in table.claims}
    unshared = "unshared: steps 1 and 2 alone"
    for pair, value, network in (
        ((own, "100 proposals"), 69.9 - 68.9, "VGG16"),
        ((f"{BY_SEARCH}its 2000", f"{BY_SEARCH}300 of the RPN"), 58.7 - 56.8, "ZF"),
        ((f"{BY_SEARCH}300 of the RPN", f"{BY_SEARCH}100 of the RPN"), 56.8 - 55.1, "ZF"),
        ((f"{BY_SEARCH}300 of the RPN", f"{BY_SEARCH}300 anchors, without reg"), 4.7, "ZF"),
        ((f"{BY_SEARCH}100 of the RPN", f"{BY_SEARCH}100 at random, without cls"), 10.5, "ZF"),
        ((unshared, "one stage, five scales"), 58.7 - 53.9, "ZF"),
        (("joint training", own), 70.0 - 69.9, "VGG16"),
        ((own, unshared), 59.9 - 58.7, "ZF"),
        ((own, "anchors: 1 size (16), 1 ratio"), 69.9 - 65.8, "VGG16"),
        ((own, "anchors: 1 size (32), 1 ratio"), 69.9 - 66.7, "VGG16"),
        ((own, "anchors: 1 size (16), 3 ratios"), 69.9 - 68.8, "VGG16"),
        ((own, "anchors: 1 size (32), 3 ratios"), 69.9 - 67.9, "VGG16"),
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
    # The run's own, which is that of lambda 10, six choices of anchors and three lambdas; on selective
    # search's proposals, and on every anchor at one scale and at five, a detector alone.
    assert made["train_rpn"] == 2 * (1 + 6 + 3)
    assert made["train_detector"] == 2 * (1 + 6 + 3) + 3


def test_a_joint_runs_rows_share_the_four_steps(root: Path) -> None:
    """The two first steps are the same in the row of all four, in the unshared one and in table 10's."""
    made = rows_of(replace(MICRO, training="joint"), root)[1].count()
    assert made["train_jointly"] == 1 + 6 + 4
    assert made["train_rpn"] == 2
    assert made["train_detector"] == 2 + 3


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


def made_of(table: Table, plan: Plan, row: str) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """What a row's detections are made of: the proposals, and the detector's training."""
    (found,) = (each.detections for each in table.rows if each.name == row)
    _, (_, proposals, fast) = plan.stages[found.parent.name.rpartition("-")[2]]
    model = plan.stages[fast.fingerprint][1]
    (trained,) = plan.stages[model[1].fingerprint][1]
    return {
        "proposals": plan.stages.get(proposals.fingerprint, ("", ())),
        "model": ("assemble", model),
        "training": plan.stages[trained.fingerprint],
    }


@pytest.mark.parametrize("training", ["alternating", "joint"])
def test_table_2_is_of_one_detector_and_the_first_steps_rpn(root: Path, training: Any) -> None:
    table, plan, _ = rows_of(replace(MICRO, training=training), root)
    rows = [row.name for row in table.rows if row.name.startswith(BY_SEARCH)]
    assert len(rows) == 10
    limits = []
    for row in rows:
        made = made_of(table, plan, row)
        name, (_, on, *rest) = made["training"]
        assert (name, on.fingerprint) == ("train_detector", "searched")
        assert not any(
            isinstance(value, Artifact) for value in rest
        )  # no other training to start from
        # Selective search's are cut to the best 2,000; of the RPN all are seen that are proposed.
        assert made["model"][1][3] == (2000 if row == f"{BY_SEARCH}its 2000" else None)
        if row != f"{BY_SEARCH}its 2000":
            _, (_, rpn, *_, proposals, _, split) = made["proposals"]
            assert plan.stages[rpn.fingerprint][0] == "train_rpn"
            assert (plan.stages[rpn.fingerprint][1][-1], split) == (None, "test")
            limits.append(proposals)
    own = MICRO.proposals
    assert limits == [
        *(replace(own, after=count) for count in (100, 300, 1000)),
        replace(own, after=6000, nms_iou=1.0),
        *(
            replace(own, after=count, nms_iou=1.0, before=None, scores="none")
            for count in (100, 300, 1000)
        ),
        *(replace(own, after=count, boxes="none") for count in (300, 1000)),
    ]


def test_one_stage_sees_every_anchor_at_one_scale_and_at_five(root: Path) -> None:
    table, plan, _ = rows_of(MICRO, root)
    found = []
    for row in ("one stage: the detector on every anchor", "one stage, five scales"):
        made = made_of(table, plan, row)
        (_, _, _, _, _, scales, longest, *_) = made["training"][1]
        tested = made["model"][1][5]
        assert (tested.test, tested.longest) == (scales, longest)
        assert made["proposals"][1][-3].boxes == made["proposals"][1][-3].scores == "none"
        found.append((scales, longest))
    # Of 600: 480, 576, 688, 864, 1200.
    assert found == [((96,), 1000), ((77, 92, 110, 138, 192), 2000)]


@pytest.mark.parametrize(
    ("sizes", "ratios", "labels"),
    [
        # In any order; of two sizes the larger is the middle.
        (
            (64.0, 32.0),
            (0.5, 1.0),
            [
                "1 size (32), 1 ratio",
                "1 size (64), 1 ratio",
                "1 size (32), 2 ratios",
                "1 size (64), 2 ratios",
                "2 sizes, 1 ratio",
                "4 sizes, 2 ratios",
            ],
        ),
        # What the run itself is, or another row, is no row.
        ((32.0,), (0.5, 1.0, 2.0), ["1 size (32), 1 ratio", "3 sizes, 3 ratios"]),
        ((32.0,), (1.0,), ["3 sizes, 1 ratios"]),
    ],
)
def test_anchors_of_other_runs(
    root: Path, sizes: tuple[float, ...], ratios: tuple[float, ...], labels: list[str]
) -> None:
    rpn = replace(MICRO.rpn, anchors=AnchorConfig(sizes, ratios))
    table, _, _ = rows_of(replace(MICRO, rpn=rpn), root)
    names = [row.name for row in table.rows]
    assert [name for name in names if name.startswith("anchors")] == [
        f"anchors: {label}" for label in labels
    ]


@pytest.mark.parametrize("training", ["alternating", "joint"])
@pytest.mark.parametrize(
    ("part", "rows", "trained"),
    [
        # Beside the run's own: the RPN, the detector, and both together.
        ("1", None, (0, 0)),
        ("2", 12, (0, 1)),
        ("8", 7, (2 * 6, 2 * 6)),
        ("9", 5, (2 * 3, 2 * 3)),  # lambda 10 is the run's own
        ("10", 4, (0, 2)),
    ],
)
def test_one_table_trains_its_own_rows_alone(
    root: Path,
    training: str,
    part: str,
    rows: int | None,
    trained: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plans: list[Plan] = []

    def plan(options: Any) -> Plan:
        plans.append(Plan(options.runs / "store"))
        return plans[-1]

    monkeypatch.setattr(ablations, "store_of", plan)
    asked = ["--rows", part, "--training", training, "--tag", training]
    command(["ablations", *asked, *options(root)])
    folder = root / "shapes-micro-tiny" / f"ablations-faster-{part}-{training}"
    files = {"config.json"} | ({"anchors.csv", "anchors.md"} if part == "1" else set())
    if rows is not None:
        files |= {"ablations.md", "variants.csv", "claims.csv"}
        if part == "2" and training == "joint":  # the run's own is no row of the paper's table
            rows += 1
        assert len(pd.read_csv(folder / "variants.csv")) == rows
    assert {path.name for path in folder.iterdir()} == files
    for text in folder.glob("*.md"):
        assert text.read_text() in capsys.readouterr().out
    made = plans[0].count()
    if part == "9" and training == "alternating":
        trained = (2 * 3, 2 * 3)  # the run's own has the loss of lambda 10
    own = (2, 2, 0) if training == "alternating" else (0, 0, 1)
    jointly = 0
    if training == "joint":
        steps = {"2": (2, 2), "10": (1, 1)}.get(part, (0, 0))
        if part in ("8", "9"):
            trained, jointly = (0, 0), {"8": 6, "9": 4}[part]
        own = (steps[0], steps[1], 1)
    found = (made["train_rpn"], made["train_detector"], made["train_jointly"])
    assert found == (own[0] + trained[0], own[1] + trained[1], own[2] + jointly)
    assert (made["search_selectively"] > 0) == (part == "2")


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
        "anchors.csv",
        "anchors.md",
        "recall.csv",
        "recall.png",
        "config.json",
    }
    table = pd.read_csv(folder / "variants.csv")
    assert len(table) == (36 if rows == "all" else 12)
    claims = pd.read_csv(folder / "claims.csv")
    assert set(claims["better"]) | set(claims["worse"]) <= set(table["variant"])
    assert (folder / "ablations.md").read_text() in capsys.readouterr().out
    assert set(pd.read_csv(folder / "recall.csv").iloc[:, 0]) == {"the RPN", "selective search"}


def test_other_rows_are_unknown(root: Path) -> None:
    with pytest.raises(SystemExit):
        command(["ablations", "--rows", "some", *options(root)])
