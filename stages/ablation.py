"""Ablations: variants of a detector on the same images, ours beside the paper's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.data.records import Dataset
from stages.evaluation.bootstrap import interval, mean_ap, resampled_map
from stages.evaluation.coco_ap import coco_evaluation, coco_values
from stages.evaluation.coco_bootstrap import resampled_coco_ap
from stages.evaluation.detections_io import Detections, load_detections, sizes_of
from stages.evaluation.evaluate import IOU
from stages.evaluation.masks import TrueMasks, true_masks
from stages.evaluation.voc_ap import match
from stages.published.figures import Figure
from stages.writing import replacing


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: what makes it different.
        detections: its `detections.json`, of the test split.
        paper: the paper's value in per cent, on the paper's data; None if it has none of the network.
        seconds: for an image, without its proposals, where speed is what is compared.
    """

    name: str
    detections: Path
    paper: Figure | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Claim:
    """What the paper's table says by two of its rows: `better` is above `worse`.

    Attributes:
        paper: by how much, where the rows' own figures do not tell.
    """

    better: str
    worse: str
    paper: Figure | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """What detections are worth, 0..1.

    Attributes:
        samples: on each draw of the test images; draw b has the same images for all that is measured.
        more: other values, by the name of their column.
    """

    value: float
    samples: np.ndarray
    more: dict[str, float]


# (data, detections, draws) -> what they are worth.
Measure = Callable[[Dataset, Detections, int], Measured]


def voc07(data: Dataset, detections: Detections, draws: int) -> Measured:
    """VOC 2007's mAP of boxes; more: `area_map`."""
    matches = match(data.test, detections, len(data.classes), IOU)
    samples = resampled_map(matches, draws)["voc07"]
    return Measured(mean_ap(matches, "voc07"), samples, {"area_map": mean_ap(matches, "area")})


def coco_boxes(data: Dataset, detections: Detections, draws: int) -> Measured:
    """COCO's AP of boxes; more: `ap50`, `ap75`."""
    return _coco(data, detections, draws, None)


def coco_masks(data: Dataset, detections: Detections, draws: int) -> Measured:
    """COCO's AP of masks; more: `ap50`, `ap75`. Detections and objects have masks."""
    return _coco(data, detections, draws, true_masks(data.test))


def _coco(data: Dataset, detections: Detections, draws: int, masks: TrueMasks | None) -> Measured:
    evaluation = coco_evaluation(data.test, detections, len(data.classes), masks)
    values = coco_values(evaluation)
    more = {"ap50": values["AP50"], "ap75": values["AP75"]}
    return Measured(values["AP"], resampled_coco_ap(evaluation, draws), more)


