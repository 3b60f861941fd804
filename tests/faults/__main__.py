"""The long run: `micro` runs of every paper, killed, interrupted, damaged, without room and all at once.

`python -m tests.faults [trial ..] [--papers rcnn ..] [--count 30] [--seed 0] [--out runs/faults]`

Every run must end with the results, to the bit, of one to which nothing happened; or with one line, so
that the next does. What was lost is printed, and the table is left in `<out>/table.md`. The exit code is
1 if anything was lost. About an hour and a half on two cores; `make test` has a few of them.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from pathlib import Path

from tests.faults.paper import MODULES, Program
from tests.faults.trials import TRIALS, Trial

# Of a run at once or with a clock that jumps there is not much to vary; `room` takes two runs a fault.
FEWER = {"together": 2, "clock": 3, "room": 2, "workers": 2, "ranks": 2}


def whole(paper: str, runs: Path) -> float:
    """A run to which nothing happens; its seconds.

    Raises:
        RuntimeError: it did not end well.
    """
    began = time.monotonic()
    ended = Program(paper, runs).end()
    if ended.status != 0:
        raise RuntimeError(f"{paper}: {ended.said[-2000:]}")
    return time.monotonic() - began


def main() -> int:
    """Try, print, and leave the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("trials", nargs="*", choices=[*TRIALS, []], help="all unless named")
    parser.add_argument("--papers", nargs="+", choices=MODULES, default=list(MODULES))
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    lines, lost = [], 0
    for paper in options.papers:
        shutil.rmtree(out / paper, ignore_errors=True)
        runs = out / paper / "whole"
        took = whole(paper, runs)
        for name in options.trials or TRIALS:
            count = max(1, options.count // FEWER.get(name, 1))
            rng = random.Random(f"{options.seed} {paper} {name}")
            began = time.monotonic()
            tally = TRIALS[name](Trial(paper, runs, took, out / paper / name, count, rng))
            lost += len(tally.lost)
            minutes = (time.monotonic() - began) / 60
            line = f"| {paper} | {name} | {tally.struck} | {len(tally.lost)} | {minutes:.1f} |"
            print("\n".join([line, *tally.lost]), flush=True)
            lines.append(line)
            shutil.rmtree(out / paper / name, ignore_errors=True)
    head = "| paper | trial | faults | lost | minutes |\n|---|---|---|---|---|"
    (out / "table.md").write_text("\n".join([head, *lines]) + "\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
