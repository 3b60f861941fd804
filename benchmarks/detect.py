"""`make detect MODEL=rcnn IMAGE=photo.jpg`: a finished detector on a photograph, as text and as a picture."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.detectors import Run, find_runs
from stages.data.decode import decode
from stages.device import choose_device
from stages.errors import InputError
from stages.pictures import draw_boxes, tint
from stages.sheet import Panel, Row, sheet


def detect(arguments: Sequence[str]) -> None:
    """Print the detections of each image and draw them: `<runs>/detections/<image>-<model>.png`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks detect")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", required=True, help="rcnn, rcnn-<tag>, or <folder>/rcnn[-<tag>]")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--threshold",
        type=float,
        help="lowest score shown; without it each class's own, which leaves about as many "
        "detections an image as there are objects in training",
    )
    options = parser.parse_args(arguments)
    run = find_model(options.runs, options.model)
    pictures = [decode(path) for path in options.images]  # before a model is loaded for nothing
    model = run.detector(choose_device(options.device))
    least = np.array(
        [run.metrics.get("usual_scores", {}).get(name, math.inf) for name in run.metrics["classes"]]
        if options.threshold is None
        else [options.threshold] * len(run.metrics["classes"])
    )
    for path, pixels in zip(options.images, pictures, strict=True):
        with torch.inference_mode():
            found = model([torch.from_numpy(pixels).permute(2, 0, 1)])[0]
        boxes, labels, scores = (found[key].cpu().numpy() for key in ("boxes", "labels", "scores"))
        shown = np.flatnonzero(scores >= least[labels - 1])
        picture = options.runs / "detections" / f"{path.stem}-{run.name}.png"
        if "masks" in found:
            masks = found["masks"].cpu().numpy()
            pixels = tint(pixels, masks[shown], labels[shown])
        _draw(picture, pixels, boxes[shown], labels[shown], scores[shown], run.metrics["classes"])
        print(f"{path}: {len(shown)} detections; {picture}")
        for i in shown:
            box = " ".join(f"{value:.1f}" for value in boxes[i])
            print(f"  {run.metrics['classes'][labels[i] - 1]} {scores[i]:.3f} at {box}")


def find_model(runs: Path, model: str) -> Run:
    """The finished run of that name, or of that folder and name.

    Raises:
        InputError: there is none, or several.
    """
    found = find_runs(runs)
    named = [run for run in found if model in (run.name, f"{run.folder.parent.name}/{run.name}")]
    if len(named) == 1:
        return named[0]
    there = ", ".join(f"{run.folder.parent.name}/{run.name}" for run in named or found)
    what = "could be any of" if named else "is none of the finished runs"
    raise InputError(f"MODEL={model}: {what}: {there}")


def _draw(
    path: Path,
    pixels: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    classes: Sequence[str],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    order = np.argsort(scores, kind="stable")  # the best are drawn last
    panel = Panel.of(
        pixels,
        draw=lambda axes: draw_boxes(axes, boxes[order], labels[order], classes, scores[order]),
    )
    sheet(path, path.stem, [Row([panel], "")], 9.0)
