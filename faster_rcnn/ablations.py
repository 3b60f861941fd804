"""`make ablations PAPER=faster`: what each of Faster R-CNN's choices is worth (tables 1, 2 and 8 to 10).

Every row is one change to the run that `make faster` makes; what a row does not change it shares.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fast_rcnn.config import FIVE_SCALES, ScaleConfig
from fast_rcnn.pipeline import assemble as assemble_fast
from fast_rcnn.pipeline import detect as detect_fast
from fast_rcnn.train import train_detector
from faster_rcnn.alternating import first_steps
from faster_rcnn.anchor_table import anchor_table, measure_anchors, write_anchor_table
from faster_rcnn.config import PRESETS, AnchorConfig, Config, ProposalConfig
from faster_rcnn.loss import Training
from faster_rcnn.pipeline import Trained, train_and_test
from faster_rcnn.propose import propose_with
from faster_rcnn.recall_plot import draw_recalls, recalls
from faster_rcnn.train import RPN_LAYERS
from stages.ablation import Claim, Variant, compare, keep_description, write_tables
from stages.backbones.weights import find_weights, load_state
from stages.data.difficult import training_split
from stages.data.records import Dataset
from stages.options import parse, store_of
from stages.proposals.cache import Proposals
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.proposals.stage import find_proposals
from stages.published.figures import Figure, Paper, paper_beside
from stages.store import Artifact, Job, Store, describe, stage
from stages.writing import replacing

NOTE = (
    "The paper's figures: {whose}, on VOC 2007 (tables 2, 3 and 8 to 10), those of a difference of another "
    "network where they are given for it alone: on other images, or with another network, their order and "
    "their differences are to be compared, not their values. Table 2's rows of fewer proposals and without "
    "cls or reg are of a detector that was trained on selective search's proposals: here those that say so; "
    "the same changes to the run's own detector stand apart, beside the paper's only where it has them "
    "(VGG16's numbers of proposals)."
)
BY_SEARCH = "trained on selective search, tested with "
PAPERS_ROW: dict[Training, str] = {"alternating": "4-step shared", "joint": "approximate joint"}
ROWS = ("all", "test", "1", "2", "8", "9", "10")
TOP = 2000  # of selective search's proposals of an image


@dataclass
class Table:
    """Rows and claims as they are found; `paper`: its figures beside them."""

    paper: Paper
    rows: list[Variant] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    def add(self, name: str, detections: Path, paper: Figure | None = None) -> str:
        """A row; its name."""
        self.rows.append(Variant(name, detections, paper))
        return name

    def claim(self, better: str, worse: str, paper: Figure | None = None) -> None:
        """What the paper finds: see `Claim`."""
        self.claims.append(Claim(better, worse, paper))


def ablate(arguments: Sequence[str]) -> None:
    """Run every variant, print the tables, leave them and the recall plot in the runs' folder.

    Args:
        arguments: the options of `python -m faster_rcnn`; `--rows test`: only those that need no
            other training than the run's own; `--rows 8`: only those of that table, in a folder of their
            own; `--proposals-file`: selective search's, made elsewhere.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--rows", choices=ROWS, default="all")
    parser.add_argument("--proposals-file")
    chosen, rest = parser.parse_known_args(list(arguments))
    options, config = parse("faster_rcnn ablations", Config, PRESETS, rest)
    store = store_of(options)

    steps = dataclasses.replace(config, training="alternating")

    def run() -> Ablated:
        base = train_and_test(config, store)
        table = Table(paper_beside("Faster R-CNN", config.backbone.name))
        measured, proposals = None, {}
        if chosen.rows in ("all", "test", "1"):
            measured = store.run(measure_anchors, base.data, base.model)
        if chosen.rows in ("all", "test"):
            many = dataclasses.replace(config.proposals, after=TOP)
            proposals["the RPN"] = propose_with(config, base.data, base.rpn, many, "test", store)
        if chosen.rows in ("all", "test", "2"):
            given = chosen.proposals_file
            searched = find_proposals(SelectiveSearchConfig(), given, base.data, store).all
            proposals["selective search"] = searched
        if chosen.rows in ("all", "test"):
            own = test_time_rows(config, base, searched, table, store)
        elif chosen.rows != "1":
            own = own_row(config, base, table)
        if chosen.rows == "all":
            trained_rows(config, base, searched, own, table, store)
        elif chosen.rows == "2":
            alternating = own
            if config.training == "joint":
                alternating = other_way(config, own, table, store)
            unshared_rows(steps, base.data, alternating, searched, table, store)
        elif chosen.rows == "8":
            anchor_rows(config, own, table, store)
        elif chosen.rows == "9":
            lambda_rows(config, table, store)
        elif chosen.rows == "10":
            first_rpn, unshared = unshared_row(steps, base.data, table, store)
            one_stage_rows(steps, base.data, first_rpn, unshared, table, store)
        return Ablated(base.data, table, measured, proposals)

    done = store.again(run)
    data, table = done.data, done.table
    name = f"{data.name}-{options.preset}-{config.backbone.name}"
    part = "" if chosen.rows in ("all", "test") else chosen.rows
    words = ["ablations-faster", part, options.tag]
    folder = options.runs / name / "-".join(word for word in words if word)
    texts = []
    if table.rows:
        title = f"Faster R-CNN's ablations: {name}, {config.training} training"
        note = NOTE.format(whose=table.paper.whose())
        texts.append(write_tables(folder, title, note, *compare(data, table.rows, table.claims)))
    if done.measured is not None:
        of_anchors = anchor_table(config, done.measured.path, table.paper)
        texts.append(write_anchor_table(folder, name, config, of_anchors))
    if chosen.rows in ("all", "test"):
        readers = {by: Proposals(a.path / "proposals.h5") for by, a in done.proposals.items()}
        found = recalls(data.test, readers)
        found.to_csv(folder / "recall.csv", index=False, float_format="%.3f")
        draw_recalls(found, folder / "recall.png", f"Recall of the test split's objects: {name}")
    keep_description(folder, describe(config))
    print("\n".join(texts) + f"\n{folder}")


