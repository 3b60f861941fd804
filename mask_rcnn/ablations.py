"""`python -m mask_rcnn ablations`: the paper's tables 2 and 3, ours beside its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mask_rcnn.config import PRESETS, PUBLISHED, Config
from mask_rcnn.pictures import draw_side_by_side, with_masks
from mask_rcnn.pipeline import Trained, train_and_test
from stages.ablation import (
    Claim,
    Variant,
    coco_boxes,
    coco_masks,
    compare,
    keep_description,
    write_tables,
)
from stages.data.load import load_data
from stages.data.records import Dataset
from stages.errors import InputError
from stages.evaluation.masks import have_masks
from stages.options import parse, store_of
from stages.published.figures import Figure, Paper, paper_beside
from stages.store import Artifact, describe

NOTE = (
    "The paper's figures: {whose}, on COCO's minival, those of masks from tables 2a, 2d and 2e; those of a "
    "difference from tables 2b and 2c and section 4.2 with ResNet-50-C4; those of boxes from table 2d with "
    "ResNet-50-C5, and table 3 with ResNet-101-FPN on test-dev. With another network or on other images "
    "their order and their differences are to be compared, not their values."
)
OWN = "RoIAlign, sigmoid, a mask for each class, FCN"
WITH_C5 = ("mobilenet_v2", "resnet18", "resnet50")


def ablate(arguments: Sequence[str]) -> None:
    """Train every variant, print the tables of masks and boxes, leave them in the runs' folder.

    Where a test object has no mask there is no table of masks, which is said before anything is trained.

    Args:
        arguments: the options of `python -m mask_rcnn`.

    Raises:
        InputError: without a mask branch, or of weights that are trained already.
    """
    options, config = parse("mask_rcnn ablations", Config, PRESETS, arguments)
    if config.network.mask.branch == "none":
        raise InputError("--network.mask.branch none: is a row of its own in this table")
    if config.backbone.weights == PUBLISHED:
        raise InputError(f"WEIGHTS={PUBLISHED}: is trained already; ablations train every row")
    store = store_of(options)

    def run() -> tuple[Dataset, bool, dict[str, Trained], Artifact | None]:
        masks = have_masks(load_data(config.data, store).test)
        trained = {name: train_and_test(each, store) for name, each in variants(config).items()}
        own, pooled = trained[OWN], trained["RoIPool"]
        pictures = None
        if with_masks(own.data):
            pictures = store.run(
                draw_side_by_side, own.data, ("RoIAlign", "RoIPool"), own.model, pooled.model
            )
        return own.data, masks, trained, pictures

    data, masks, trained, pictures = store.again(run)
    name = f"{data.name}-{options.preset}-{config.backbone.name}"
    folder = options.runs / name / f"ablations-mask{f'-{options.tag}' if options.tag else ''}"
    found = {row: done.detections.path / "detections.json" for row, done in trained.items()}
    paper = paper_beside("Mask R-CNN", config.backbone.name)
    tables = [("masks", of_masks, coco_masks)] if masks else []
    texts = [
        write_tables(
            folder / kind,
            f"Mask R-CNN's ablations, {kind}: {name}",
            NOTE.format(whose=paper.whose()),
            *compare(data, *rows(found, paper), measure=measure),
        )
        for kind, rows, measure in (*tables, ("boxes", of_boxes, coco_boxes))
    ]
    if pictures is not None:
        drawn = (pictures.path / "side_by_side.png").read_bytes()
        (folder / "align_and_pool.png").write_bytes(drawn)
    keep_description(folder, describe(config))
    print("\n".join(texts) + f"\n{folder}")


def variants(config: Config) -> dict[str, Config]:
    """The run's own configuration and what the paper compares it with, by the name of the row."""

    def network(**changes: object) -> Config:
        changed = dataclasses.replace(config.network, **changes)  # type: ignore[arg-type]
        return dataclasses.replace(config, network=changed)

    own = config.network
    made = {
        OWN: config,
        "RoIPool": network(pool=dataclasses.replace(own.pool, kind="pool")),
        "RoIWarp": network(pool=dataclasses.replace(own.pool, kind="warp")),
        "softmax": network(mask=dataclasses.replace(own.mask, loss="softmax")),
        "one mask for all classes": network(
            mask=dataclasses.replace(own.mask, class_specific=False)
        ),
        "MLP": network(mask=dataclasses.replace(own.mask, branch="mlp")),
        "C4": network(features="c4"),
        "no mask branch": network(mask=dataclasses.replace(own.mask, branch="none")),
    }
    if config.backbone.name in WITH_C5:
        made["C5"] = network(features="c5")
        pool = dataclasses.replace(own.pool, kind="pool")
        made["C5, RoIPool"] = network(features="c5", pool=pool)
    return made


def of_masks(found: dict[str, Path], paper: Paper) -> tuple[list[Variant], list[Claim]]:
    """The rows that have masks, and what the paper says of them."""
    full, c4 = paper.of("full"), paper.of("full", "ResNet-50-C4")
    theirs = {
        "C4": c4,
        OWN: full,
        "MLP": paper.of("mask branch MLP"),
        "C5": paper.of("RoIAlign", "ResNet-50-C5"),
        "C5, RoIPool": paper.of("RoIPool", "ResNet-50-C5"),
    }
    rows = [
        Variant(name, path, theirs.get(name))
        for name, path in found.items()
        if name != "no mask branch"
    ]

    def of_c4(better: str, worse: str) -> Figure:
        return paper.difference(better, worse, "ResNet-50-C4")

    claims = [
        Claim(OWN, "RoIPool", of_c4("RoIAlign", "RoIPool")),
        Claim(OWN, "RoIWarp", of_c4("RoIAlign", "RoIWarp")),
        Claim(OWN, "softmax", of_c4("sigmoid masks", "softmax masks")),
        Claim(
            OWN,
            "one mask for all classes",
            of_c4("class-specific masks", "class-agnostic masks"),
        ),
        Claim(OWN, "MLP"),
        Claim(OWN, "C4", full.less(c4) if full and c4 else None),
    ]
    if "C5" in found:
        claims.append(Claim("C5", "C5, RoIPool"))
    return rows, claims


def of_boxes(found: dict[str, Path], paper: Paper) -> tuple[list[Variant], list[Claim]]:
    """Every row, and whether learning masks helps the boxes (table 3)."""

    def of(system: str, network: str) -> Figure | None:
        return paper.of(system, network, "box AP")

    theirs = {
        OWN: of("full, test-dev", "ResNet-101-FPN"),
        "no mask branch": of("no mask branch, test-dev", "ResNet-101-FPN"),
        "C5": of("RoIAlign", "ResNet-50-C5"),
        "C5, RoIPool": of("RoIPool", "ResNet-50-C5"),
    }
    rows = [Variant(name, path, theirs.get(name)) for name, path in found.items()]
    claims = [Claim(OWN, "no mask branch"), Claim(OWN, "RoIPool"), Claim(OWN, "C4")]
    if "C5" in found:
        claims.append(Claim("C5", "C5, RoIPool"))
    return rows, claims
