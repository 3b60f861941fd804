"""Finished runs made by hand: two data sets, two detectors each, no network anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco

from benchmarks.detectors import Run, find_runs
from benchmarks.report.commands import TARGETS
from benchmarks.report.comparison import Comparison, compare
from benchmarks.report.table import row_of
from stages.data.load import load_data
from stages.data.records import Record
from stages.evaluation.detections_io import save_detections, sizes_of
from stages.evaluation.evaluate import evaluate
from stages.store import Store, describe

SCRIPT = "<script>alert(1)</script>"
DOLLARS = "dog $x_$"
WIDTH, HEIGHT, IMAGES = 60, 48, 6
HERE = {"device": "a <fast> machine", "versions": {"torch": "2.0"}, "commit": "abc"}
# Each image has an object of each class.
BOXES = {1: (5.0, 5.0, 20.0, 20.0), 2: (30.0, 10.0, 50.0, 40.0)}


def make_data(folder: Path) -> Path:
    """COCO's layout: the same few images for training and for the test."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    images, objects = [], []
    for n in range(1, IMAGES + 1):
        noise = np.random.default_rng(n).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((WIDTH, HEIGHT)).save(folder / "images" / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT})
        for label, (x1, y1, x2, y2) in BOXES.items():
            box = [x1, y1, x2 - x1, y2 - y1]
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": n,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                }
            )
    categories = [{"id": 1, "name": SCRIPT}, {"id": 2, "name": DOLLARS}]
    text = json.dumps({"images": images, "annotations": objects, "categories": categories})
    for split in ("train", "val"):
        (folder / "annotations" / f"instances_{split}.json").write_text(text)
    return folder


def detected(record: Record, found: bool, masks: bool) -> dict[str, np.ndarray]:
    """Both objects, or a box far from them; and one more of the second class where nothing is."""
    first = BOXES[1] if found else (40.0, 30.0, 58.0, 46.0)
    boxes = np.array([first, BOXES[2], (0.0, 40.0, 8.0, 47.0)])
    result = {
        "boxes": boxes,
        "labels": np.array([1, 2, 2]),
        "scores": np.array([0.9, 0.8 + record.width / 1000, 0.1]),
    }
    if masks:
        encoded = []
        for x1, y1, x2, y2 in boxes.astype(int):
            mask = np.zeros((record.height, record.width), np.uint8)
            mask[y1:y2, x1:x2] = 1
            encoded.append(coco.encode(np.asfortranarray(mask))["counts"])
        result["segmentation"] = np.array(encoded, np.bytes_)
    return result


def make_run(
    runs: Path, data: Path, paper: str, tag: str, found: Callable[[int], bool], **more: Any
) -> None:
    """A finished run of a paper that finds the first object of the images of which `found` says so."""
    config = TARGETS[paper][1]["micro"]
    config = replace(config, data=replace(config.data, name=str(data)))
    data_set = load_data(config.data, Store(runs / "store"))
    masks = "mask" in paper
    detections = {
        record.image_id: detected(record, found(n), masks) for n, record in enumerate(data_set.test)
    }
    folder = runs / f"{data.name}-micro-tiny" / (f"{paper}-{tag}" if tag else paper)
    folder.mkdir(parents=True)
    save_detections(
        folder / "detections.json", detections, data_set.category_ids, sizes_of(data_set.test)
    )
    metrics = {
        "paper": paper,
        "data": data_set.name,
        "data_fingerprint": data_set.fingerprint,
        "preset": "micro",
        "tag": tag,
        "backbone": "tiny",
        "config": json.loads(json.dumps(describe(config))),
        "classes": data_set.classes,
        "result": evaluate(data_set.test, detections, data_set.classes, draws=50),
        "usual_scores": {SCRIPT: 0.5, DOLLARS: 0.5},
        "train_seconds": 10.0,
        "train_disk_mib": 3.0,
        "stages": [{"stage": "train", "device": "here"}],
        **more,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))


RECALL = [
    {"proposals": 300, "found_on_average": 500.0, "recall_50": 60.0, "recall_70": 30.0},
    {"proposals": 1000, "found_on_average": 500.0, "recall_50": 70.0, "recall_70": 40.0},
    {"proposals": "all", "found_on_average": 500.0, "recall_50": 70.0, "recall_70": 40.0},
]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: on `cats & dogs` R-CNN, better and slower, and Fast R-CNN; on `other` Faster and a rival."""
    folder = tmp_path_factory.mktemp("made")
    runs = folder / "runs"
    one, two = make_data(folder / "cats & dogs"), make_data(folder / "other")
    proposals = {"test": RECALL}
    make_run(runs, one, "rcnn", "", lambda n: True, proposals=proposals, train_seconds=80.0)
    make_run(runs, one, "fast", "short", lambda n: n % 2 == 0, proposals=proposals)
    make_run(runs, two, "faster", "", lambda n: n > 0)
    make_run(runs, two, "torchvision-mask", "", lambda n: True, train_seconds=0.0)
    return runs


def timed(run: Run) -> dict[str, Any]:
    """As `time_run` would have it: R-CNN 8 s, Fast R-CNN 2 s of which 1.5 are proposals, others 0.5 s."""
    seconds, proposals = {"rcnn": (8.0, 1.5), "fast": (2.0, 1.5)}.get(
        run.metrics["paper"], (0.5, 0.0)
    )
    parts = {"part: decode": 0.00041237, "part: head": seconds - proposals - 0.3}
    return {
        "images_timed": 2,
        "seconds": seconds,
        "seconds_q1": 0.9 * seconds,
        "seconds_q3": 1.1 * seconds,
        "seconds_without_proposals": seconds - proposals,
        **parts,
        **({"part: proposals": proposals} if proposals else {}),
        "images_per_second": 1 / seconds,
        "best_batch": 1,
        "peak_memory_mib": 100,
        "peak_cuda_mib": 0,
    }


@pytest.fixture(scope="session")
def table(made: Path) -> pd.DataFrame:
    return pd.DataFrame([row_of(run, timed(run), HERE) for run in find_runs(made)])


@pytest.fixture(scope="session")
def compared(made: Path, table: pd.DataFrame) -> list[Comparison]:
    return compare(find_runs(made), table, Store(made / "store"))
