"""`python -m mask_rcnn ablations`: the paper's tables 2 and 3, ours beside its own, or one of them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection, Sequence
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
MAXIMUM = "RoIAlign, maximum"
WITH_C5 = ("mobilenet_v2", "resnet18", "resnet50")
# The rows of each of the paper's tables; a mask for all classes is section 4.2's, beside table 2b.
PARTS = {
    "2a": (OWN, "C4"),
    "2b": (OWN, "softmax", "one mask for all classes"),
    "2c": (OWN, "RoIPool", "RoIWarp, maximum", "RoIWarp", MAXIMUM),
    "2d": ("C5", "C5, RoIPool"),
    "2e": (OWN, "MLP"),
    "3": (OWN, "no mask branch"),
}


def ablate(arguments: Sequence[str]) -> None:
    """Train every variant, print the tables of masks and boxes, leave them in the runs' folder.

    Where a test object has no mask there is no table of masks, which is said before anything is trained.

    Args:
        arguments: the options of `python -m mask_rcnn`; `--rows 2c`: only that table's, in a folder of
            their own.

    Raises:
        InputError: without a mask branch, or of weights that are trained already; or table 2d is asked
            for, and the network has no C5.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--rows", choices=("all", *PARTS), default="all")
    chosen, rest = parser.parse_known_args(list(arguments))
    options, config = parse("mask_rcnn ablations", Config, PRESETS, rest)
    if config.network.mask.branch == "none":
        raise InputError("--network.mask.branch none: is a row of its own in this table")
    if config.backbone.weights == PUBLISHED:
        raise InputError(f"WEIGHTS={PUBLISHED}: is trained already; ablations train every row")
    wanted = variants(config)
    if chosen.rows != "all":
        wanted = {row: wanted[row] for row in PARTS[chosen.rows] if row in wanted}
    if not wanted:
        raise InputError(f"BACKBONE={config.backbone.name}: has no C5, which --rows 2d is of")
    store = store_of(options)

    def run() -> tuple[Dataset, bool, dict[str, Trained], Artifact | None]:
        masks = have_masks(load_data(config.data, store).test)
        trained = {name: train_and_test(each, store) for name, each in wanted.items()}
        data = next(iter(trained.values())).data
        pictures = None
        if {OWN, "RoIPool"} <= trained.keys() and with_masks(data):
            models = trained[OWN].model, trained["RoIPool"].model
            pictures = store.run(draw_side_by_side, data, ("RoIAlign", "RoIPool"), *models)
        return data, masks, trained, pictures

    data, masks, trained, pictures = store.again(run)
    name = f"{data.name}-{options.preset}-{config.backbone.name}"
    words = ["ablations-mask", "" if chosen.rows == "all" else chosen.rows, options.tag]
    folder = options.runs / name / "-".join(word for word in words if word)
    found = {row: done.detections.path / "detections.json" for row, done in trained.items()}
    paper = paper_beside("Mask R-CNN", config.backbone.name)
    several = len(found.keys() - {"no mask branch"}) > 1
    tables = [("masks", of_masks, coco_masks)] if masks and several else []
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

    def pool(**changes: object) -> Config:
        changed = dataclasses.replace(config.network.pool, **changes)  # type: ignore[arg-type]
        return network(pool=changed)

    own = config.network
    made = {
        OWN: config,
        "RoIPool": pool(kind="pool"),
        "RoIWarp, maximum": pool(kind="warp", aggregate="max"),
        "RoIWarp": pool(kind="warp"),
        MAXIMUM: pool(aggregate="max"),
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
        rounded = dataclasses.replace(own.pool, kind="pool")
        made["C5, RoIPool"] = network(features="c5", pool=rounded)
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
        Claim(OWN, "RoIWarp", of_c4("RoIAlign", "RoIWarp, average")),
        Claim(OWN, MAXIMUM, of_c4("RoIAlign", "RoIAlign, maximum")),
        Claim("RoIWarp, maximum", "RoIWarp", of_c4("RoIWarp", "RoIWarp, average")),
        Claim(OWN, "softmax", of_c4("sigmoid masks", "softmax masks")),
        Claim(
            OWN,
            "one mask for all classes",
            of_c4("class-specific masks", "class-agnostic masks"),
        ),
        Claim(OWN, "MLP"),
        Claim(OWN, "C4", full.less(c4) if full and c4 else None),
        Claim("C5", "C5, RoIPool"),
    ]
    return rows, of_rows(claims, found)


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
    claims = [
        Claim(OWN, "no mask branch"),
        Claim(OWN, "RoIPool"),
        Claim(OWN, "C4"),
        Claim("C5", "C5, RoIPool"),
    ]
    return rows, of_rows(claims, found)


def of_rows(claims: Sequence[Claim], found: Collection[str]) -> list[Claim]:
    """The claims whose rows are both there."""
    return [claim for claim in claims if {claim.better, claim.worse} <= {*found}]