@dataclass(frozen=True)
class Ablated:
    """What the tables are made of.

    Attributes:
        measured: by `measure_anchors`; None if table 1 is not asked for.
        proposals: whose recall is compared, of the test split.
    """

    data: Dataset
    table: Table
    measured: Artifact | None
    proposals: dict[str, Artifact]


def own_row(config: Config, base: Trained, table: Table) -> str:
    """The run itself."""
    return table.add(
        f"{config.proposals.after} proposals of the RPN ({config.training})",
        base.detections.path / "detections.json",
        table.paper.of(PAPERS_ROW[config.training]),
    )


def test_time_rows(
    config: Config, base: Trained, searched: Artifact, table: Table, store: Store
) -> str:
    """Other proposals for the finished detector. Returns the name of the run's own row."""
    found, paper = base.detections.path, table.paper
    after = config.proposals.after
    own = own_row(config, base, table)
    still = table.add("tested without box regression", found / "unregressed.json")
    table.claim(own, still)
    fast = _fast(config, base.data, base.detector, store)

    def see(label: str, proposals: ProposalConfig, theirs: Figure | None = None) -> str:
        proposed = propose_with(config, base.data, base.rpn, proposals, "test", store)
        return table.add(label, _detect(base.data, proposed, fast, store), theirs)

    def change(**changes: object) -> ProposalConfig:
        return dataclasses.replace(config.proposals, **changes)  # type: ignore[arg-type]

    for count in (50, 100, 1000):
        label = see(f"{count} proposals", change(after=count), paper.of(f"{count} proposals"))
        if count < after:
            fewer = paper.difference(f"{after} proposals", label) if after == 300 else None
            table.claim(own, label, fewer)
    everything = see("6000 proposals, no NMS", change(nms_iou=1.0, after=6000))
    table.claim(own, everything)
    for count in (100, 300, 1000):
        see(f"without cls: {count} at random", unscored(config, count))
    table.claim("100 proposals", "without cls: 100 at random")
    for count in (300, 1000):
        see(f"without reg: {count} anchors", change(boxes="none", after=count))
    if after == 300:
        table.claim(own, "without reg: 300 anchors")
    by_search = _detect(
        base.data, searched, _fast(config, base.data, base.detector, store, TOP), store
    )
    table.claim(own, table.add("selective search's 2000 at test only", by_search))
    return own


