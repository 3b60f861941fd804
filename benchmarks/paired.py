"""`make paired A=faster B=fast`: is one detector better than another, on the same test images?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.detectors import find_model
from stages.ablation import Measure, coco_boxes, coco_masks, voc07
from stages.data.records import Dataset
from stages.errors import InputError
from stages.evaluation.bootstrap import interval
from stages.evaluation.detections_io import Detections, load_detections, sizes_of
from stages.store import Store

DRAWS = 1000
BOXES: Mapping[str, Measure] = {"boxes, mAP (VOC07)": voc07, "boxes, COCO's AP": coco_boxes}
MASKS: Mapping[str, Measure] = {"masks, COCO's AP": coco_masks}


def paired(arguments: Sequence[str]) -> None:
    """Print both detectors' figures, A's less B's, and its 95 % interval over images drawn for both alike.

    What makes an image easy makes it easy for both, so that interval is usually narrower than their own
    two suggest. Masks are compared where the data and both detectors have some.

    Raises:
        InputError: there is no such run, or they were not tested on the same data.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks paired")
    parser.add_argument("a", help="a paper, a run's name, or <folder>/<run>")
    parser.add_argument("b")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    a, b = find_model(options.runs, options.a), find_model(options.runs, options.b)
    for run in (a, b):
        if "result" not in run.metrics:
            raise InputError(f"{run.folder}: measured on nothing: taken as it is")
    if a.metrics["data_fingerprint"] != b.metrics["data_fingerprint"]:
        raise InputError(f"{a.folder} and {b.folder}: not of the same data")
    data = a.data(Store(options.runs / "store"))
    found = [
        load_detections(run.folder / "detections.json", data.category_ids, sizes_of(data.test))
        for run in (a, b)
    ]
    print(f"A: {a.folder}\nB: {b.folder}\n{len(data.test)} images")
    masks = all("masks" in run.metrics["result"] for run in (a, b))
    for name, measure in {**BOXES, **(MASKS if masks else {})}.items():
        print(f"{name}: {difference(data, found[0], found[1], measure)}")


def difference(data: Dataset, a: Detections, b: Detections, measure: Measure) -> str:
    """Of two on the test split, in per cent: both, A less B with its interval, and what that says."""
    ours, theirs = (measure(data, found, DRAWS) for found in (a, b))
    low, high = interval(ours.samples - theirs.samples)
    verdict = "A is above" if low > 0 else "B is above" if high < 0 else "not separated"
    return (
        f"{100 * ours.value:.1f} and {100 * theirs.value:.1f}, {100 * (ours.value - theirs.value):+.1f} "
        f"[{100 * low:+.1f}, {100 * high:+.1f}]: {verdict}"
    )
