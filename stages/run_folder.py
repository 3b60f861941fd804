"""What a run leaves for people, and whether it is there already."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.data.records import Dataset
from stages.errors import InputError, too_long
from stages.lock import alone
from stages.options import Options
from stages.seals import SEAL, checksum, is_sealed, sealed
from stages.store import Store, describe
from stages.writing import replacing

SUMMARY = "summary.txt"
METRICS = "metrics.json"
IDENTITY = "configuration.json"  # tells of which run a damaged `metrics.json` is


class RunFolder:
    """`<runs>/<data>-<preset>-<backbone>/<paper>[-<tag>]/`: what a run leaves for people.

    Raises:
        InputError: the folder already holds a run with another configuration or of other images, or
            one of which that cannot be told; or it cannot be a folder.
    """

    def __init__(
        self, options: Options, paper: str, data: Dataset, backbone: str, config: Any
    ) -> None:
        self._ranks = options.ranks
        name = f"{paper}-{options.tag}" if options.tag else paper
        self.path = options.runs / f"{data.name}-{options.preset}-{backbone}" / name
        self._lock = options.runs / "store" / "locks" / f"{self.path.parent.name}-{name}"
        if too_long(self._lock) or too_long(self.path):
            raise InputError(f"{self.path}: the name is too long")
        for folder in (self.path.parent, self.path):
            if folder.exists() and not folder.is_dir():
                raise InputError(f"{folder}: is a file")
        # As it is after a round trip through JSON, which knows lists but no tuples.
        self._identity = json.loads(
            json.dumps(
                {
                    "data": data.name,
                    "preset": options.preset,
                    "tag": options.tag,
                    "data_fingerprint": data.fingerprint,
                    "source": source_digest(),
                    "config": describe(config),
                }
            )
        )
        self._earlier = self._look()

    def is_finished(self, store: Store) -> bool:
        """Whether this very run is done: same data, source and configuration, artifacts sound."""
        same = all(self._earlier.get(key) == value for key, value in self._identity.items())
        try:
            finished = (
                same
                and is_sealed(self._earlier)
                and all(
                    checksum(self.path / name) == expected
                    for name, expected in self._earlier["files"].items()
                )
                and all(store.is_sound(row["artifact"]) for row in self._earlier["stages"])
            )
        except (KeyError, TypeError, ValueError, AttributeError, OSError):  # names that are none
            finished = False
        return self._ranks.tell(finished)

    def summary(self) -> str:
        """What the run printed when it finished, and where it is."""
        return f"{(self.path / SUMMARY).read_text(errors='replace')}\n{self.path}"

    def write(self, metrics: dict[str, Any], summary: str, files: Mapping[str, Path]) -> None:
        """Put copies of `files` (folders too), the summary and, last, `metrics.json` into the folder.

        Raises:
            InputError: meanwhile another run has written there.
        """
        if self._ranks.leads:
            with alone(self._lock, f"{self.path}: another run is writing it"):
                self._look()  # for a run that was at work at the same time
                self._write(metrics, summary, files)
        self._ranks.wait()

    def _look(self) -> dict[str, Any]:
        """`metrics.json` of a run that this one may be written over; empty if it is none, or damaged."""
        path = self.path / METRICS
        if not os.path.lexists(path):
            return {}
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is no file; remove it, or name this run: TAG=...")
        earlier = _read(path)
        known = earlier or _read(self.path / IDENTITY)
        if not known:
            raise InputError(
                f"{path}: damaged, so nobody can tell of which configuration; "
                "remove it, or name this run: TAG=..."
            )
        changed = _differences(known.get("config"), self._identity["config"])
        if changed:
            more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise InputError(
                f"{self.path}: holds a run with another configuration "
                f"({'; '.join(changed[:3])}{more}); name this one: TAG=..."
            )
        # The images' path is in the configuration; what is in them, or when it was written, changed.
        if known.get("data_fingerprint") != self._identity["data_fingerprint"]:
            raise InputError(
                f"{self.path}: holds a run of other images under that name (edited since?); "
                "name this one: TAG=..."
            )
        return earlier

    def _write(self, metrics: dict[str, Any], summary: str, files: Mapping[str, Path]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        written = [Path(SUMMARY), Path(IDENTITY)]
        for name, source in files.items():
            # Not copytree, which makes one error of many: a full disk would not be seen in it.
            inside = [path for path in source.rglob("*") if path.is_file()]
            for path in inside if source.is_dir() else [source]:
                written.append(Path(name) / path.relative_to(source))
                target = self.path / written[-1]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        (self.path / SUMMARY).write_text(summary)
        with replacing(self.path / IDENTITY) as file:
            file.write(json.dumps(sealed(self._identity), indent=1).encode())
        there = {str(name): checksum(self.path / name) for name in sorted(written)}
        all_of_it = sealed({**self._identity, **metrics, "files": there})
        with replacing(self.path / METRICS) as file:
            file.write(json.dumps(all_of_it, indent=1).encode())


def source_digest() -> str:
    """Stands for the project's code: a run made by other code is looked at stage by stage again."""
    root = Path(__file__).parent.parent
    digest_of = hashlib.sha256()
    apart = ("benchmarks", "notebooks")  # which shape no run
    packages = [init.parent for init in root.glob("*/__init__.py") if init.parent.name not in apart]
    for package in sorted(packages):
        for path in sorted(package.rglob("*.py")):
            digest_of.update(path.read_bytes())
    return digest_of.hexdigest()[:16]


def _read(path: Path) -> dict[str, Any]:
    """What was sealed there; empty if it is damaged. (Older runs have no seal.)"""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text())
        if isinstance(found, dict) and (SEAL not in found or is_sealed(found)):
            return found
    return {}


def _differences(a: Any, b: Any, name: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [*a, *(key for key in b if key not in a)]
        return [
            d
            for key in keys
            for d in _differences(a.get(key), b.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if a == b else [f"{name} {a} there, {b} here"]
