"""Ablations: variants of a detector on the same images, ours beside the paper's."""

from __future__ import annotations

import json
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
from stages.writing import replacing


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: what makes it different.
        detections: its `detections.json`, of the test split.
        paper: the paper's value in per cent, on the paper's data; None if it has no such row.
        seconds: for an image, without its proposals, where speed is what is compared.
    """

    name: str
    detections: Path
    paper: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Claim:
    """What the paper's table says by two of its rows: `better` is above `worse`.

    Attributes:
        paper: by how much, where it is of another network than the rows' own figures.
    """

    better: str
    worse: str
    paper: float | None = None


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
        a row a variant: `variant`, `map`, `low`, `high`, what more is measured, `paper_map`, `seconds`;
        and a row a claim: `better`, `worse`, `difference`, `low`, `high`, `paper_difference`, `verdict`.
        All in per cent; intervals are of 95 %, those of differences over the same draws of images.
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
                "paper_map": variant.paper,
                "seconds": variant.seconds,
            }
        )
    papers = {variant.name: variant.paper for variant in variants}
    for claim in claims:
        theirs = papers[claim.better], papers[claim.worse]
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
                "paper_difference": claim.paper or _difference(*theirs),
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows), pd.DataFrame(differences)


def _difference(better: float | None, worse: float | None) -> float | None:
    return None if better is None or worse is None else better - worse


CHANCE = (
    "Intervals are of the test images, drawn again; each row is one training or none, and what another seed "
    "would make of it is not in them."
)


def write_tables(
    folder: Path, title: str, note: str, variants: pd.DataFrame, claims: pd.DataFrame
) -> str:
    """Write `variants.csv`, `claims.csv` and, both as Markdown, `ablations.md`; the last as text.

    Args:
        note: of what the paper's figures are.
    """
    timed = variants["seconds"].notna().any()
    headings = {"map": "mAP (VOC07)", "area_map": "area"}
    if "ap50" in variants:
        headings = {"map": "AP (COCO)", "ap50": "AP50", "ap75": "AP75"}
    value, *more = headings
    lines = [f"# {title}", "", note, ""]
    lines.append(
        f"| | {headings[value]} | 95 % interval | {' | '.join(headings[name] for name in more)} | paper |"
        f"{' s an image |' if timed else ''}"
    )
    lines.append(f"|{'---|' * (4 + len(more) + timed)}")
    for _, row in variants.iterrows():
        seconds = f" {_or_dash(row['seconds'], '.3f')} |" if timed else ""
        lines.append(
            f"| {row['variant']} | {row['map']:.1f} | {row['low']:.1f} – {row['high']:.1f} "
            f"| {' | '.join(format(row[name], '.1f') for name in more)} "
            f"| {_or_dash(row['paper_map'], '.1f')} |{seconds}"
        )
    lines += ["", "| | difference | 95 % interval, paired | paper | |", "|---|---|---|---|---|"]
    for _, row in claims.iterrows():
        lines.append(
            f"| {row['better']} less {row['worse']} | {row['difference']:+.1f} "
            f"| {row['low']:+.1f} – {row['high']:+.1f} "
            f"| {_or_dash(row['paper_difference'], '+.1f')} | {row['verdict']} |"
        )
    lines += ["", CHANCE]
    text = "\n".join(lines) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    variants.to_csv(folder / "variants.csv", index=False, float_format="%.3f")
    claims.to_csv(folder / "claims.csv", index=False, float_format="%.3f")
    with replacing(folder / "ablations.md") as file:
        file.write(text.encode())
    return text


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None or value != value else format(value, form)


def keep_description(folder: Path, description: object) -> None:
    """Write `config.json`: what the tables were made with."""
    with replacing(folder / "config.json") as file:
        file.write(json.dumps(description, indent=1).encode())
