"""A few of the faults that `python -m tests.faults` tries by the hundred, and what would be noticed.

Fast R-CNN's run is the shortest with workers of both kinds: selective search's and a DataLoader's.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults import program
from tests.faults.__main__ import whole
from tests.faults.outcome import differences, outcome
from tests.faults.paper import FAST, MODULES, folder_of
from tests.faults.trials import TRIALS, Trial, flips, in_turns, kills, stops

Make = Callable[[int], Trial]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    runs = tmp_path_factory.mktemp("whole")
    return runs, whole(FAST, runs)


@pytest.fixture
def trial(finished: tuple[Path, float], tmp_path: Path) -> Make:
    runs, took = finished
    return lambda count: Trial(FAST, runs, took, tmp_path, count, random.Random(4))


def test_killed_and_interrupted_it_ends_as_one_that_was_not(trial: Make) -> None:
    assert kills(trial(1)).lost == []
    assert stops(trial(1)).lost == []


def test_a_damaged_file_is_made_again(trial: Make) -> None:
    tally = flips(trial(1))
    assert (tally.struck, tally.lost) == (1, [])


def test_every_folder_has_its_turn_before_one_has_two(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcde"]
    for folder in folders:
        folder.mkdir()
        for name in "xyz":
            (folder / name).touch()
    firsts = set()
    for seed in range(20):
        trial = Trial(FAST, tmp_path, 1.0, tmp_path, 10, random.Random(seed))
        struck = [path.parent for path in in_turns(list(folders), trial)]
        assert {*struck[:5]} == {*struck[5:]} == {*folders}
        firsts.add(struck[0])
    assert len(firsts) > 2  # not always those that come first by name


def test_stages_have_several_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts, other = SimpleNamespace(SHARD=16), SimpleNamespace(SHARD=16)
    loaded = {"stages.detect": cuts, "stages.errors": SimpleNamespace(), "elsewhere": other}
    monkeypatch.setattr(program, "sys", SimpleNamespace(modules=loaded))
    assert program.small_shards() == ["stages.detect"]
    assert (cuts.SHARD, other.SHARD) == (2, 16)


class TestOutcome:
    @pytest.fixture
    def folder(self, finished: tuple[Path, float], tmp_path: Path) -> Path:
        here = tmp_path / "run"
        shutil.copytree(folder_of(FAST, finished[0]), here)
        return here

    def test_a_copy_is_the_same(self, folder: Path, finished: tuple[Path, float]) -> None:
        found = outcome(folder)
        assert {"detections.json", "model/weights.pt"} < {*found}
        assert "metrics.json result voc07_map" in found
        assert differences(found, outcome(folder_of(FAST, finished[0]))) == []

    def test_time_and_memory_are_not_compared(self, folder: Path) -> None:
        before, path = outcome(folder), folder / "metrics.json"
        metrics = json.loads(path.read_text())
        metrics["stages"][0]["seconds"] += 1
        metrics["stages"][0]["peak_memory_mib"] += 1
        path.write_text(json.dumps(metrics))
        assert differences(outcome(folder), before) == []
        metrics["result"]["voc07_map"] += 1e-9
        path.write_text(json.dumps(metrics))
        assert differences(outcome(folder), before) == ["metrics.json result voc07_map"]

    def test_other_bits_and_other_files_are_noticed(self, folder: Path) -> None:
        before = outcome(folder)
        weights = bytearray((folder / "model/weights.pt").read_bytes())
        weights[len(weights) // 2] ^= 1
        (folder / "model/weights.pt").write_bytes(weights)
        (folder / "detections.png").unlink()
        (folder / "more.txt").touch()
        assert differences(outcome(folder), before) == [
            "detections.png",
            "model/weights.pt",
            "more.txt",
        ]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_no_fault_loses_anything(trial: Make, name: str) -> None:
    tally = TRIALS[name](trial(2))
    assert tally.struck >= 2
    assert tally.lost == []


@pytest.mark.slow
@pytest.mark.parametrize("paper", MODULES)
def test_every_paper_survives_kills(paper: str, tmp_path: Path) -> None:
    took = whole(paper, tmp_path / "whole")
    tally = kills(Trial(paper, tmp_path / "whole", took, tmp_path, 5, random.Random()))
    assert (tally.struck, tally.lost) == (5, [])
