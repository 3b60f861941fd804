"""`make ablations PAPER=fast ARGS="--rows proposals"`: figure 3's points, and what each is made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from fast_rcnn import dense, proposal_counts
from fast_rcnn.command import command
from fast_rcnn.config import PRESETS, Config
from fast_rcnn.pipeline import train_and_test
from fast_rcnn.proposal_counts import (
    ADDED,
    ALONE,
    DENSE,
    FIXED,
    REPLACED,
    RETRAINED,
    Point,
    claims_of,
    mix_dense,
    sweep_numbers,
)
from stages.errors import InputError
from stages.published.figures import Figure, paper_beside
from stages.store import Artifact, Store

MICRO = PRESETS["micro"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def table(runs: Path) -> pd.DataFrame:
    """Of a whole run, on a coarse grid."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "STEP", 0.6)
        options = ("--preset", "micro", "--runs", str(runs), "--device", "cpu", "--workers", "0")
        more = ("--counts", "3", "9", "5000", "--dense", "40", "20")
        command(["ablations", "--rows", "proposals", *more, *options])
    return pd.read_csv(runs / "shapes-micro-tiny" / "ablations-fast-proposals" / "proposals.csv")


def test_a_run_ends_in_a_table_and_a_figure(runs: Path, table: pd.DataFrame) -> None:
    folder = runs / "shapes-micro-tiny" / "ablations-fast-proposals"
    assert {path.name for path in folder.iterdir()} == {
        "ablations.md",
        "variants.csv",
        "claims.csv",
        "proposals.csv",
        "proposals.png",
        "config.json",
    }
    with Image.open(folder / "proposals.png") as picture:
        assert picture.width > picture.height > 300
    assert Counter(table["series"]) == {FIXED: 4, RETRAINED: 4, ADDED: 2, REPLACED: 1, ALONE: 1}
    variants = pd.read_csv(folder / "variants.csv")["variant"]
    assert set(variants) == set(table["variant"]) and variants.is_unique
    assert (table["low"] <= table["map"]).all() and (table["map"] <= table["high"]).all()


def test_numbers_are_of_what_was_tested(table: pd.DataFrame) -> None:
    numbers = {s: table[table["series"] == s]["proposals"].tolist() for s in set(table["series"])}
    assert numbers[FIXED] == numbers[RETRAINED] == sorted(numbers[FIXED])
    assert numbers[FIXED][:2] == [3, 9]
    own, most = numbers[FIXED][2:]  # at most 60 of each image, and all
    assert 9 < own <= 60 < most
    assert numbers[REPLACED] == [own]
    assert numbers[ADDED] == [own + 20, own + 40]
    assert numbers[ALONE][0] > 1000


def test_average_recall_is_of_the_proposals(table: pd.DataFrame) -> None:
    by_number = table[table["series"] == FIXED]["average_recall"]
    assert by_number.is_monotonic_increasing and by_number.iloc[-1] > by_number.iloc[0]
    again = table[table["series"] == RETRAINED]["average_recall"]
    assert again.tolist() == by_number.tolist()
    own = by_number.iloc[2]
    assert (table[table["series"] == ADDED]["average_recall"] >= own).all()
    # Of a coarse grid something else.
    assert 0 < table[table["series"] == ALONE]["average_recall"].iloc[0] != own


def test_each_number_is_trained_once(runs: Path, table: pd.DataFrame) -> None:
    made = Counter(path.name.rpartition("-")[0] for path in (runs / "store").iterdir())
    # The run's own, 3, 9 and all; the closest dense ones, two mixtures, dense ones alone.
    assert made["train_detector"] == 4 + 4
    assert made["mix_in_dense"] == 3 and made["replace_by_dense"] == 1
    # Not trained again: three of the run's own detector.
    assert made["detect"] == 8 + 3
    assert made["search_selectively"] == 2  # a split each
    assert len(table) == 12


class Noted(Store):
    """A finished store's: what is asked for is noted, and nothing made."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def run(self, stage: Any, *inputs: Any) -> Artifact:
        self.asked.append((stage.__name__, inputs))
        name = f"{stage.__name__}-{len(self.asked)}"
        return Artifact(self.root / name, name)


@pytest.mark.parametrize(
    ("top", "counts", "expected"),
    [
        (60, (3, 9), [3, 9, 60]),
        (60, (100, 5000), [60, 100, "most"]),
        (None, (3, 5000), [3, "most"]),
        (5000, (3, 5000), [3, "most"]),  # there are no 5,000: the run's own are all there are
        (60, (), [60]),
    ],
)
def test_as_far_as_there_are_any(
    runs: Path,
    table: pd.DataFrame,
    top: int | None,
    counts: tuple[int, ...],
    expected: list,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, base = replace(MICRO, top=top), train_and_test(MICRO, Store(runs / "store"))
    store, trained = Noted(runs / "noted"), []

    def note(changed: Config, _: Store) -> Any:
        trained.append(changed.top)
        return base

    monkeypatch.setattr(proposal_counts, "train_and_test", note)
    points = sweep_numbers(config, base, counts, store)
    most = proposal_counts.most_of(base)
    assert 100 < most < 5000
    wanted = [most if count == "most" else count for count in expected]
    for series in (FIXED, RETRAINED):
        assert [point.top for point in points if point.series == series] == wanted
    own = [point for point in points if point.own]
    assert len(own) == 2 and own[0].detections == own[1].detections
    # Neither trained nor detected again.
    assert trained == [count for count in wanted if count != own[0].top]
    assert Counter(name for name, _ in store.asked)["detect"] == len(wanted) - 1


def test_the_papers_figures_and_claims(runs: Path, table: pd.DataFrame) -> None:
    base, store = train_and_test(MICRO, Store(runs / "store")), Noted(runs / "noted")
    paper = paper_beside("Fast R-CNN", "vgg16")
    points = mix_dense(MICRO, base, DENSE, paper, store)
    assert [(p.series, p.paper) for p in points if p.paper] == [
        (REPLACED, Figure(57.7, "VGG_M")),
        (ADDED, Figure(53.0, "VGG_M")),
        (ALONE, Figure(52.9, "VGG_M")),
    ]
    assert [p.name for p in points if p.series == ADDED] == [
        f"{count} dense boxes added" for count in DENSE
    ]
    # All that there are of each image, whatever the run's own limit is.
    assert {p.top for p in points} == {None}
    for name, inputs in store.asked:
        if name == "train_detector":
            assert inputs[4] is None
    own = Point(FIXED, "own", Path(), base.proposals, 60, own=True)
    claims = claims_of([own, *points])
    assert [claim.worse for claim in claims] == [p.name for p in points]
    assert {claim.better for claim in claims} == {"own"}


@pytest.mark.parametrize("option", ["counts", "dense"])
def test_no_proposals_at_all_are_refused(option: str, tmp_path: Path) -> None:
    options = ("--preset", "micro", "--runs", str(tmp_path), "--device", "cpu")
    with pytest.raises(InputError, match=f"--{option} 0: takes 1 or more"):
        command(["ablations", "--rows", "proposals", f"--{option}", "3", "0", *options])
    assert list(tmp_path.iterdir()) == []
