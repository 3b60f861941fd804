"""A thousand photographs through `make detect`: does its memory grow?

`python -m tests.faults.soak [--papers rcnn ..] [--photographs 1000] [--out runs/soak]`

Of each paper a `micro` run, and photographs of ten sizes in turns. Memory is that of the process and its
children, looked at from outside: the middle of its second hundred photographs, when all sizes have been
seen often, against that of its last. The exit code is 1 where it has grown by more than a twentieth.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psutil
from PIL import Image

from tests.faults.__main__ import whole
from tests.faults.paper import MODULES, ROOT

MOST = 1.05
SIDES = [(320 + 40 * n, 680 - 40 * n) for n in range(10)]


def photographs(drawn: Path, folder: Path, count: int) -> None:
    """So many JPEGs, of drawn scenes enlarged."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = sorted(drawn.glob("draw_shapes-*/JPEGImages/*.jpg"))
    for n in range(count):
        with Image.open(scenes[n % len(scenes)]) as image:
            image.resize(SIDES[n % len(SIDES)]).save(folder / f"{n:05d}.jpg")


def memory_by_photograph(runs: Path, folder: Path, paper: str) -> list[tuple[int, int]]:
    """(photographs done, bytes resident then), looked at ten times a second.

    Raises:
        RuntimeError: it did not end well.
    """
    said = folder.parent / "said.txt"
    options = ["--model", paper, "--runs", str(runs), "--device", "cpu"]
    with open(said, "w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks", "detect", *options, str(folder)],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    watched, seen = psutil.Process(process.pid), []
    while process.poll() is None:
        done = said.read_bytes().count(b" detections; ") + said.read_bytes().count(b" detection; ")
        try:
            family = [watched, *watched.children(recursive=True)]
            seen.append((done, sum(one.memory_info().rss for one in family)))
        except psutil.Error:
            continue  # one of them has just ended
        time.sleep(0.1)
    if process.returncode != 0:
        raise RuntimeError(said.read_text()[-2000:])
    return seen


def main() -> int:
    """A line a paper."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--papers", nargs="+", choices=MODULES, default=list(MODULES))
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/soak"))
    options = parser.parse_args()
    out, count, grown = options.out.resolve(), options.photographs, False
    print(
        "| paper | photographs | MiB, second hundred | MiB, last hundred | ratio |\n|---|---|---|---|---|"
    )
    for paper in options.papers:
        whole(paper, out / "runs")
        photographs(out / "runs" / "store", out / "photographs", count)
        seen = memory_by_photograph(out / "runs", out / "photographs", paper)
        early = [memory for done, memory in seen if 100 <= done < 200]
        late = [memory for done, memory in seen if count - 100 <= done < count]
        ratio = median(late) / median(early)
        grown |= ratio > MOST
        mib = [round(median(part) / 2**20) for part in (early, late)]
        print(f"| {paper} | {seen[-1][0]} | {mib[0]} | {mib[1]} | {ratio:.3f} |", flush=True)
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