def unscored(config: Config, count: int) -> ProposalConfig:
    """As the paper tests without the cls layer: `count` at random, and no NMS, since there is no order."""
    return dataclasses.replace(
        config.proposals, scores="none", nms_iou=1.0, before=None, after=count
    )


def trained_rows(
    config: Config, base: Trained, searched: Artifact, own: str, table: Table, store: Store
) -> None:
    """Other trainings: the other way, unshared, on selective search's proposals, other anchors and lambda."""
    alternating = other_way(config, own, table, store)
    # Of the first steps: as the four steps have them, whichever way the run itself is trained.
    steps = dataclasses.replace(config, training="alternating")
    first_rpn, unshared = unshared_rows(steps, base.data, alternating, searched, table, store)
    one_stage_rows(steps, base.data, first_rpn, unshared, table, store)
    anchor_rows(config, own, table, store)
    lambda_rows(config, table, store)


def other(label: str, changed: Config, table: Table, store: Store, paper: Figure | None) -> str:
    """A row of a whole other run."""
    done = train_and_test(changed, store)
    return table.add(label, done.detections.path / "detections.json", paper)


def other_way(config: Config, own: str, table: Table, store: Store) -> str:
    """The other of the two ways of training. Returns the four steps' row."""
    way: Training = "joint" if config.training == "alternating" else "alternating"
    changed = dataclasses.replace(config, training=way)
    added = other(f"{way} training", changed, table, store, table.paper.of(PAPERS_ROW[way]))
    joint, alternating = (own, added) if config.training == "joint" else (added, own)
    better = table.paper.difference(PAPERS_ROW["joint"], PAPERS_ROW["alternating"])
    table.claim(joint, alternating, better)
    return alternating


def unshared_row(config: Config, data: Dataset, table: Table, store: Store) -> tuple[Artifact, str]:
    """Steps 1 and 2 of the four, nothing shared. Step 1's training, and the row."""
    learnt = training_split(data, config.difficult)
    weights = find_weights(config.backbone, store)
    first_rpn, _, first_detector = first_steps(config, learnt, weights, store)
    apart = propose_with(config, data, first_rpn, config.proposals, "test", store)
    found = _detect(data, apart, _fast(config, data, first_detector, store), store)
    paper = table.paper.of("4-step unshared")
    return first_rpn, table.add("unshared: steps 1 and 2 alone", found, paper)


def unshared_rows(
    config: Config,
    data: Dataset,
    alternating: str,
    searched: Artifact,
    table: Table,
    store: Store,
) -> tuple[Artifact, str]:
    """Table 2: two networks, and the detector trained on selective search. As `unshared_row`."""
    first_rpn, unshared = unshared_row(config, data, table, store)
    table.claim(alternating, unshared, table.paper.difference("4-step shared", "4-step unshared"))
    by_search = by_search_rows(config, data, first_rpn, searched, table, store)
    table.claim(
        alternating,
        by_search,
        table.paper.difference("4-step shared", "selective search instead of RPN"),
    )
    return first_rpn, unshared


