"""`make detect IMAGE=photo.jpg`: a finished detector on photographs: text, pictures, one COCO file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.coco_results import COCOResults
from benchmarks.detectors import find_model
from benchmarks.photographs import (
    add_limit,
    decoded,
    make_folder,
    photographs,
    pictures_of,
    printable,
)
from benchmarks.report.look import TITLES
from benchmarks.shown import detect_in, least_scores, said_of_hidden
from stages.device import choose_device
from stages.errors import expand
from stages.memory import give_back_freed_memory
from stages.sheet import Row, sheet

RESULTS = "detections.json"
KEPT = 60.0  # seconds after which what was found is on the disk, should the process be killed
# Photographs after which freed memory goes back to the kernel: theirs are of many sizes, whose blocks
# leave gaps in the heap that others do not fit in.
TRIMMED = 10


def detect(arguments: Sequence[str]) -> None:
    """Detect in each photograph: a line on stdout, a picture, and `detections.json` for all.

    Of a single photograph every detection is printed; at the end a line on stderr says what was found
    and not shown. They go to `--out`, or to
    `<runs>/detections/<the run's folder>/<run>/`, over what an earlier call has left there.

    Raises:
        InputError: there is no such image or model; at the end, if some images were unreadable.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks detect")
    parser.add_argument("images", nargs="+", help="files, folders, or globs in quotes")
    parser.add_argument(
        "--model",
        default="",
        help="a paper (rcnn, spp, fast, faster, mask ..) or a run's name: its newest finished run; "
        "<folder>/<run>: that one; without it the newest of all",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=str, help="folder for pictures and the COCO file")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--threshold",
        type=float,
        help="lowest score shown; without it each class's own, which leaves about as many "
        "detections an image as there are objects in training, the best of a rare class",
    )
    add_limit(parser)
    options = parser.parse_args(arguments)
    paths = photographs(options.images)
    run = find_model(options.runs, options.model)
    least = least_scores(run, options.threshold)
    by_default = options.runs / "detections" / run.folder.parent.name / run.name
    out = expand(options.out) if options.out else by_default
    pictures = dict(zip(paths, pictures_of(paths, out), strict=True))
    make_folder(out)
    model = run.detector(choose_device(options.device))
    title, classes = TITLES[run.metrics["paper"]], run.metrics["classes"]
    results = COCOResults(run, least)
    hidden, due = 0, time.monotonic() + KEPT
    try:
        for path, pixels in decoded(paths, run.name, options.most_pixels):
            shown = detect_in(pixels, model, least)
            results.add(path, pixels.shape[:2], shown)
            hidden += shown.hidden
            picture = pictures[path]
            make_folder(picture.parent)
            drawn = shown.panel(pixels, "", classes)
            sheet(picture, f"{title}: {shown.counted}", [Row([drawn])], 9.0)
            # Not print: a progress bar may be in its way.
            tqdm.write(f"{printable(path)}: {shown.counted}; {printable(picture)}")
            if len(paths) == 1:
                for box, label, score in zip(shown.boxes, shown.labels, shown.scores, strict=True):
                    place = " ".join(f"{value:.1f}" for value in box)
                    print(f"  {classes[label - 1]} {score:.3f} at {place}")
            if time.monotonic() >= due:
                results.write(out / RESULTS)
                due = time.monotonic() + KEPT
            if len(results.images) % TRIMMED == 0:
                give_back_freed_memory()
    finally:
        # Also where it is interrupted: what was found until then is not lost.
        if results.images:
            results.write(out / RESULTS)
            print(f"{printable(run.folder)}: {printable(out / RESULTS)}")
            if said := said_of_hidden(hidden, classes, least):
                print(f"-- {said}", file=sys.stderr)
