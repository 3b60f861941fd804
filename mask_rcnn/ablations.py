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
from stages.store import Artifact, describe

NOTE = (
    "The paper's figures: AP on COCO's minival, tables 2b, 2c and 2e and section 4.2 with ResNet-50-C4 or "
    "-FPN, 2d with ResNet-50-C5, table 3 with ResNet-101-FPN; another network on other images: their order "
    "and their differences are to be compared, not their values."
)
OWN = "RoIAlign, sigmoid, a mask for each class, FCN"
WITH_C5 = ("mobilenet_v2", "resnet18", "resnet50")


def ablate(arguments: Sequence[str]) -> None:
    """Train every variant, print the tables of masks and boxes, leave them in the runs' folder.

    Where no test object has a mask there is no table of masks, which is said before anything is trained.

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
    tables = [("masks", of_masks, coco_masks)] if masks else []
    texts = [
        write_tables(
            folder / kind,
            f"Mask R-CNN's ablations, {kind}: {name}",
            NOTE,
            *compare(data, *rows(found), measure=measure),
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


def of_masks(found: dict[str, Path]) -> tuple[list[Variant], list[Claim]]:
    """The rows that have masks, and what the paper says of them."""
    paper = {
        "C4": 30.3,
        OWN: 33.6,
        "MLP": 31.5,
        "C5": 30.9,
        "C5, RoIPool": 23.6,
    }
    rows = [
        Variant(name, path, paper.get(name))
        for name, path in found.items()
        if name != "no mask branch"
    ]
    claims = [
        Claim(OWN, "RoIPool", 30.3 - 26.9),
        Claim(OWN, "RoIWarp", 30.3 - 27.2),
        Claim(OWN, "softmax", 30.3 - 24.8),
        Claim(OWN, "one mask for all classes", 30.3 - 29.7),
        Claim(OWN, "MLP"),
        Claim(OWN, "C4"),
    ]
    if "C5" in found:
        claims.append(Claim("C5", "C5, RoIPool"))
    return rows, claims


def of_boxes(found: dict[str, Path]) -> tuple[list[Variant], list[Claim]]:
    """Every row, and whether learning masks helps the boxes (table 3)."""
    paper = {OWN: 38.2, "no mask branch": 37.3, "C5": 34.0, "C5, RoIPool": 28.2}
    rows = [Variant(name, path, paper.get(name)) for name, path in found.items()]
    claims = [Claim(OWN, "no mask branch"), Claim(OWN, "RoIPool"), Claim(OWN, "C4")]
    if "C5" in found:
        claims.append(Claim("C5", "C5, RoIPool"))
    return rows, claims
