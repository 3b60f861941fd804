"""`make ablations PAPER=faster`: what each of Faster R-CNN's choices is worth (tables 2 and 8 to 10).

Every row is one change to the run that `make faster` makes; what a row does not change it shares.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from fast_rcnn.pipeline import assemble as assemble_fast
from fast_rcnn.pipeline import detect as detect_fast
from fast_rcnn.train import train_detector
from faster_rcnn.config import PRESETS, Config, ProposalConfig
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
    "their differences are to be compared, not their values. In table 2 the rows of fewer proposals and "
    "without cls or reg are of a detector that was trained on selective search's; here of the run's own."
)
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
            other training than the run's own; `--proposals-file`: selective search's, made elsewhere.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--rows", choices=("all", "test"), default="all")
    parser.add_argument("--proposals-file")
    chosen, rest = parser.parse_known_args(list(arguments))
    options, config = parse("faster_rcnn ablations", Config, PRESETS, rest)
    store = store_of(options)

    def run() -> tuple[Dataset, Table, dict[str, Artifact]]:
        base = train_and_test(config, store)
        searched = find_proposals(
            SelectiveSearchConfig(), chosen.proposals_file, base.data, store
        ).all
        table = Table(paper_beside("Faster R-CNN", config.backbone.name))
        own = test_time_rows(config, base, searched, table, store)
        if chosen.rows == "all":
            trained_rows(config, base, searched, own, table, store)
        many = dataclasses.replace(config.proposals, after=2000)
        proposed = propose_with(config, base.data, base.rpn, many, "test", store)
        return base.data, table, {"the RPN": proposed, "selective search": searched}

    data, table, proposals = store.again(run)
    name = f"{data.name}-{options.preset}-{config.backbone.name}"
    folder = options.runs / name / f"ablations-faster{f'-{options.tag}' if options.tag else ''}"
    title = f"Faster R-CNN's ablations: {name}, {config.training} training"
    note = NOTE.format(whose=table.paper.whose())
    text = write_tables(folder, title, note, *compare(data, table.rows, table.claims))
    readers = {by: Proposals(made.path / "proposals.h5") for by, made in proposals.items()}
    found = recalls(data.test, readers)
    found.to_csv(folder / "recall.csv", index=False, float_format="%.3f")
    draw_recalls(found, folder / "recall.png", f"Recall of the test split's objects: {name}")
    keep_description(folder, describe(config))
    print(f"{text}\n{folder}")


def test_time_rows(
    config: Config, base: Trained, searched: Artifact, table: Table, store: Store
) -> str:
    """Other proposals for the finished detector. Returns the name of the run's own row."""
    found, paper = base.detections.path, table.paper
    after = config.proposals.after
    own = table.add(
        f"{after} proposals of the RPN ({config.training})",
        found / "detections.json",
        paper.of("4-step shared"),
    )
    still = table.add("tested without box regression", found / "unregressed.json")
    table.claim(own, still)
    fast = _fast(config, base.data, base.detector, store)

    def see(label: str, proposals: ProposalConfig, theirs: Figure | None = None) -> str:
        proposed = propose_with(config, base.data, base.rpn, proposals, "test", store)
        return table.add(label, _detect(base.data, proposed, fast, store), theirs)

    def change(**changes: object) -> ProposalConfig:
        return dataclasses.replace(config.proposals, **changes)  # type: ignore[arg-type]

    for count in (50, 100, 1000):
        theirs = paper.of(f"{count} proposals")
        if theirs is None and count > 50:
            theirs = paper.of(f"SS-trained detector with {count} RPN proposals")
        label = see(f"{count} proposals", change(after=count), theirs)
        if count < after:
            table.claim(own, label)
    everything = see(
        "6000 proposals, no NMS",
        change(nms_iou=1.0, after=6000),
        paper.of("SS-trained detector with 6000 RPN proposals without NMS"),
    )
    table.claim(own, everything)
    for count in (100, 300, 1000):
        # The paper draws N at random without NMS, since it has no order.
        unscored = change(scores="none", nms_iou=1.0, before=None, after=count)
        theirs = paper.of(f"RPN without cls {count} proposals")
        see(f"without cls: {count} at random", unscored, theirs)
    table.claim(
        "100 proposals",
        "without cls: 100 at random",
        paper.difference(
            "SS-trained detector with 100 RPN proposals", "RPN without cls 100 proposals"
        ),
    )
    for count in (300, 1000):
        theirs = paper.of(f"RPN without reg {count} proposals")
        see(f"without reg: {count} anchors", change(boxes="none", after=count), theirs)
    if after == 300:
        table.claim(
            own,
            "without reg: 300 anchors",
            paper.difference(
                "SS-trained detector with 300 RPN proposals", "RPN without reg 300 proposals"
            ),
        )
    by_search = _detect(
        base.data, searched, _fast(config, base.data, base.detector, store, TOP), store
    )
    table.claim(own, table.add("selective search's 2000 at test only", by_search))
    return own


