"""`make ablations PAPER=fast`: what each of Fast R-CNN's choices is worth (sections 4.4 to 5.5).

Every row is one change to the run that `make fast` makes; what a row does not change it shares.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from fast_rcnn.config import FIVE_SCALES, PRESETS, Config, SVDConfig
from fast_rcnn.dense import propose_densely
from fast_rcnn.detector import load
from fast_rcnn.pipeline import (
    Trained,
    assemble_from,
    decompose,
    detect,
    train_and_test,
    train_on,
)
from fast_rcnn.proposal_counts import COUNTS, DENSE, compare_numbers
from fast_rcnn.svm_head import cache_fast_features, detect_by_svms
from rcnn_v1.config import SVMConfig
from rcnn_v1.svm import train_svms
from stages.ablation import Claim, Variant, compare, keep_description, write_tables
from stages.backbones.config import Name
from stages.backbones.networks import fc_sizes_of, layers_of
from stages.data.images import image_tensor
from stages.data.records import Dataset
from stages.errors import InputError
from stages.options import parse, store_of
from stages.proposals.cache import Proposals
from stages.published.figures import Figure, Paper, paper_beside
from stages.store import Artifact, Store, describe

NOTE = (
    "The paper's figures: {whose}, on VOC 2007 (tables 4 to 8), those of a difference of another network "
    "where they are given for it alone, and of hard example mining Shrivastava et al.'s, with the "
    "difference from their own baseline: on other images, or with another network, its order and its "
    "differences are to be compared, not its values. Proposals' time is not in the seconds."
)
FULL = "multi-task, softmax, one scale (the paper's choice)"
HARD = "online hard example mining"
TIMED = 8  # test images
ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """A variant that was tested, and the model to time, if speed is its point."""

    name: str
    detections: Path
    paper: Figure | None = None
    model: Artifact | None = None
    proposals: Artifact | None = None


def ablate(arguments: Sequence[str]) -> None:
    """Run every variant, print the tables, leave them in the runs' folder.

    Args:
        arguments: the options of `python -m fast_rcnn`, and `--rows test`: only those that need no
            other training than the run's own; `--rows hard`: the run's own and hard example mining's;
            `--rows proposals`: figure 3 instead, of `--counts` proposals and `--dense` boxes added.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--rows", choices=("all", "test", "hard", "proposals"), default="all")
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--dense", type=int, nargs="*", default=DENSE)
    chosen, rest = parser.parse_known_args(list(arguments))
    options, config = parse("fast_rcnn ablations", Config, PRESETS, rest)
    if chosen.rows == "proposals":
        compare_numbers(options, config, chosen.counts, chosen.dense)
        return
    if (chosen.counts, chosen.dense) != (COUNTS, DENSE):
        raise InputError("--counts, --dense: are of --rows proposals")
    store = store_of(options)
    paper = paper_beside("Fast R-CNN", config.backbone.name)

    def run() -> tuple[Dataset, list[Row], list[Claim]]:
        base = train_and_test(config, store)
        kinds = {
            "test": (test_time_rows,),
            "hard": (own_row, hard_row),
            "all": (test_time_rows, trained_rows, hard_row),
        }[chosen.rows]
        rows: list[Row] = []
        claims: list[Claim] = []
        for kind in kinds:
            more, further = kind(config, base, paper, store)
            rows, claims = [*rows, *more], [*claims, *further]
        return base.data, rows, claims

    data, rows, claims = store.again(run)
    seconds = time_rows(data, rows, options.device)
    variants = [Variant(row.name, row.detections, row.paper, seconds.get(row.name)) for row in rows]
    name = f"{data.name}-{options.preset}-{config.backbone.name}"
    words = ["ablations-fast", "hard" if chosen.rows == "hard" else "", options.tag]
    folder = options.runs / name / "-".join(word for word in words if word)
    title = f"Fast R-CNN's ablations: {name}"
    note = NOTE.format(whose=paper.whose())
    text = write_tables(folder, title, note, *compare(data, variants, claims))
    keep_description(folder, describe(config))
    print(f"{text}\n{folder}")


