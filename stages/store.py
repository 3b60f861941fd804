"""The store: it runs a stage once and remembers the result by everything that shaped it.

A stage is a plain function `stage(job, *inputs)` that writes files into
`job.folder`. Its artifact lives in `<root>/<stage>-<fingerprint>/`, beside a
manifest. What is promised, and how:

- Half-made work never looks finished: a stage writes in `<root>/unfinished/`
  and the folder is renamed whole, its manifest inside, when the stage returns.
- A stage that died goes on: its unfinished folder is still there when it is
  called again, and the stage takes up the shards it finds.
- Two runs at once: one works, the other waits, by a `flock` that the kernel
  drops with the process that held it.
- A damaged artifact is found by its checksums and made again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stages.errors import DamagedError, InputError
from stages.lock import alone
from stages.machine import machine
from stages.memory import give_back_freed_memory
from stages.meter import Meter
from stages.ranks import ALONE, Ranks
from stages.seals import checksum, digest, is_sealed, sealed

T = TypeVar("T")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Job:
    """Where and on what a stage works. Nothing in it may shape the result.

    Attributes:
        folder: write here; what an interrupted attempt left is still there.
        device: "cpu" or "cuda".
        workers: processes for decoding and for selective search; 0: in this process.
        checkpoint_seconds: how much work a kill may cost a training stage.
        ranks: the processes that work in the same folder on the same stage; see `stage`.
    """

    folder: Path
    device: str = "cpu"
    workers: int = 0
    checkpoint_seconds: float = 30.0
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class Artifact:
    """A finished stage's folder."""

    path: Path
    fingerprint: str

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.path / MANIFEST).read_text())


