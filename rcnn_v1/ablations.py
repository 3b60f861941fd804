"""`make ablations PAPER=rcnn`: layer x fine-tuning x box regression (R-CNN, section 3.2 and table 2).

The variants share every stage they can: proposals, pre-training, one fine-tuning, one set of box
regressors for each network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rcnn_v1.config import PRESETS, Config
from rcnn_v1.pipeline import train_and_test
from stages.ablation import Claim, Variant, compare, keep_description, write_tables
from stages.backbones.networks import layers_of, new_layers_of
from stages.data.records import Dataset
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
NOTE = (
    "The paper's figures: {whose}, on VOC 2007 (tables 2 and 3): on other images, or with another network, "
    "its order and its differences are to be compared, not its values."
)


def ablate(arguments: Sequence[str]) -> None:
    """Run every variant, print the tables, leave them in the runs' folder.

    Args:
        arguments: the options of `python -m rcnn_v1`.
    """
    options, config = parse("rcnn_v1 ablations", Config, PRESETS, arguments)
    store = store_of(options)
    tested = store.again(lambda: run_variants(config, store))
    data = tested[0].data
    name = f"{data.name}-{options.preset}-{config.backbone.name}"
    folder = options.runs / name / f"ablations-rcnn{f'-{options.tag}' if options.tag else ''}"
    paper = paper_beside("R-CNN", config.backbone.name)
    title, note = f"R-CNN's ablations: {name}", NOTE.format(whose=paper.whose())
    text = write_tables(folder, title, note, *compare(data, *rows(tested, paper)))
    keep_description(folder, describe(config))
    print(f"{text}\n{folder}")


@dataclass(frozen=True)
class Ablated:
    """A variant that was trained and tested."""

    layer: str
    tuned: bool
    data: Dataset
    detections: Path

    @property
    def name(self) -> str:
        return f"{self.layer}, {'fine-tuned' if self.tuned else 'not fine-tuned'}"


def run_variants(config: Config, store: Store) -> list[Ablated]:
    """Every layer, not fine-tuned and fine-tuned; a layer whose weights are random only the latter."""
    name, tested = config.backbone.name, []
    without = dataclasses.replace(config.fine_tune.sgd, iterations=0)
    for tuned in (False, True):
        for layer in layers_of(name):
            if layer in new_layers_of(name) and not tuned:
                continue
            sgd = config.fine_tune.sgd if tuned else without
            changed = dataclasses.replace(
                config,
                fine_tune=dataclasses.replace(config.fine_tune, sgd=sgd),
                features=dataclasses.replace(config.features, layer=layer),
            )
            finished = train_and_test(changed, store)
            tested.append(Ablated(layer, tuned, finished.data, finished.detections.path))
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
        if variant.tuned and (variant.layer, False) in by_kind:
            claims.append(Claim(name, by_kind[variant.layer, False]))
        if variant.tuned and variant.layer != last:
            claims.append(Claim(by_kind[last, True], name))
    return variants, claims
