"""The front door of every paper: options, the run's folder, and errors in one line."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tyro

from stages.data.records import Dataset
from stages.device import choose_device, choose_dtype
from stages.errors import LONGEST_PATH, InputError, expand, one_line
from stages.interrupts import TerminatedError, listen
from stages.lock import alone
from stages.machine import cores
from stages.memory import keep_freed_memory
from stages.numbers import check_numbers
from stages.processes import lost_a_worker
from stages.ranks import ALONE, Ranks, join, leave, lost_a_rank
from stages.seals import SEAL, checksum, is_sealed, sealed
from stages.store import Store, describe
from stages.writing import replacing

Config = TypeVar("Config")
SUMMARY = "summary.txt"
GO_ON = "the same command goes on from here"


@dataclass(frozen=True)
class Options:
    """What shapes no result, or is shared by all papers' configurations."""

    preset: str
    runs: Path
    device: str
    tag: str
    workers: int
    ranks: Ranks = ALONE


def parse(
    paper: str, config_type: type[Config], presets: Mapping[str, Config], arguments: Sequence[str]
) -> tuple[Options, Config]:
    """Options and configuration from the command line.

    Any field of the configuration is an option: `--fine-tune.sgd.lr 0.01`.

    Raises:
        InputError: an unknown option, a value that does not fit, or a number that no run can have.
    """
    for word in arguments:
        if len(word) > LONGEST_PATH:  # tyro takes seconds over megabytes
            raise InputError(f"an option of {len(word)} characters: {word}")
    parser = argparse.ArgumentParser(prog=f"python -m {paper}", allow_abbrev=False, add_help=False)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--data")
    parser.add_argument("--backbone")
    parser.add_argument("--weights")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tag", default="")
    parser.add_argument("--workers", default=cores(), type=int)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            known, rest = parser.parse_known_args(list(arguments))
    except SystemExit:
        message = said.getvalue().splitlines()[-1].rpartition("error: ")[2]
        raise InputError(message) from None
    if known.preset not in presets:
        raise InputError(f"PRESET={known.preset}: takes {', '.join(presets)}")
    runs = expand(known.runs)
    if runs.exists() and not runs.is_dir():
        raise InputError(f"RUNS={runs}: is a file")
    if known.workers < 0:
        raise InputError(f"--workers {known.workers}: cannot be negative")
    if not re.fullmatch(r"[\w.+-]*", known.tag):
        raise InputError(f"TAG={known.tag}: letters, digits, '.', '_', '+' and '-' only")
    shared = [
        part
        for option, value in (
            ("--data.name", known.data),
            ("--backbone.name", known.backbone),
            ("--backbone.weights", known.weights),
        )
        if value
        for part in (option, value)
    ]
    device = choose_device(known.device)
    ranks = join(device)
    config = _fields(paper, config_type, presets[known.preset], [*shared, *rest])
    check_numbers(config, presets[known.preset])
    options = Options(known.preset, runs, device, known.tag, known.workers, ranks)
    return options, resolve_dtypes(config, device)