def own_row(
    config: Config, base: Trained, paper: Paper, store: Store
) -> tuple[list[Row], list[Claim]]:
    """The run's own, which the others are compared with."""
    found = base.detections.path / "detections.json"
    return [Row(FULL, found, paper.of("full"), base.model, base.proposals)], []


def test_time_rows(
    config: Config, base: Trained, paper: Paper, store: Store
) -> tuple[list[Row], list[Claim]]:
    """Changes to the finished detector: SVD, scales, proposals, SVMs."""
    name, (rows, claims) = config.backbone.name, own_row(config, base, paper, store)
    still = "tested without box regression"
    theirs = paper.of("multi-task in training without regression at test")
    rows.append(Row(still, base.detections.path / "unregressed.json", theirs))
    claims.append(Claim(FULL, still))

    def again(
        label: str, model: Artifact, proposals: Artifact, theirs: Figure | None = None
    ) -> None:
        detections = store.run(detect, base.data, proposals, model)
        rows.append(Row(label, detections.path / "detections.json", theirs, model, proposals))

    scale, top = config.scale, config.top
    if "fc6" in layers_of(name):
        for fc6, fc7, theirs in (
            (1 / 4, 1 / 16, paper.of("truncated SVD")),
            (1 / 16, 1 / 16, None),
        ):
            svd = SVDConfig(*ranks(name, fc6, fc7))
            label = f"truncated SVD, fc6 {svd.fc6}, fc7 {svd.fc7}"
            again(label, store.run(decompose, base.model, svd), base.proposals, theirs)
            claims.append(Claim(FULL, label))

    def otherwise(**changes: Any) -> Artifact:
        changed = dataclasses.replace(config, **changes)
        return assemble_from(changed, base.data, base.trained, store)

    scales, longest = five_scales(config)
    five = dataclasses.replace(scale, test=scales, longest=longest)
    again("five scales at test only", otherwise(scale=five), base.proposals)
    claims.append(Claim("five scales at test only", FULL))
    for fewer in (100, 300, 1000):
        if top is None or fewer < top:
            label = f"{fewer} proposals at test"
            again(label, otherwise(top=fewer), base.proposals)
            claims.append(Claim(FULL, label))
    smallest = min(min(r.width, r.height) for r in base.data.test) / 12
    dense = store.run(propose_densely, base.data, smallest, 0.5, 7)
    again("dense boxes at test instead of selective search's", otherwise(top=None), dense)
    claims.append(Claim(FULL, "dense boxes at test instead of selective search's"))
    if "fc7" in layers_of(name):
        features = store.run(
            cache_fast_features, base.data, base.proposals, base.model, config.top, "fc7"
        )
        svms = store.run(train_svms, base.data, base.proposals, features, config.top, SVMConfig())
        by_svms = store.run(detect_by_svms, base.data, base.proposals, base.model, svms, "fc7")
        label, theirs = "SVMs instead of the softmax", paper.of("SVM instead of softmax")
        rows.append(Row(label, by_svms.path / "detections.json", theirs))
        claims.append(Claim(FULL, label))
    return rows, claims


