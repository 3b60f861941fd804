"""The proposals stage: the same bytes for any number of workers, interrupted or not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.data.parts import Images
from stages.data.records import Record
from stages.data.voc import VOCFolder
from stages.errors import InputError
from stages.proposals import stage as stage_module
from stages.proposals.cache import Proposals
from stages.proposals.selective_search import SelectiveSearchConfig, search_record
from stages.proposals.stage import (
    ProposalFile,
    find_proposals,
    import_proposals,
    search_selectively,
)
from stages.store import Job, Store

ROOT = Path(__file__).parents[3]
CONFIG = SelectiveSearchConfig(min_side=8)
THINGS = [("cat", 3, 4, 30, 30), ("dog", 10, 2, 40, 33, 1)]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "SHARD", 2)


@pytest.fixture
def data(make_voc: Callable[..., Path]) -> VOCFolder:
    """Seven images to train on, in four shards of two, and one to test on."""
    names = ["f", "a", "d", "b", "g", "c", "e"]
    root = make_voc(dict.fromkeys([*names, "h"], THINGS), {"trainval": names, "test": ["h"]})
    return VOCFolder(root, "made")


def proposed(folder: Path, data: VOCFolder, workers: int = 0) -> bytes:
    """The training images' proposals."""
    folder.mkdir(exist_ok=True)
    search_selectively(Job(folder, workers=workers), Images(data.train), CONFIG)
    return (folder / "proposals.h5").read_bytes()


@pytest.fixture
def uninterrupted(tmp_path: Path, data: VOCFolder) -> bytes:
    return proposed(tmp_path / "uninterrupted", data)


def test_every_image_has_its_own_proposals(tmp_path: Path, data: VOCFolder) -> None:
    proposed(tmp_path / "out", data)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"proposals.h5"}
    proposals = Proposals(tmp_path / "out" / "proposals.h5")
    for record in data.train:
        boxes = proposals.of(record)
        assert len(boxes) > 0
        assert np.array_equal(boxes, search_record((record, CONFIG)))
        assert (boxes >= 0).all()
        assert (boxes <= [48, 40, 48, 40]).all()


