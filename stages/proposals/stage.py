"""The proposals stages: selective search over each split, on all cores, in shards."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.data.parts import Images
from stages.data.records import Dataset, Record
from stages.errors import InputError, expand
from stages.processes import spread
from stages.proposals.cache import Proposals, write_proposals
from stages.proposals.recall import measure_recall, recall_table
from stages.proposals.selective_search import SelectiveSearchConfig, search_record
from stages.reading import damage_named
from stages.shards import shards, unmade
from stages.store import Artifact, Job, Store, stage
from stages.writing import replacing

SHARD = 16  # images: what a kill may cost


@stage(version=2, together=True)
def search_selectively(job: Job, images: Images, config: SelectiveSearchConfig) -> None:
    """Propose boxes in every image of a split, whatever objects it has.

    Writes `proposals.h5`: the same bytes for any number of workers, interrupted or not.
    """
    records = images.records
    folder = job.folder / "shards"
    every_shard = shards(folder, len(records), SHARD, ".npz")
    mine = every_shard[job.ranks.mine]
    missing = unmade(mine)
    tasks = [(record, config) for shard in missing for record in records[shard.start : shard.stop]]
    total = sum(shard.stop - shard.start for shard in mine)
    results = spread(search_record, tasks, job.workers)
    with tqdm(
        total=total, initial=total - len(tasks), unit="image", desc="selective search"
    ) as bar:
        for shard in missing:
            found = []
            for _ in range(shard.start, shard.stop):
                found.append(next(results))
                bar.update()
            with replacing(shard.path) as file:
                np.savez(file, *found)

    job.ranks.wait()
    if not job.ranks.leads:
        return
    every = [boxes for shard in every_shard for boxes in _load_shard(shard.path)]
    write_proposals(job.folder / "proposals.h5", records, every)
    shutil.rmtree(folder)


@dataclass(frozen=True)
class ProposalFile:
    """A `proposals.h5` that was made elsewhere."""

    path: Path
    fingerprint: str

    @staticmethod
    def at(path: Path) -> ProposalFile:
        """The file with its contents' fingerprint.

        Raises:
            InputError: it cannot be read.
        """
        try:
            with open(path, "rb") as file:
                return ProposalFile(path, hashlib.file_digest(file, "sha256").hexdigest()[:16])
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None


@stage(version=2)
def import_proposals(job: Job, images: Images, source: ProposalFile) -> None:
    """Take proposals from a file instead of searching: for machines without OpenCV's contrib build.

    Writes what `search_selectively` writes.

    Raises:
        InputError: the file is of another data set.
    """
    given = Proposals(source.path)
    records = images.records
    write_proposals(job.folder / "proposals.h5", records, [given.of(record) for record in records])


@stage(version=1)
def gather_proposals(job: Job, data: Dataset, train: Artifact, test: Artifact) -> None:
    """Both splits' proposals in one `proposals.h5`, and what they find of the objects: `recall.json`."""
    readers = [Proposals(part.path / "proposals.h5") for part in (train, test)]
    boxes = [
        reader.of(record)
        for reader, records in zip(readers, (data.train, data.test), strict=True)
        for record in records
    ]
    write_proposals(job.folder / "proposals.h5", [*data.train, *data.test], boxes)
    keep_recall(job, {"train": data.train, "test": data.test})


@dataclass(frozen=True)
class FoundProposals:
    """A data set's proposals.

    Attributes:
        train: the training split's alone: trainings take these, so that no test image shapes their name.
        all: both splits', with their recall.
    """

    train: Artifact
    all: Artifact


def find_proposals(
    config: SelectiveSearchConfig, file: str | None, data: Dataset, store: Store
) -> FoundProposals:
    """Both splits' proposals: searched for, or from a file.

    Raises:
        InputError: the file cannot be read, or is of another data set.
    """
    given = None if file is None else ProposalFile.at(expand(file))

    def find(records: Sequence[Record]) -> Artifact:
        if given is None:
            return store.run(search_selectively, Images(records), config)
        return store.run(import_proposals, Images(records), given)

    train, test = find(data.train), find(data.test)
    return FoundProposals(train, store.run(gather_proposals, data, train, test))


def keep_recall(job: Job, splits: Mapping[str, Sequence[Record]]) -> None:
    """Measure the proposals just written for each split, by its name; print, and write `recall.json`."""
    proposals = Proposals(job.folder / "proposals.h5")
    recall = {}
    for split, of_split in splits.items():
        recall[split] = measure_recall(of_split, proposals)
        print(recall_table(split, recall[split]), file=sys.stderr)
    (job.folder / "recall.json").write_text(json.dumps(recall, indent=1))


def _load_shard(path: Path) -> list[np.ndarray]:
    with damage_named(path), np.load(path) as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