def trained_rows(
    config: Config, base: Trained, searched: Artifact, own: str, table: Table, store: Store
) -> None:
    """Other trainings: the other way, unshared, on selective search's proposals, other anchors and lambda."""

    paper = table.paper

    def other(label: str, changed: Config, theirs: Figure | None = None) -> Trained:
        done = train_and_test(changed, store)
        table.add(label, done.detections.path / "detections.json", theirs)
        return done

    way: Literal["alternating", "joint"] = (
        "joint" if config.training == "alternating" else "alternating"
    )
    swapped = dataclasses.replace(config, training=way)
    second = other(f"{way} training", swapped)
    joint, alternating = (
        (own, f"{way} training") if config.training == "joint" else (f"{way} training", own)
    )
    table.claim(joint, alternating, paper.difference("approximate joint", "4-step shared"))
    steps = (base if config.training == "alternating" else second).training
    first_rpn, first_detector = steps[0], steps[2]
    apart = propose_with(config, base.data, first_rpn, config.proposals, "test", store)
    two = _fast(config, base.data, first_detector, store)
    unshared = table.add(
        "unshared: steps 1 and 2 alone",
        _detect(base.data, apart, two, store),
        paper.of("4-step unshared"),
    )
    shared = paper.difference("4-step shared", "4-step unshared")
    table.claim(alternating, unshared, shared)

    for_search = _train_fast(config, base.data, searched, TOP, store)
    model = _fast(config, base.data, for_search, store, TOP)
    by_search = table.add(
        "Fast R-CNN: selective search in training and test",
        _detect(base.data, searched, model, store),
        paper.of("selective search instead of RPN"),
    )
    mixed = table.add(
        "selective search in training, the RPN's (step 1) at test",
        _detect(base.data, apart, model, store),
        paper.of("SS-trained detector with 300 RPN proposals"),
    )
    table.claim(alternating, by_search)
    table.claim(by_search, mixed)

    # Every anchor as a proposal, neither scored nor moved (section 4.1, "one-stage").
    every = dataclasses.replace(
        config.proposals, before=None, nms_iou=1.0, after=20_000, scores="none", boxes="none"
    )
    dense_train = propose_with(config, base.data, first_rpn, every, "train", store)
    dense_test = propose_with(config, base.data, first_rpn, every, "test", store)
    on_dense = _train_fast(config, base.data, dense_train, None, store)
    one_stage = _fast(config, base.data, on_dense, store)
    label = table.add(
        "one stage: the detector on every anchor",
        _detect(base.data, dense_test, one_stage, store),
        paper.of("one stage (dense boxes)"),
    )
    table.claim(unshared, label, paper.difference("two stages", "one stage (dense boxes)"))

    anchors = config.rpn.anchors
    middle = (anchors.sizes[len(anchors.sizes) // 2],)
    for label, sizes, ratios, theirs in (
        ("anchors: 1 size, 1 ratio", middle, (1.0,), "anchors 1 scale (256) 1 ratio"),
        ("anchors: 1 size, 3 ratios", middle, anchors.ratios, "anchors 1 scale (256) 3 ratios"),
        ("anchors: 3 sizes, 1 ratio", anchors.sizes, (1.0,), "anchors 3 scales 1 ratio"),
    ):
        fewer = dataclasses.replace(anchors, sizes=sizes, ratios=ratios)
        rpn = dataclasses.replace(config.rpn, anchors=fewer)
        other(label, dataclasses.replace(config, rpn=rpn), paper.of(theirs))
        table.claim(own, label, paper.difference("anchors 3 scales 3 ratios", theirs))
    for weight in (0.1, 1.0, 10.0, 100.0):
        loss = dataclasses.replace(config.rpn.loss, scale="matlab", box_weight=weight)
        rpn = dataclasses.replace(config.rpn, loss=loss)
        other(
            f"lambda = {weight:g}, the MATLAB code's loss",
            dataclasses.replace(config, rpn=rpn),
            paper.of(f"lambda = {weight:g}"),
        )
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