def stage(
    version: int, together: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a function as a stage. Raise `version` when the same inputs give another result.

    Args:
        together: all ranks call it, each does its share (`Job.ranks`), and the leading one writes what
            is of all. Other stages are the leading rank's alone, while the others wait.
    """

    def mark(function: Callable[..., None]) -> Callable[..., None]:
        function.version = version  # type: ignore[attr-defined]
        function.together = together  # type: ignore[attr-defined]
        return function

    return mark


class Store:
    """Artifacts under one folder.

    Args:
        root: the folder; made if missing.
        device, workers, checkpoint_seconds: handed to every stage in its `Job`.
        ranks: the processes that run the same pipeline on the same folder.
    """

    def __init__(
        self,
        root: Path,
        device: str = "cpu",
        workers: int = 0,
        checkpoint_seconds: float = 30.0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.root = root
        self.device = device
        self.workers = workers
        self.checkpoint_seconds = checkpoint_seconds
        self.ranks = ranks
        self.used: list[Artifact] = []  # in the order the pipeline asked for them
        self._said: set[str] = set()

    def run(self, stage: Callable[..., None], *inputs: Any) -> Artifact:
        """The artifact of `stage(job, *inputs)`: found, or made now.

        Args:
            stage: a function marked with `@stage(version)`.
            inputs: artifacts, data sets or weights (anything with a `fingerprint`), frozen
                dataclasses of configuration, and plain JSON values.
        """
        described = [describe(value) for value in inputs]
        fingerprint = digest(
            [f"{stage.__module__}.{stage.__qualname__}", _version(stage), described]
        )
        artifact = Artifact(self.root / f"{stage.__name__}-{fingerprint}", fingerprint)
        if self._found_damage(artifact) is not None:
            with self._lock(artifact) if self.ranks.leads else nullcontext():
                # Another run may have finished it while we waited.
                damage = self._found_damage(artifact)
                if damage is not None:
                    if self.ranks.leads and os.path.lexists(artifact.path):
                        print(f"{artifact.path}: {damage}; making it again", file=sys.stderr)
                        _remove(artifact.path)
                    self._make(artifact, stage, inputs, described)
        if artifact not in self.used:
            self.used.append(artifact)
        return artifact

    def again(self, pipeline: Callable[[], T]) -> T:
        """`pipeline()`; from the start when it finds an artifact damaged, which is removed first.

        Large HDF5 files are found out only as they are read (see `LARGE`).

        Raises:
            DamagedError: of a file that is not the store's, or for the second time.
        """
        removed: set[Path] = set()
        while True:
            try:
                return pipeline()
            except DamagedError as error:
                damaged = next((a for a in self.used if a.path in error.path.parents), None)
                if damaged is None or damaged.path in removed:
                    raise
                print(f"{error.line}; making it again", file=sys.stderr)
                removed.add(damaged.path)
                with self._lock(damaged), suppress(FileNotFoundError):  # another run removed it
                    _remove(damaged.path)
                if self.ranks.world > 1:  # the others are elsewhere in the pipeline
                    raise InputError(f"{error.line}; removed: start the run again") from None
                self.used.clear()

    def say(self, line: str) -> None:
        """On stderr, but once: the variants of an ablation come by the same places."""
        if line not in self._said:
            print(line, file=sys.stderr, flush=True)
            self._said.add(line)

    def is_sound(self, name: str) -> bool:
        """Whether the artifact folder of that name is finished and undamaged."""
        return self._damage(Artifact(self.root / name, "")) is None

    def _make(
        self,
        artifact: Artifact,
        stage: Callable[..., None],
        inputs: tuple[Any, ...],
        described: Any,
    ) -> None:
        together = self.ranks if getattr(stage, "together", False) else ALONE
        folder = self.root / "unfinished" / artifact.path.name
        job = Job(folder, self.device, self.workers, self.checkpoint_seconds, together)
        if self.ranks.leads:
            self._make_leading(job, artifact, stage, inputs, described)
        elif together.world > 1:
            job.ranks.wait()  # until there is a folder
            stage(job, *inputs)
        self.ranks.wait()  # until it is finished

    def _make_leading(
        self,
        job: Job,
        artifact: Artifact,
        stage: Callable[..., None],
        inputs: tuple[Any, ...],
        described: Any,
    ) -> None:
        folder = job.folder
        clock = self.root / "unfinished" / f"{artifact.path.name}.seconds"
        if not folder.exists():
            clock.unlink(missing_ok=True)  # of an earlier making, which is finished
        folder.mkdir(parents=True, exist_ok=True)
        print(f"-- {stage.__name__}", file=sys.stderr, flush=True)
        give_back_freed_memory()
        job.ranks.wait()
        with Meter(clock) as meter:
            stage(job, *inputs)
        manifest = {
            "stage": f"{stage.__module__}.{stage.__qualname__}",
            "version": _version(stage),
            "inputs": described,
            "seconds": round(meter.seconds, 3),
            "attempts": meter.attempts,
            "peak_memory_bytes": meter.peak_memory,
            "peak_cuda_bytes": meter.peak_cuda,
            "workers": self.workers,
            "ranks": job.ranks.world,
            **machine(self.device),
            "files": {
                str(file.relative_to(folder)): checksum(file)
                for file in sorted(folder.rglob("*"))
                # A kill may have come between the manifest and the renaming.
                if file.is_file() and file != folder / MANIFEST
            },
        }
        with open(folder / MANIFEST, "w") as out:
            json.dump(sealed(manifest), out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        os.rename(folder, artifact.path)
        clock.unlink(missing_ok=True)

    def _found_damage(self, artifact: Artifact) -> str | None:
        """`_damage`, as the leading rank finds it."""
        return self.ranks.tell(self._damage(artifact) if self.ranks.leads else None)

    @staticmethod
    def _damage(artifact: Artifact) -> str | None:
        """What is wrong with a finished artifact; None if nothing is."""
        try:
            manifest = artifact.manifest
            if not is_sealed(manifest):
                return "its manifest is not what was written"
            for name, expected in manifest["files"].items():
                if checksum(artifact.path / name) != expected:
                    return f"{name} is not what its manifest says"
        except FileNotFoundError as error:
            return f"{error.filename} is missing"
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        except (ValueError, KeyError, TypeError, AttributeError):
            return "its manifest is unreadable"
        return None

    def _lock(self, artifact: Artifact) -> AbstractContextManager[None]:
        name = artifact.path.name
        return alone(self.root / "locks" / name, f"{name}: another run is making it")


def _remove(path: Path) -> None:
    """What is in an artifact's place; of a link, to where there was more room, only the link."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


def describe(value: Any) -> Any:
    """`value` as JSON, so that equal descriptions mean equal results."""
    if hasattr(value, "fingerprint"):
        return {"is": type(value).__name__, "fingerprint": value.fingerprint}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"a stage's input must have a fingerprint or be plain: {type(value).__name__}")


def _version(stage: Callable[..., None]) -> int:
    return stage.version  # type: ignore[attr-defined]
