"""`make ablations PAPER=spp`: scales x layer x fine-tuning x box regression (SPPnet, section 4.2, table 10).

The variants share every stage they can: proposals, pre-training, each scale's maps, and for each set of
scales one fine-tuning and one set of box regressors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spp_net.config import PRESETS, Config
from spp_net.network import new_layers
from spp_net.pipeline import train_and_test
from stages.ablation import Claim, Variant, compare, keep_description, write_tables
from stages.backbones.networks import layers_of
from stages.data.records import Dataset
from stages.options import parse, store_of
from stages.published.figures import Paper, paper_beside
from stages.store import Store, describe

# The paper's rows, by layer, fine-tuning and box regression. It leaves out fc7 that is not fine-tuned.
ROWS = {
    ("pool5", False, False): "pool5 no fine-tuning",
    ("fc6", False, False): "fc6 no fine-tuning",
    ("fc6", True, False): "fc6 fine-tuned",
    ("fc7", True, False): "fc7 fine-tuned",
    ("fc7", True, True): "fc7 fine-tuned + box regression",
}
NOTE = (
    "The paper's figures: {whose}, on VOC 2007 (tables 9 and 10; VGG16's: Fast R-CNN, table 4, without the "
    "difficult objects), one scale of 688 and five: on other images, or with another network, its order and "
    "its differences are to be compared, not its values."
)


def ablate(arguments: Sequence[str]) -> None:
    """Run every variant, print the tables, leave them in the runs' folder.

    Args:
        arguments: the options of `python -m spp_net`.
    """
    options, config = parse("spp_net ablations", Config, PRESETS, arguments)
    store = store_of(options)
    tested = store.again(lambda: run_variants(config, store))
    data = tested[0].data
    name = f"{data.name}-{options.preset}-{config.backbone.name}"
    folder = options.runs / name / f"ablations-spp{f'-{options.tag}' if options.tag else ''}"
    paper = paper_beside("SPPnet", config.backbone.name)
    title, note = f"SPPnet's ablations: {name}", NOTE.format(whose=paper.whose())
    text = write_tables(folder, title, note, *compare(data, *rows(tested, paper)))
    keep_description(folder, describe(config))
    print(f"{text}\n{folder}")


@dataclass(frozen=True)
class Ablated:
    """A variant that was trained and tested."""

    scales: int
    layer: str
    tuned: bool
    data: Dataset
    detections: Path

    @property
    def name(self) -> str:
        scales = "1 scale" if self.scales == 1 else f"{self.scales} scales"
        return f"{scales}, {self.layer}, {'fine-tuned' if self.tuned else 'not fine-tuned'}"


def one_of(scales: Sequence[int]) -> int:
    """The scale that stands for all where there is but one: the middle one, of the paper's 688."""
    return sorted(scales)[len(scales) // 2]


def run_variants(config: Config, store: Store) -> list[Ablated]:
    """One scale and all; every layer, not fine-tuned and fine-tuned.

    Left out are layers that are random before they are tuned, and pool5 after: fine-tuning leaves
    it as it is.
    """
    name, tested = config.backbone.name, []
    scales, levels = config.pyramid.scales, config.pyramid.levels
    without = dataclasses.replace(config.fine_tune.sgd, iterations=0)
    for of_variant in dict.fromkeys([(one_of(scales),), scales]):
        for tuned in (False, True):
            for layer in layers_of(name):
                if layer in (("pool5",) if tuned else new_layers(name, levels)):
                    continue
                sgd = config.fine_tune.sgd if tuned else without
                changed = dataclasses.replace(
                    config,
                    pyramid=dataclasses.replace(config.pyramid, scales=of_variant),
                    fine_tune=dataclasses.replace(config.fine_tune, sgd=sgd),
                    features=dataclasses.replace(config.features, layer=layer),
                )
                done = train_and_test(changed, store)
                tested.append(
                    Ablated(len(of_variant), layer, tuned, done.data, done.detections.path)
                )
    return tested


def rows(tested: Sequence[Ablated], paper: Paper) -> tuple[list[Variant], list[Claim]]:
    """The tables' rows: each variant without and with box regression, and what the paper claims."""
    variants, claims = [], []
    names = {(variant.scales, variant.layer, variant.tuned): variant.name for variant in tested}
    last = tested[-1].layer
    for variant in tested:
        name, regressed = variant.name, f"{variant.name}, box regression"
        scales = "5 scales" if variant.scales > 1 else "1 scale"
        for row, kind, boxes in ((name, "unregressed", False), (regressed, "detections", True)):
            theirs = ROWS.get((variant.layer, variant.tuned, boxes))
            figure = None if theirs is None else paper.of(f"{scales}, {theirs}")
            variants.append(Variant(row, variant.detections / f"{kind}.json", figure))
        claims.append(Claim(regressed, name))
        others = [(variant.scales, variant.layer, False)] if variant.tuned else []
        others += [(1, variant.layer, variant.tuned)] if variant.scales > 1 else []
        claims += [Claim(name, names[other]) for other in others if other in names]
        if variant.tuned and variant.layer != last:
            claims.append(Claim(names[variant.scales, last, True], name))
        if variant.scales > 1 and (1, variant.layer, variant.tuned) in names:
            one = f"{names[1, variant.layer, variant.tuned]}, box regression"
            claims.append(Claim(regressed, one))
    return variants, claims
