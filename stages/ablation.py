"""Ablations: variants of a detector on the same images, ours beside the paper's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.data.records import Dataset
from stages.evaluation.bootstrap import interval, mean_ap, paired_difference, resampled_map
from stages.evaluation.detections_io import load_detections
from stages.evaluation.evaluate import IOU
from stages.evaluation.voc_ap import ClassMatches, match
from stages.writing import replacing


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: what makes it different.
        detections: its `detections.json`, of the test split.
        paper: the paper's mAP in per cent, on the paper's data; None if it has no such row.
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


def compare(
    data: Dataset, variants: Sequence[Variant], claims: Sequence[Claim], draws: int = 1000
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every variant's mAP (VOC07, 11-point) with its interval, and every claim's difference.

    Returns:
        a row a variant: `variant`, `map`, `low`, `high`, `area_map`, `paper_map`, `seconds`; and a row a
        claim: `better`, `worse`, `difference`, `low`, `high`, `paper_difference`, `verdict`.
        All in per cent; intervals are of 95 %, those of differences over the same draws of images.
    """
    matches: dict[str, list[ClassMatches]] = {}
    rows, differences = [], []
    for variant in variants:
        found = load_detections(variant.detections, data.category_ids)
        of_variant = matches[variant.name] = match(data.test, found, len(data.classes), IOU)
        low, high = interval(resampled_map(of_variant, draws)["voc07"])
        rows.append(
            {
                "variant": variant.name,
                "map": 100 * mean_ap(of_variant, "voc07"),
                "low": 100 * low,
                "high": 100 * high,
                "area_map": 100 * mean_ap(of_variant, "area"),
                "paper_map": variant.paper,
                "seconds": variant.seconds,
            }
        )
    papers = {variant.name: variant.paper for variant in variants}
    for claim in claims:
        theirs = papers[claim.better], papers[claim.worse]
        ours = paired_difference(matches[claim.better], matches[claim.worse], draws)["voc07"]
        verdict = "not separated"
        if ours.excludes_zero:
            verdict = "as the paper" if ours.difference > 0 else "against the paper"
        differences.append(
            {
                "better": claim.better,
                "worse": claim.worse,
                "difference": 100 * ours.difference,
                "low": 100 * ours.low,
                "high": 100 * ours.high,
                "paper_difference": claim.paper or _difference(*theirs),
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows), pd.DataFrame(differences)


def _difference(better: float | None, worse: float | None) -> float | None:
    return None if better is None or worse is None else better - worse


def write_tables(
    folder: Path, title: str, note: str, variants: pd.DataFrame, claims: pd.DataFrame
) -> str:
    """Write `variants.csv`, `claims.csv` and, both as Markdown, `ablations.md`; the last as text.

    Args:
        note: of what the paper's figures are.
    """
    timed = variants["seconds"].notna().any()
    lines = [f"# {title}", "", note, ""]
    lines.append(
        f"| | mAP (VOC07) | 95 % interval | area | paper |{' s an image |' if timed else ''}"
    )
    lines.append(f"|---|---|---|---|---|{'---|' if timed else ''}")
    for _, row in variants.iterrows():
        seconds = f" {_or_dash(row['seconds'], '.3f')} |" if timed else ""
        lines.append(
            f"| {row['variant']} | {row['map']:.1f} | {row['low']:.1f} – {row['high']:.1f} "
            f"| {row['area_map']:.1f} | {_or_dash(row['paper_map'], '.1f')} |{seconds}"
        )
    lines += ["", "| | difference | 95 % interval, paired | paper | |", "|---|---|---|---|---|"]
    for _, row in claims.iterrows():
        lines.append(
            f"| {row['better']} less {row['worse']} | {row['difference']:+.1f} "
            f"| {row['low']:+.1f} – {row['high']:+.1f} "
            f"| {_or_dash(row['paper_difference'], '+.1f')} | {row['verdict']} |"
        )
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
