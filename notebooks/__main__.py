"""`make notebooks`: run them from top to bottom, their outputs written into them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError

from notebooks.execute import execute, notebooks
from stages.errors import InputError
from stages.run import main
from stages.writing import replacing


def command(arguments: Sequence[str]) -> None:
    """Execute in place, those named or all; each is written when it has run to its end."""
    every = {path.stem: path for path in notebooks()}
    parser = argparse.ArgumentParser(prog="python -m notebooks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(every)}")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--preset", default="small")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in every]
    if unknown:
        raise InputError(f"{unknown[0]}: no such notebook, but {', '.join(every)}")
    for name in options.names or every:
        print(f"-- {name}", file=sys.stderr, flush=True)
        notebook = nbformat.read(every[name], as_version=4)
        try:
            execute(notebook, options.runs, options.preset)
        except CellExecutionError as error:
            if error.ename in ("InputError", "DamagedError"):
                raise InputError(f"{every[name].name}: {error.evalue}") from None
            raise
        with replacing(every[name]) as file:
            file.write(nbformat.writes(notebook).encode() + b"\n")
        print(every[name])


if __name__ == "__main__":
    main(command)