def trained_rows(
    config: Config, base: Trained, paper: Paper, store: Store
) -> tuple[list[Row], list[Claim]]:
    """Changes to the training: its loss, the layers that learn, scales, proposals."""
    rows: list[Row] = []
    claims: list[Claim] = []

    def other(label: str, theirs: Figure | None, **changes: Any) -> Trained:
        tested_config = dataclasses.replace(config, **changes)
        tested = train_and_test(tested_config, store)
        learnt = tested_config.loss.box_weight > 0
        kind = "detections.json" if learnt else "unregressed.json"
        rows.append(Row(label, tested.detections.path / kind, theirs))
        return tested

    plain = "lambda = 0: classification alone"
    loss = dataclasses.replace(config.loss, box_weight=0.0)
    alone = other(plain, paper.of("lambda = 0"), loss=loss)
    claims.append(Claim("tested without box regression", plain))
    stagewise = "stage-wise: the box layer afterwards"
    learn = dataclasses.replace(config.train, learn="boxes")
    afterwards = dataclasses.replace(config, train=learn)
    trained = train_on(afterwards, base.data, base.proposals, store, alone.trained)
    model = assemble_from(config, base.data, trained, store)
    detections = store.run(detect, base.data, base.proposals, model)
    found = detections.path / "detections.json"
    rows.append(Row(stagewise, found, paper.of("stage-wise training")))
    claims += [Claim(stagewise, plain), Claim(FULL, stagewise)]
    other("L2 instead of smooth L1", None, loss=dataclasses.replace(config.loss, box="l2"))
    claims.append(Claim(FULL, "L2 instead of smooth L1"))
    head, every = "only the fc layers learn", "all layers learn"
    theirs = ("fine-tune fc6 and up", "fine-tune conv3_1 and up", "fine-tune conv2_1 and up")
    other(head, paper.of(theirs[0]), train=dataclasses.replace(config.train, learn="head"))
    other(every, paper.of(theirs[2]), train=dataclasses.replace(config.train, learn="all"))
    claims.append(Claim(FULL, head, paper.difference(theirs[1], theirs[0])))
    claims.append(Claim(every, FULL, paper.difference(theirs[2], theirs[1])))
    scales, longest = five_scales(config)
    five = dataclasses.replace(config.scale, train=scales, test=scales, longest=longest)
    other("five scales", paper.of("5 scales"), scale=five)
    claims.append(Claim("five scales", FULL))
    for top in (100, 300):
        label = f"trained and tested with {top} proposals"
        other(label, None, top=top)
        claims.append(Claim(FULL, label))
    return rows, claims


def hard_row(
    config: Config, base: Trained, paper: Paper, store: Store
) -> tuple[list[Row], list[Claim]]:
    """Online hard example mining; the paper's difference is from its own baseline (OHEM, table 1)."""
    theirs = paper_beside("OHEM", config.backbone.name)
    row = "Fast R-CNN with it"
    hard = dataclasses.replace(config.sampling, hard=True)
    found = train_and_test(dataclasses.replace(config, sampling=hard), store).detections.path
    more = theirs.difference(row, "Fast R-CNN without it")
    return [Row(HARD, found / "detections.json", theirs.of(row))], [Claim(HARD, FULL, more)]


def five_scales(config: Config) -> tuple[tuple[int, ...], int]:
    """SPPnet's five, to the run's own scale as they are to 600; and the longer side, twice as long."""
    own = config.scale.test[0]
    return tuple(round(scale * own / 600) for scale in FIVE_SCALES), 2 * config.scale.longest


def ranks(name: Name, fc6: float, fc7: float) -> tuple[int, int]:
    """Singular values kept of fc6 and fc7, as parts of all (the paper: 1024 and 256 of 4096)."""
    sizes = fc_sizes_of(name)
    return max(1, round(sizes["fc6"] * fc6)), max(1, round(sizes["fc7"] * fc7))


def time_rows(data: Dataset, rows: Sequence[Row], device: str) -> dict[str, float]:
    """Seconds an image from decoded pixels to boxes, proposals given: medians, the models taking turns."""
    timed = [row for row in rows if row.model is not None]
    step = max(1, len(data.test) // TIMED)
    records = data.test[::step][:TIMED]
    images = [image_tensor(record) for record in records]
    seconds: dict[str, list[float]] = {row.name: [] for row in timed}
    for turn in range(ROUNDS + 1):  # the first is to warm up
        for row in timed:
            assert row.model is not None
            assert row.proposals is not None
            fast = load(row.model.path, device)
            reader = Proposals(row.proposals.path / "proposals.h5")
            for image, record in zip(images, records, strict=True):
                boxes = torch.from_numpy(reader.of(record, fast.top))
                started = time.perf_counter()
                fast([image], proposals=[boxes])[0]["boxes"].cpu()
                if turn:
                    seconds[row.name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in seconds.items()}
