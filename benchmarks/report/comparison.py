"""The finished detectors of one data set, side by side: what may be compared with what.

K classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.detectors import Run
from benchmarks.report.look import LOOKS, Look, labels, looks
from stages.data.records import Dataset
from stages.evaluation.detections_io import Detections, load_detections, sizes_of
from stages.evaluation.threshold import usual_scores
from stages.evaluation.voc_ap import ClassMatches, match
from stages.store import Store


@dataclass(frozen=True, eq=False)
class Entry:
    """A detector and what it reported of the test split.

    Attributes:
        label: its name among those that it is compared with.
        matches: K, at IoU 0.5, of boxes.
        usual: float64 [K], the score from which on a detection of a class is shown to people.
    """

    run: Run
    label: str
    look: Look
    detections: Detections
    matches: Sequence[ClassMatches]
    usual: np.ndarray


@dataclass(frozen=True, eq=False)
class Comparison:
    """Detectors trained and tested on the same files.

    Attributes:
        title: the data set's, no other comparison has it; slug: the same as a folder's name.
        table: a row for each of `entries`, in their order, with `label` besides.
    """

    title: str
    slug: str
    data: Dataset
    entries: Sequence[Entry]
    table: pd.DataFrame


def compare(runs: Sequence[Run], table: pd.DataFrame, store: Store) -> list[Comparison]:
    """A comparison for each data set, by name; one that has changed between runs is several.

    Its detectors go by backbone, then as the papers followed each other.

    Args:
        table: a row for each run, in their order: `row_of`'s.

    Raises:
        InputError: a data set is gone or has changed, or a run's detections are unreadable.
    """
    groups = list(table.reset_index(drop=True).groupby(["data", "data_fingerprint"], sort=True))
    titles = _distinct(
        [f"{name}, {rows.test_images.iloc[0]} test images" for (name, _), rows in groups]
    )
    slugs = _distinct([re.sub(r"[^\w.+-]", "_", name).lstrip(".") for (name, _), _ in groups])
    found = []
    for title, slug, (_, rows) in zip(titles, slugs, groups, strict=True):
        order = list(LOOKS)
        rows = rows.sort_values(
            ["backbone", "paper", "folder"],
            key=lambda column: column.map(order.index) if column.name == "paper" else column,
        )
        mine = [runs[i] for i in rows.index]
        names = labels(rows.to_dict("records"))  # type: ignore[arg-type]
        data = mine[0].data(store)
        entries = [
            _entry(run, name, look, data)
            for run, name, look in zip(mine, names, looks(list(rows.paper)), strict=True)
        ]
        rows = rows.reset_index(drop=True).assign(label=names, title=title)
        found.append(Comparison(title, slug, data, entries, rows))
    return found


def _entry(run: Run, label: str, look: Look, data: Dataset) -> Entry:
    found = load_detections(run.folder / "detections.json", data.category_ids, sizes_of(data.test))
    known = run.metrics.get("usual_scores")
    usual = (
        usual_scores(data, found)
        if known is None
        else np.array([known.get(name, np.inf) for name in data.classes])
    )
    return Entry(run, label, look, found, match(data.test, found, len(data.classes)), usual)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, those that repeat an earlier one with a number."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return result