def _fields(paper: str, config_type: type[Config], preset: Config, arguments: list[str]) -> Config:
    if "--help" in arguments or "-h" in arguments:
        print(
            f"python -m {paper} [--preset P] [--data D] [--backbone B] [--weights W] [--runs DIR]"
            " [--device auto|cpu|cuda] [--tag T] [--workers N] and any field below:\n"
        )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            config, unknown = tyro.cli(
                config_type,
                prog=f"python -m {paper}",
                args=arguments,
                default=preset,
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        # tyro draws a box around what it says; the frame and the advice below it are not the message.
        words = one_line(re.sub(r"\x1b\[[0-9;]*m|[─│╭╮╰╯├┤]", " ", said.getvalue()))
        raise InputError(
            words.removeprefix("Parsing error ").partition(" For full helptext")[0]
        ) from None
    if unknown:
        names = [f"--{name}" for name in _option_names(config)]
        near = difflib.get_close_matches(unknown[0].partition("=")[0].replace("_", "-"), names, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; python -m {paper} --help lists all"
        raise InputError(f"unknown option {unknown[0]}{hint}")
    return config


def _option_names(config: Any, prefix: str = "") -> list[str]:
    names = []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            names += _option_names(value, f"{name}.")
        else:
            names.append(name)
    return names


def resolve_dtypes(config: Any, device: str) -> Any:
    """`config` with every `dtype` "auto" decided for the device: it shapes results, so it is named."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = resolve_dtypes(value, device)
        elif field.name == "dtype":
            changes[field.name] = choose_dtype(value, device)
    return dataclasses.replace(config, **changes)


class RunFolder:
    """`<runs>/<data>-<preset>-<backbone>/<paper>[-<tag>]/`: what a run leaves for people.

    Raises:
        InputError: the folder already holds a run with another configuration.
    """

    def __init__(
        self, options: Options, paper: str, data: Dataset, backbone: str, config: Any
    ) -> None:
        self._ranks = options.ranks
        name = f"{paper}-{options.tag}" if options.tag else paper
        self.path = options.runs / f"{data.name}-{options.preset}-{backbone}" / name
        self._lock = options.runs / "store" / "locks" / f"{self.path.parent.name}-{name}"
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
        self._earlier: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            earlier = json.loads((self.path / "metrics.json").read_text())
            if isinstance(earlier, dict) and (SEAL not in earlier or is_sealed(earlier)):
                self._earlier = earlier  # else it is damaged, and written again
        changed = _differences(self._earlier.get("config"), self._identity["config"])
        if self._earlier and changed:
            more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise InputError(
                f"{self.path}: holds a run with another configuration "
                f"({'; '.join(changed[:3])}{more}); name this one: TAG=..."
            )

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
        """Put copies of `files` (folders too), the summary and, last, `metrics.json` into the folder."""
        if self._ranks.leads:
            with alone(self._lock, f"{self.path}: another run is writing it"):
                self._write(metrics, summary, files)
        self._ranks.wait()

    def _write(self, metrics: dict[str, Any], summary: str, files: Mapping[str, Path]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        written = [Path(SUMMARY)]
        for name, source in files.items():
            # Not copytree, which makes one error of many: a full disk would not be seen in it.
            inside = [path for path in source.rglob("*") if path.is_file()]
            for path in inside if source.is_dir() else [source]:
                written.append(Path(name) / path.relative_to(source))
                target = self.path / written[-1]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        (self.path / SUMMARY).write_text(summary)
        there = {str(name): checksum(self.path / name) for name in sorted(written)}
        all_of_it = sealed({**self._identity, **metrics, "files": there})
        with replacing(self.path / "metrics.json") as file:
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


def _differences(a: Any, b: Any, name: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [*a, *(key for key in b if key not in a)]
        return [
            d
            for key in keys
            for d in _differences(a.get(key), b.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if a == b else [f"{name} {a} there, {b} here"]


def main(command: Callable[[Sequence[str]], None], go_on: str = GO_ON) -> None:
    """Run a command as a program: what the user can mend is one line on stderr and exit code 2.

    Ctrl-C is 130 and SIGTERM 143, as shells have it, and a process lost 1, each with a line.

    Args:
        go_on: what that line says of going on.
    """
    keep_freed_memory()
    listen()
    said = sys.stderr
    if os.environ.get("RANK", "0") != "0":  # the leading rank speaks for all, but for errors
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (until the program ends)
    try:
        command(sys.argv[1:])
        leave()
    except InputError as error:
        print(f"error: {error.line}", file=said)
        sys.exit(2)
    except KeyboardInterrupt as error:
        terminated = isinstance(error, TerminatedError)
        print(f"{'terminated' if terminated else 'interrupted'}: {go_on}", file=said)
        sys.exit(143 if terminated else 130)
    except Exception as error:
        if lost_a_worker(error):
            print(f"error: a worker process died, for want of memory? {go_on}", file=said)
            sys.exit(1)
        if lost_a_rank(error):
            print(f"error: another rank is gone ({one_line(error)[:80]}); {go_on}", file=said)
            sys.exit(1)
        refused = _refused_writing(error)
        if refused is None:
            raise
        print(
            f"error: {refused.filename or 'writing'}: {refused.strerror}; nothing finished is lost",
            file=said,
        )
        sys.exit(2)


def _refused_writing(error: BaseException | None) -> OSError | None:
    """The system's refusal to write that `error` is or came of: `torch.save` buries it under its own."""
    refusals = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
    while error is not None:
        if isinstance(error, OSError) and error.errno in refusals:
            return error
        error = error.__cause__ or error.__context__
    return None


def store_of(options: Options) -> Store:
    """The store that all runs under `options.runs` share."""
    return Store(options.runs / "store", options.device, options.workers, ranks=options.ranks)