def compare(
    data: Dataset,
    variants: Sequence[Variant],
    claims: Sequence[Claim],
    draws: int = 1000,
    measure: Measure = voc07,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every variant's value with its interval, and every claim's difference.

    Returns:
        a row a variant: `variant`, `map`, `low`, `high`, what more is measured, `paper_map`,
        `paper_network`, `seconds`; and a row a claim: `better`, `worse`, `difference`, `low`, `high`,
        `paper_difference`, `paper_network`, `verdict`. All in per cent; intervals are of 95 %, those of
        differences over the same draws of images.
    """
    measured: dict[str, Measured] = {}
    rows, differences = [], []
    sizes = sizes_of(data.test)
    for variant in variants:
        found = load_detections(variant.detections, data.category_ids, sizes)
        worth = measured[variant.name] = measure(data, found, draws)
        low, high = interval(worth.samples)
        rows.append(
            {
                "variant": variant.name,
                "map": 100 * worth.value,
                "low": 100 * low,
                "high": 100 * high,
                **{name: 100 * value for name, value in worth.more.items()},
                "paper_map": variant.paper and variant.paper.value,
                "paper_network": variant.paper and variant.paper.network,
                "seconds": variant.seconds,
            }
        )
    papers = {variant.name: variant.paper for variant in variants}
    for claim in claims:
        theirs = claim.paper or _difference(papers[claim.better], papers[claim.worse])
        better, worse = measured[claim.better], measured[claim.worse]
        difference = better.value - worse.value
        low, high = interval(better.samples - worse.samples)
        verdict = "not separated"
        if low > 0 or high < 0:
            verdict = "as the paper" if difference > 0 else "against the paper"
        differences.append(
            {
                "better": claim.better,
                "worse": claim.worse,
                "difference": 100 * difference,
                "low": 100 * low,
                "high": 100 * high,
                "paper_difference": theirs and theirs.value,
                "paper_network": theirs and theirs.network,
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows), pd.DataFrame(differences)


def _difference(better: Figure | None, worse: Figure | None) -> Figure | None:
    """Of two rows; None where the paper has not both, of one network."""
    if better is None or worse is None or better.network != worse.network:
        return None
    return better.less(worse)


CHANCE = (
    "Intervals are of the test images, drawn again; each row is one training or none, and what another seed "
    "would make of it is not in them."
)


def write_tables(
    folder: Path, title: str, note: str, variants: pd.DataFrame, claims: pd.DataFrame
) -> str:
    """Write `variants.csv`, `claims.csv` and, both as Markdown, `ablations.md`; the last as text.

    The column of the paper's figures is headed by the network that most are of; what is of another says so.

    Args:
        note: of what the paper's figures are.
    """
    timed = variants["seconds"].notna().any()
    headings = {"map": "mAP (VOC07)", "area_map": "area"}
    if "ap50" in variants:
        headings = {"map": "AP (COCO)", "ap50": "AP50", "ap75": "AP75"}
    value, *more = headings
    lines = [f"# {title}", "", note, ""]
    network = _network_of_most(variants)
    lines.append(
        f"| | {headings[value]} | 95 % interval | {' | '.join(headings[name] for name in more)} "
        f"| {_paper(network)} |{' s an image |' if timed else ''}"
    )
    lines.append(f"|{'---|' * (4 + len(more) + timed)}")
    for _, row in variants.iterrows():
        seconds = f" {_or_dash(row['seconds'], '.3f')} |" if timed else ""
        lines.append(
            f"| {row['variant']} | {row['map']:.1f} | {row['low']:.1f} – {row['high']:.1f} "
            f"| {' | '.join(format(row[name], '.1f') for name in more)} "
            f"| {_of_paper(row, 'paper_map', '.1f', network)} |{seconds}"
        )
    network = _network_of_most(claims)
    lines += ["", f"| | difference | 95 % interval, paired | {_paper(network)} | |"]
    lines.append("|---|---|---|---|---|")
    for _, row in claims.iterrows():
        lines.append(
            f"| {row['better']} less {row['worse']} | {row['difference']:+.1f} "
            f"| {row['low']:+.1f} – {row['high']:+.1f} "
            f"| {_of_paper(row, 'paper_difference', '+.1f', network)} | {row['verdict']} |"
        )
    lines += ["", CHANCE]
    text = "\n".join(lines) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    variants.to_csv(folder / "variants.csv", index=False, float_format="%.3f")
    claims.to_csv(folder / "claims.csv", index=False, float_format="%.3f")
    with replacing(folder / "ablations.md") as file:
        file.write(text.encode())
    return text


def _network_of_most(table: pd.DataFrame) -> str | None:
    """The network that most of the paper's figures are of; None if there are none."""
    if "paper_network" not in table:  # a table without rows has no columns
        return None
    networks = Counter(table["paper_network"].dropna())
    return networks.most_common(1)[0][0] if networks else None


def _paper(network: str | None) -> str:
    return "paper" if network is None else f"paper ({network})"


def _of_paper(row: pd.Series, column: str, form: str, network: str | None) -> str:
    """The paper's figure, and whose it is if not the `network` that heads the column."""
    value = _or_dash(row[column], form)
    return (
        value
        if value == "–" or row["paper_network"] == network
        else f"{value} ({row['paper_network']})"
    )


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None or value != value else format(value, form)


def keep_description(folder: Path, description: object) -> None:
    """Write `config.json`: what the tables were made with."""
    with replacing(folder / "config.json") as file:
        file.write(json.dumps(description, indent=1).encode())