def by_search_rows(
    config: Config,
    data: Dataset,
    rpn: Artifact,
    searched: Artifact,
    table: Table,
    store: Store,
) -> str:
    """Table 2: a detector trained on selective search's proposals, tested with those and with an RPN's.

    Args:
        rpn: step 1's, which shares nothing with the detector.

    Returns:
        the row of selective search's at test, too.
    """
    paper = table.paper
    trained = _train_fast(config, data, searched, TOP, store)
    at_most, every = (_fast(config, data, trained, store, top) for top in (TOP, None))
    whole = table.add(
        f"{BY_SEARCH}its {TOP}",
        _detect(data, searched, at_most, store),
        paper.of("selective search instead of RPN"),
    )
    limits = config.proposals
    of_rpn = "SS-trained detector with {} RPN proposals"
    rows = {"selective search instead of RPN": whole}  # ours by the paper's
    for label, proposals, theirs in (
        *(
            (f"{n} of the RPN", dataclasses.replace(limits, after=n), of_rpn.format(n))
            for n in (100, 300, 1000)
        ),
        (
            "6000 of the RPN, no NMS",
            dataclasses.replace(limits, after=6000, nms_iou=1.0),
            f"{of_rpn.format(6000)} without NMS",
        ),
        *(
            (f"{n} at random, without cls", unscored(config, n), f"RPN without cls {n} proposals")
            for n in (100, 300, 1000)
        ),
        *(
            (
                f"{n} anchors, without reg",
                dataclasses.replace(limits, after=n, boxes="none"),
                f"RPN without reg {n} proposals",
            )
            for n in (300, 1000)
        ),
    ):
        proposed = propose_with(config, data, rpn, proposals, "test", store)
        found = _detect(data, proposed, every, store)
        rows[theirs] = table.add(BY_SEARCH + label, found, paper.of(theirs))
    for better, worse in (
        ("selective search instead of RPN", of_rpn.format(300)),
        (of_rpn.format(300), of_rpn.format(100)),
        (of_rpn.format(300), f"{of_rpn.format(6000)} without NMS"),
        (of_rpn.format(100), "RPN without cls 100 proposals"),
        (of_rpn.format(300), "RPN without cls 300 proposals"),
        (of_rpn.format(300), "RPN without reg 300 proposals"),
    ):
        table.claim(rows[better], rows[worse], paper.difference(better, worse))
    return whole


def one_stage_rows(
    config: Config, data: Dataset, rpn: Artifact, two_stages: str, table: Table, store: Store
) -> None:
    """Table 10: every anchor as a proposal, neither scored nor moved, at one scale and at five.

    Args:
        rpn: of its anchors nothing is learnt; two_stages: the row that is unshared, as the paper's.
    """
    dense = dataclasses.replace(
        config.proposals, before=None, nms_iou=1.0, after=20_000, scores="none", boxes="none"
    )
    dense_train = propose_with(config, data, rpn, dense, "train", store)
    dense_test = propose_with(config, data, rpn, dense, "test", store)
    five = dataclasses.replace(config, scale=five_scales(config.scale))
    for label, changed, theirs in (
        ("one stage: the detector on every anchor", config, "one stage (dense boxes)"),
        ("one stage, five scales", five, "one stage (dense boxes) 5 scales"),
    ):
        trained = _train_fast(changed, data, dense_train, None, store)
        model = _fast(changed, data, trained, store)
        table.add(label, _detect(data, dense_test, model, store), table.paper.of(theirs))
        table.claim(two_stages, label, table.paper.difference("two stages", theirs))


def five_scales(scale: ScaleConfig) -> ScaleConfig:
    """Fast R-CNN's five, to the run's own as they are to 600; and the longer side, twice as long."""
    sides = tuple(round(each * scale.test[0] / 600) for each in FIVE_SCALES)
    return dataclasses.replace(scale, train=sides, test=sides, longest=2 * scale.longest)


