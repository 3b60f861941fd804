"""`make ablations PAPER=rcnn`: layer x fine-tuning x box regression (R-CNN, section 3.2 and table 2).

And the fine-tuned network's own softmax instead of the SVMs (appendix B). The variants share every
stage they can: proposals, pre-training, one fine-tuning, one set of box regressors for each network.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rcnn_v1.config import PRESETS, Config
from rcnn_v1.pipeline import train_and_test
from rcnn_v1.softmax import detect_by_softmax
from stages.ablation import Claim, Variant, compare, keep_description, write_tables
from stages.backbones.config import Name
from stages.backbones.networks import layers_of, new_layers_of
from stages.data.records import Dataset
from stages.errors import InputError
from stages.options import parse, store_of
from stages.published.figures import Paper, paper_beside
from stages.store import Store, describe

# The paper's rows, by layer, fine-tuning and box regression.
ROWS = {
    ("pool5", False, False): "pool5 no fine-tuning",
    ("fc6", False, False): "fc6 no fine-tuning",
    ("fc7", False, False): "fc7 no fine-tuning",
    ("pool5", True, False): "pool5 fine-tuned",
    ("fc6", True, False): "fc6 fine-tuned",
    ("fc7", True, False): "fc7 fine-tuned",
    ("fc7", True, True): "fc7 fine-tuned + box regression",
}
SOFTMAX = "softmax of the fine-tuned network"
NOTE = (
    "The paper's figures: {whose}, on VOC 2007 (tables 2 and 3, appendix B): on other images, or with "
    "another network, its order and its differences are to be compared, not its values."
)


def ablate(arguments: Sequence[str]) -> None:
    """Run every variant, print the tables, leave them in the runs' folder.

    Args:
        arguments: the options of `python -m rcnn_v1`, and `--rows softmax`: only the last layer, fine-tuned,
            and the softmax over it.

    Raises:
        InputError: rows of a fine-tuned network are asked for, and no fine-tuning.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--rows", choices=("all", "softmax"), default="all")
    chosen, rest = parser.parse_known_args(list(arguments))
    options, config = parse("rcnn_v1 ablations", Config, PRESETS, rest)
    if chosen.rows == "softmax" and not config.fine_tune.sgd.iterations:
        raise InputError("--fine-tune.sgd.iterations 0: leaves no softmax for --rows softmax")
    store = store_of(options)
    kinds = kinds_of(config.backbone.name)
    if chosen.rows == "softmax":
        kinds = kinds[-1:]
    tested = store.again(lambda: run_variants(config, kinds, store))
    data = tested[0].data
    name = f"{data.name}-{options.preset}-{config.backbone.name}"
    words = ["ablations-rcnn", "softmax" if chosen.rows == "softmax" else "", options.tag]
    folder = options.runs / name / "-".join(word for word in words if word)
    paper = paper_beside("R-CNN", config.backbone.name)
    title, note = f"R-CNN's ablations: {name}", NOTE.format(whose=paper.whose())
    text = write_tables(folder, title, note, *compare(data, *rows(tested, paper)))
    keep_description(folder, describe(config))
    print(f"{text}\n{folder}")


@dataclass(frozen=True)
class Ablated:
    """A variant that was trained and tested; `by_softmax`: the detections of its network's own scores."""

    layer: str
    tuned: bool
    data: Dataset
    detections: Path
    by_softmax: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.layer}, {'fine-tuned' if self.tuned else 'not fine-tuned'}"


def kinds_of(name: Name) -> list[tuple[str, bool]]:
    """Every layer, not fine-tuned and fine-tuned; a layer whose weights are random only the latter."""
    layers, new = layers_of(name), new_layers_of(name)
    every = [(layer, tuned) for tuned in (False, True) for layer in layers]
    return [(layer, tuned) for layer, tuned in every if tuned or layer not in new]


def run_variants(config: Config, kinds: Sequence[tuple[str, bool]], store: Store) -> list[Ablated]:
    """Those kinds, and the softmax of the last layer's fine-tuned network."""
    tested = []
    without = dataclasses.replace(config.fine_tune.sgd, iterations=0)
    for layer, tuned in kinds:
        sgd = config.fine_tune.sgd if tuned else without
        changed = dataclasses.replace(
            config,
            fine_tune=dataclasses.replace(config.fine_tune, sgd=sgd),
            features=dataclasses.replace(config.features, layer=layer),
        )
        done = train_and_test(changed, store)
        by_softmax = None
        if layer == layers_of(config.backbone.name)[-1] and done.tuned is not None:
            found = store.run(detect_by_softmax, done.data, done.proposals, done.model, done.tuned)
            by_softmax = found.path
        tested.append(Ablated(layer, tuned, done.data, done.detections.path, by_softmax))
    return tested


def rows(tested: Sequence[Ablated], paper: Paper) -> tuple[list[Variant], list[Claim]]:
    """The tables' rows: each variant without and with box regression, and what the paper claims."""
    variants, claims = [], []
    by_kind = {(variant.layer, variant.tuned): variant.name for variant in tested}
    last = tested[-1].layer
    for variant in tested:
        name, regressed = variant.name, f"{variant.name}, box regression"
        for row, kind, boxes in ((name, "unregressed", False), (regressed, "detections", True)):
            theirs = ROWS.get((variant.layer, variant.tuned, boxes))
            found = variant.detections / f"{kind}.json"
            variants.append(Variant(row, found, None if theirs is None else paper.of(theirs)))
        claims.append(Claim(regressed, name))
        if variant.by_softmax is not None:
            variants.append(
                Variant(SOFTMAX, variant.by_softmax / "detections.json", paper.of(SOFTMAX))
            )
            claims.append(Claim(name, SOFTMAX, paper.difference("fc7 fine-tuned", SOFTMAX)))
        if variant.tuned and (variant.layer, False) in by_kind:
            claims.append(Claim(name, by_kind[variant.layer, False]))
        if variant.tuned and variant.layer != last:
            claims.append(Claim(by_kind[last, True], name))
    return variants, claims
