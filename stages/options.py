"""Command lines: a preset, and any field of a paper's configuration over it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tyro

from stages.device import choose_device, choose_dtype
from stages.errors import LONGEST_PATH, InputError, expand
from stages.machine import cores
from stages.numbers import check_numbers, option_values
from stages.plain_words import plain
from stages.ranks import ALONE, Ranks, join, on_this_machine
from stages.store import Store

Config = TypeVar("Config")
LONGEST_TAG = 100  # it becomes a part of files' names


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
        if word.endswith("=--"):  # argparse makes a list of it
            raise InputError(f"{word}: '--' is no value")
    parser = argparse.ArgumentParser(prog=f"python -m {paper}", allow_abbrev=False, add_help=False)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--data")
    parser.add_argument("--backbone")
    parser.add_argument("--weights")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tag", default="")
    parser.add_argument("--workers", default=max(1, cores() // on_this_machine()), type=int)
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
    if os.path.lexists(runs) and not runs.is_dir():
        raise InputError(f"RUNS={runs}: is {'a file' if runs.exists() else 'a link to nowhere'}")
    if known.workers < 0:
        raise InputError(f"--workers {known.workers}: cannot be negative")
    if not re.fullmatch(r"[\w.+-]*", known.tag):
        raise InputError(f"TAG={known.tag}: letters, digits, '.', '_', '+' and '-' only")
    if len(os.fsencode(known.tag)) > LONGEST_TAG:
        raise InputError(f"TAG={known.tag}: longer than {LONGEST_TAG} bytes")
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
        raise InputError(plain(said.getvalue())) from None
    if unknown:
        names = [f"--{name}" for name, _ in option_values(config)]
        near = difflib.get_close_matches(unknown[0].partition("=")[0].replace("_", "-"), names, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; python -m {paper} --help lists all"
        raise InputError(f"unknown option {unknown[0]}{hint}")
    return config


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


def store_of(options: Options) -> Store:
    """The store that all runs under `options.runs` share."""
    return Store(options.runs / "store", options.device, options.workers, ranks=options.ranks)
