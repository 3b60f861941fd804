"""The long run: ten thousand broken files a reader, an hour or two on a core.

`python -m tests.faults.fuzz [reader ..] [--cases 10000] [--seed 0] [--guided] [--out runs/fuzz]`

Each reader's cases are read in a child process whose address space may grow by 1 GiB. A crash is
counted and the rest is tried in a new child; a case that takes longer than a minute is killed. What
failed is left in `<out>/<reader>/failed/`, and the table in `<out>/table.md`. The exit code is 1 if
anything failed. The test suite tries a few hundred a reader: `tests/faults/test_fuzz_readers.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.fuzz.child import Progress, keep
from tests.faults.fuzz.reader import Case

HANGS = 60.0  # seconds of a case, on a clock; `SLOW` is of the processor
ROOT = Path(__file__).parents[3]


def try_reader(slug: str, cases: int, first: int, folder: Path, module: str = "child") -> Progress:
    """Try so many cases of a reader, in as many children as it takes.

    Args:
        folder: is emptied.
        module: of the child.
    """
    shutil.rmtree(folder, ignore_errors=True)
    total = Progress()
    attempt = 0
    while total.cases < cases:
        part = folder / str(attempt)
        done, fault = _child(slug, cases - total.cases, first + 1000 * attempt, part, module)
        total.accepted += done.accepted
        total.refused += done.refused
        total.slowest, total.peak = max(total.slowest, done.slowest), max(total.peak, done.peak)
        for kind, count in done.failures.items():
            total.failures[kind] = total.failures.get(kind, 0) + count
        if fault is None:
            break  # hypothesis may know of no further cases
        total.failures[fault] = total.failures.get(fault, 0) + 1
        attempt += 1
    return total


def _child(
    slug: str, cases: int, first: int, folder: Path, module: str
) -> tuple[Progress, str | None]:
    """What a child got done, and how it ended if not well."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", f"tests.faults.fuzz.{module}"]
    with open(folder / "said.txt", "w") as said:
        process = subprocess.Popen(
            [*command, slug, str(cases), str(first), str(folder)],
            cwd=ROOT,
            stdout=said,
            stderr=said,
        )
        hung = False
        while process.poll() is None:
            time.sleep(0.2)
            now = _progress(folder)
            if now.started and time.time() - now.started > HANGS:
                hung = True
                process.kill()
    done = _progress(folder)
    if process.returncode == 0:
        return done, None
    if not done.name:
        raise RuntimeError(f"{folder / 'said.txt'}: the child did not begin")
    fault = f"hung for {HANGS:g} s" if hung else f"crashed: exit code {process.returncode}"
    path = folder / "files" / done.name
    keep(folder, 90, fault, Case(done.name, path.read_bytes()))
    return done, fault


def _progress(folder: Path) -> Progress:
    try:
        return Progress(**json.loads((folder / "progress.json").read_text()))
    except (OSError, ValueError):
        return Progress()


def row(name: str, done: Progress) -> str:
    """A line of the table."""
    return (
        f"| {name} | {done.cases:,} | {done.accepted:,} | {done.refused:,} "
        f"| {sum(done.failures.values())} | {done.slowest:.1f} | {done.peak / 2**20:.0f} |"
    )


COLUMNS = ("reader", "cases", "read", "refused", "failed", "slowest, s", "most memory, MiB")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def main(arguments: Sequence[str]) -> int:
    from tests.faults.fuzz.readers import READERS

    names = {reader.slug: reader.name for reader in READERS}
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz")
    parser.add_argument("readers", nargs="*", choices=[[], *names], default=[], metavar="reader")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--guided", action="store_true", help="cases bred by atheris")
    options = parser.parse_args(arguments)
    if options.guided and importlib.util.find_spec("atheris") is None:
        parser.error("--guided needs atheris: uv pip install atheris")
    module = "guided" if options.guided else "child"
    lines, failed = [HEAD], False
    print(HEAD, flush=True)
    for slug in options.readers or names:
        done = try_reader(slug, options.cases, options.seed, options.out / slug, module)
        lines.append(row(names[slug], done))
        print(lines[-1], flush=True)
        for kind, count in done.failures.items():
            failed = True
            print(f"  {count} x {kind}", flush=True)
        (options.out / "table.md").write_text("\n".join(lines) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