def test_recall_of_both_splits_is_kept(
    tmp_path: Path, data: VOCFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_proposals(CONFIG, None, data, Store(tmp_path / "out"))
    recall = json.loads((found.all.path / "recall.json").read_text())
    assert set(recall) == {"train", "test"}
    assert [row["proposals"] for row in recall["test"]] == [300, 1000, 2000, "all"]
    said = capsys.readouterr().err
    assert "train: proposals" in said
    assert "test: proposals" in said


def test_both_splits_are_gathered(tmp_path: Path, data: VOCFolder) -> None:
    store = Store(tmp_path / "out")
    found = find_proposals(CONFIG, None, data, store)
    train, test, both = (
        Proposals(made.path / "proposals.h5") for made in (found.train, store.used[1], found.all)
    )
    for record in data.train:
        assert np.array_equal(both.of(record), train.of(record))
        with pytest.raises(InputError, match="of another data set"):
            test.of(record)
    for record in data.test:
        assert np.array_equal(both.of(record), test.of(record))
    names = [artifact.path.name.rpartition("-")[0] for artifact in store.used]
    assert names == ["search_selectively", "search_selectively", "gather_proposals"]


def test_a_corrected_test_label_searches_nothing_again(tmp_path: Path, data: VOCFolder) -> None:
    before = find_proposals(CONFIG, None, data, Store(tmp_path / "out"))
    path = data.root / "Annotations" / "h.xml"
    path.write_text(path.read_text().replace(">dog<", ">cat<"))
    store = Store(tmp_path / "out")
    after = find_proposals(CONFIG, None, VOCFolder(data.root, "made"), store)
    assert after.train == before.train
    assert after.all != before.all  # what they find has changed
    assert len(list((tmp_path / "out").glob("search_selectively-*"))) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers(
    tmp_path: Path, data: VOCFolder, uninterrupted: bytes, workers: int
) -> None:
    assert proposed(tmp_path / "out", data, workers) == uninterrupted


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("images", [0, 1, 2, 5, 6])
def test_interrupted_after_some_images(
    tmp_path: Path,
    data: VOCFolder,
    uninterrupted: bytes,
    images: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched: list[str | int] = []

    def counting(task: tuple[Record, SelectiveSearchConfig]) -> np.ndarray:
        if len(searched) == images:
            raise Interrupted
        searched.append(task[0].image_id)
        return search_record(task)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(stage_module, "search_record", counting)
        proposed(tmp_path / "out", data)
    assert not (tmp_path / "out" / "proposals.h5").exists()
    done = searched[: images - images % 2]  # whole shards
    again: list[str | int] = []

    def noting(task: tuple[Record, SelectiveSearchConfig]) -> np.ndarray:
        again.append(task[0].image_id)
        return search_record(task)

    monkeypatch.setattr(stage_module, "search_record", noting)
    assert proposed(tmp_path / "out", data) == uninterrupted
    assert [*done, *again] == [r.image_id for r in data.train]


@pytest.mark.parametrize("missing", [[0], [3], [1, 2], [0, 1, 2], []])
def test_resumed_with_some_shards_missing(
    tmp_path: Path,
    data: VOCFolder,
    uninterrupted: bytes,
    missing: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(stage_module, "write_proposals", stop)
        proposed(tmp_path / "out", data)
    shards = sorted((tmp_path / "out" / "shards").glob("*.npz"))
    assert len(shards) == 4
    for index in missing:
        shards[index].rename(shards[index].with_name(f".{shards[index].name}"))  # half-written
        shards[index].with_name(f".{shards[index].name}").write_bytes(b"half")
    assert proposed(tmp_path / "out", data) == uninterrupted


def stop(*_: object) -> None:
    raise Interrupted


def test_resumed_after_the_merge_with_the_shards_half_cleared_away(
    tmp_path: Path, data: VOCFolder, uninterrupted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(folder: Path) -> None:
        for shard in sorted(folder.iterdir())[:2]:
            shard.unlink()
        raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(shutil, "rmtree", half)
        proposed(tmp_path / "out", data)
    assert proposed(tmp_path / "out", data) == uninterrupted


PROGRAM = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace

# Torch takes seconds to load, and only recall needs it, for which this process does not live.
sys.modules["stages.proposals.recall"] = SimpleNamespace(measure_recall=None, recall_table=None)
from stages.data.parts import Images
from stages.data.voc import VOCFolder
from stages.proposals import stage as stage_module
from stages.proposals.selective_search import SelectiveSearchConfig
from stages.store import Store

stage_module.SHARD = 2
genuine, searched = stage_module.search_record, []

def search_record(task):
    searched.append(task)
    if len(searched) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return genuine(task)

stage_module.search_record = search_record
data = VOCFolder(Path(sys.argv[1]), "made")
Store(Path(sys.argv[2])).run(
    stage_module.search_selectively, Images(data.train), SelectiveSearchConfig(min_side=8)
)
"""


def test_killed_in_another_process_and_finished_in_this_one(
    tmp_path: Path, data: VOCFolder, uninterrupted: bytes
) -> None:
    root = tmp_path / "store"
    command = [sys.executable, "-c", PROGRAM, str(data.root), str(root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300)
    assert done.returncode == -9, done.stderr.decode()
    shards = list(root.glob("unfinished/search_selectively-*/shards/[0-9]*.npz"))
    assert [shard.name for shard in shards] == ["0000000-0000002.npz"]
    artifact = Store(root).run(search_selectively, Images(data.train), CONFIG)
    assert (artifact.path / "proposals.h5").read_bytes() == uninterrupted
    assert set(artifact.manifest["files"]) == {"proposals.h5"}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named(tmp_path: Path, data: VOCFolder, workers: int) -> None:
    path = data.root / "JPEGImages" / "b.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError) as raised:
        proposed(tmp_path / "out", data, workers)
    assert raised.value.line.startswith(f"{path}: not readable as an image")
    assert not (tmp_path / "out" / "proposals.h5").exists()


def test_mended_it_goes_on(tmp_path: Path, data: VOCFolder, uninterrupted: bytes) -> None:
    path = data.root / "JPEGImages" / "b.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    with pytest.raises(InputError):
        proposed(tmp_path / "out", data)
    path.write_bytes(whole)
    assert proposed(tmp_path / "out", data) == uninterrupted


def test_an_image_with_no_proposal_at_all(tmp_path: Path, make_voc: Callable[..., Path]) -> None:
    root = make_voc({"a": THINGS, "b": THINGS, "c": []}, size=(48, 40))
    config = SelectiveSearchConfig(min_side=49)  # longer than the images
    data = VOCFolder(root, "made")
    found = find_proposals(config, None, data, Store(tmp_path / "store"))
    proposals = Proposals(found.all.path / "proposals.h5")
    assert [proposals.of(r).shape for r in [*data.train, *data.test]] == [(0, 4)] * 3
    recall = json.loads((found.all.path / "recall.json").read_text())
    assert recall["train"][-1]["recall_50"] == 0.0
    assert recall["test"] == []  # no object there


# ------------------------------------------------------------------ proposals made elsewhere


def test_imported_proposals_are_as_if_searched_here(
    tmp_path: Path, data: VOCFolder, uninterrupted: bytes
) -> None:
    source = ProposalFile.at(tmp_path / "uninterrupted" / "proposals.h5")
    artifact = Store(tmp_path / "store").run(import_proposals, Images(data.train), source)
    assert (artifact.path / "proposals.h5").read_bytes() == uninterrupted


def test_a_file_of_both_splits_serves_each(tmp_path: Path, data: VOCFolder) -> None:
    searched = find_proposals(CONFIG, None, data, Store(tmp_path / "searched"))
    file = str(searched.all.path / "proposals.h5")
    imported = find_proposals(CONFIG, file, data, Store(tmp_path / "imported"))
    for made, expected in ((imported.train, searched.train), (imported.all, searched.all)):
        again = (made.path / "proposals.h5").read_bytes()
        assert again == (expected.path / "proposals.h5").read_bytes()
    for made in (imported.all, searched.all):
        assert "recall.json" in made.manifest["files"]


def test_imported_proposals_are_put_in_this_data_sets_order(
    tmp_path: Path, data: VOCFolder, uninterrupted: bytes
) -> None:
    split = data.root / "ImageSets" / "Main" / "trainval.txt"
    stems = split.read_text().split()
    split.write_text("\n".join(reversed(stems)))
    turned = VOCFolder(data.root, "made")
    import_proposals(
        Job(tmp_path),
        Images(turned.train),
        ProposalFile.at(tmp_path / "uninterrupted" / "proposals.h5"),
    )
    assert (tmp_path / "proposals.h5").read_bytes() == proposed(tmp_path / "searched", turned)
    assert (tmp_path / "proposals.h5").read_bytes() != uninterrupted


def test_a_file_of_proposals_is_known_by_its_contents(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (ProposalFile.at(tmp_path / name).fingerprint for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("name", ["nowhere.h5", "."])
def test_no_file_of_proposals_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as raised:
        ProposalFile.at(tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path / name}: ")


def test_proposals_of_other_images_are_not_imported(
    tmp_path: Path, data: VOCFolder, uninterrupted: bytes, make_voc: Callable[..., Path]
) -> None:
    source = ProposalFile.at(tmp_path / "uninterrupted" / "proposals.h5")
    for folder, names, size in (("larger", "fa", (50, 40)), ("others", "xy", (48, 40))):
        root = make_voc(dict.fromkeys(names, THINGS), size=size, folder=folder)
        with pytest.raises(InputError, match="another data set"):
            import_proposals(Job(tmp_path), Images(VOCFolder(root, folder).train), source)