def anchor_rows(config: Config, own: str, table: Table, store: Store) -> None:
    """Table 8: fewer anchors; and, which the paper does not have, more."""
    paper, anchors = table.paper, config.rpn.anchors
    made = {(anchors.sizes, anchors.ratios)}
    for label, sizes, ratios, theirs in other_anchors(anchors):
        if (sizes, ratios) in made:
            continue
        made.add((sizes, ratios))
        changed = dataclasses.replace(anchors, sizes=sizes, ratios=ratios)
        rpn = dataclasses.replace(config.rpn, anchors=changed)
        figure = paper.of(theirs) if theirs else None
        other(label, dataclasses.replace(config, rpn=rpn), table, store, figure)
        if theirs:
            table.claim(own, label, paper.difference("anchors 3 scales 3 ratios", theirs))


def other_anchors(
    own: AnchorConfig,
) -> list[tuple[str, tuple[float, ...], tuple[float, ...], str | None]]:
    """Of each row its name, sizes and ratios, and the paper's row.

    The paper's 128 and 256 are the smallest and the middle of its sizes; of other sizes those are taken.
    """
    sizes = tuple(sorted(own.sizes))
    count = len(own.ratios)
    rows: list[tuple[str, tuple[float, ...], tuple[float, ...], str | None]] = []
    for ratios, said in (((1.0,), "1 ratio"), (own.ratios, f"{count} ratios")):
        for size, theirs in ((sizes[0], 128), (sizes[len(sizes) // 2], 256)):
            label = f"anchors: 1 size ({size:g}), {said}"
            of_paper = "1 ratio" if ratios == (1.0,) else "3 ratios"
            rows.append((label, (size,), ratios, f"anchors 1 scale ({theirs}) {of_paper}"))
    whole = f"anchors: {len(sizes)} sizes, 1 ratio"
    rows.append((whole, own.sizes, (1.0,), "anchors 3 scales 1 ratio"))
    more = (sizes[0] / 2, *sizes, 2 * sizes[-1])
    rows.append((f"anchors: {len(more)} sizes, {count} ratios", more, own.ratios, None))
    return rows


def lambda_rows(config: Config, table: Table, store: Store) -> None:
    """Table 9: the weight of the RPN's box loss."""
    paper = table.paper
    for weight in (0.1, 1.0, 10.0, 100.0):
        loss = dataclasses.replace(config.rpn.loss, scale="matlab", box_weight=weight)
        changed = dataclasses.replace(config, rpn=dataclasses.replace(config.rpn, loss=loss))
        figure = paper.of(f"lambda = {weight:g}")
        other(f"lambda = {weight:g}, the MATLAB code's loss", changed, table, store, figure)
    table.claim(
        "lambda = 10, the MATLAB code's loss",
        "lambda = 0.1, the MATLAB code's loss",
        paper.difference("lambda = 10", "lambda = 0.1"),
    )


def _detect(data: Dataset, proposals: Artifact, fast: Artifact, store: Store) -> Path:
    return store.run(detect_fast, data, proposals, fast).path / "detections.json"


def _fast(
    config: Config, data: Dataset, trained: Artifact, store: Store, top: int | None = None
) -> Artifact:
    """A training's detector as a Fast R-CNN, which takes proposals from anyone, the best `top`."""
    return store.run(
        assemble_fast,
        data.classes,
        store.run(without_rpn, trained),
        config.backbone.name,
        top,
        SelectiveSearchConfig(),
        config.scale,
        config.detection,
    )


@stage(version=1)
def without_rpn(job: Job, trained: Artifact) -> None:
    """A training's weights without the RPN's: `FastRCNN`'s state."""
    state = load_state(trained.path / "weights.pt")
    with replacing(job.folder / "weights.pt") as file:
        torch.save({k: v for k, v in state.items() if not k.startswith(RPN_LAYERS)}, file)


def _train_fast(
    config: Config, data: Dataset, proposals: Artifact, top: int | None, store: Store
) -> Artifact:
    """Step 2 of the alternating training, on other proposals, the best `top` of an image."""
    return store.run(
        train_detector,
        training_split(data, config.difficult),
        proposals,
        find_weights(config.backbone, store),
        config.backbone.name,
        top,
        config.scale.train,
        config.scale.longest,
        config.alternating.sampling,
        config.loss,
        config.alternating.detector,
    )
