"""The look at the data: every image file is decoded once, before anything is made of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path

from tqdm import tqdm

from stages.data.files import stamp
from stages.data.look import Look, look_at
from stages.data.records import Record
from stages.processes import spread
from stages.store import Artifact, Job, Store, stage
from stages.writing import replacing

SHARD = 1000  # files: what a kill may cost
AT_ONCE = 16  # files handed to a worker together


class Files:
    """The image files of records, and of their masks; each once.

    They are known by name, size and time, so that those of a finished look are not read again.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        paths = (path for r in records for path in (r.path, r.mask_path) if path is not None)
        self.paths = list(dict.fromkeys(paths))

    @cached_property
    def fingerprint(self) -> str:
        together = hashlib.sha256()
        for path in self.paths:
            try:
                stat = os.stat(path)
            except FileNotFoundError:  # a link to what was not fetched
                stat = os.lstat(path)
            together.update(stamp(f"{path.parent.name}/{path.name}", stat))
        return together.hexdigest()[:16]


@stage(version=1)
def look_at_files(job: Job, files: Files, most_pixels: int | None) -> None:
    """Look at every file. Writes `looks.json`: what `look_at` says of each, in their order.

    Args:
        most_pixels: see `Record`.
    """
    found: list[list[object]] = []
    folder = job.folder / "shards"
    folder.mkdir(exist_ok=True)
    starts = range(0, len(files.paths), SHARD)
    with tqdm(total=len(files.paths), unit="file", desc="looking at the images") as bar:
        for start in starts:
            paths, kept = files.paths[start : start + SHARD], folder / f"{start:07d}.json"
            rows = _read(kept, len(paths))
            if rows is None:
                rows = []
                for look in spread(partial(look_at, most=most_pixels), paths, job.workers, AT_ONCE):
                    rows.append(list(dataclasses.astuple(look)))
                    bar.update()
                with replacing(kept) as file:
                    file.write(json.dumps(rows).encode())
            else:
                bar.update(len(rows))
            found += rows
    (job.folder / "looks.json").write_text(json.dumps(found))
    for shard in folder.iterdir():
        shard.unlink()
    folder.rmdir()


def look_at_all(
    records: Iterable[Record], most_pixels: int | None, store: Store
) -> Mapping[Path, Look]:
    """What is known of each image file of the records and of their masks; looked at once."""
    files = Files(records)
    artifact: Artifact = store.run(look_at_files, files, most_pixels)
    rows = json.loads((artifact.path / "looks.json").read_text())
    return {path: Look(*row) for path, row in zip(files.paths, rows, strict=True)}


def _read(path: Path, count: int) -> list[list[object]] | None:
    """What an earlier attempt left; None if it is not all there."""
    try:
        rows = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return rows if isinstance(rows, list) and len(rows) == count else None
