"""What a finished run leaves: `metrics.json`, `detections.json`; and run lengths of masks alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from pycocotools import mask as coco

from benchmarks.detectors import find_runs
from benchmarks.report.commands import TARGETS, command_of
from benchmarks.report.figures.recall import points_of
from benchmarks.report.table import row_of
from stages.data.load import load_data
from stages.data.records import Segmentation
from stages.data.segmentation import draw_segmentations, polygons_of, run_lengths_of
from stages.errors import InputError, one_line
from stages.evaluation.detections_io import load_detections
from stages.evaluation.mistakes import KINDS
from stages.options import Options
from stages.run_folder import RunFolder
from stages.store import Store
from tests.faults.fuzz.layouts import COCO
from tests.faults.fuzz.mutate import VALUES
from tests.faults.fuzz.reader import Case, Reader

WIDTH, HEIGHT = 24, 16
HERE = {"device": "cpu", "versions": {"torch": "2"}, "commit": "0"}


# metrics.json -------------------------------------------------------------------------------------

RUN = "runs/data-micro-tiny/faster"
METRICS = f"{RUN}/metrics.json"


def _run_folder(folder: Path) -> RunFolder:
    """Of `make faster` with the folder's data."""
    config = TARGETS["faster"][1]["micro"]
    config = replace(config, data=replace(config.data, name=str(folder / "data")))
    data = load_data(config.data, Store(folder / "runs/store"))
    options = Options("micro", folder / "runs", "cpu", "", 0)
    return RunFolder(options, "faster", data, "tiny", config)


def _metrics(folder: Path) -> Sequence[str]:
    (folder / "data").mkdir()
    COCO.make(folder / "data")
    (folder / RUN).mkdir(parents=True)
    accuracy = {
        "voc07_map": 50.5,
        "voc07_interval": [40.0, 60.0],
        "area_map": 51.0,
        "coco": {"AP": 30.0, "AP50": 50.0, "APs": None},
        "coco_interval": [20.0, 40.0],
    }
    metrics = {
        "paper": "faster",
        "backbone": "tiny",
        "classes": ["cat", "dog"],
        "result": {
            **accuracy,
            "images": 9,
            "mistakes": {"all": dict.fromkeys((*KINDS, "objects"), 3)},
            "masks": accuracy,
        },
        "usual_scores": {"cat": 0.5},
        "proposals": {
            "test": [
                {"proposals": 300, "found_on_average": 9.0, "recall_50": 60.0, "recall_70": 30.0},
                {"proposals": "all", "found_on_average": 9.0, "recall_50": 70.0, "recall_70": 40.0},
            ]
        },
        "train_seconds": 10.0,
        "train_disk_mib": 3.0,
        "stages": [{"stage": "train", "seconds": 1.0, "device": "cpu", "artifact": "train-0"}],
    }
    _run_folder(folder).write(metrics, "the summary\n", {})
    return [METRICS]


def _read_metrics(folder: Path, _: str) -> None:
    """What `make faster`, `make bench` and `make detect` do with it before anything is computed."""
    # Of a paper's own command: finished, to be made again, or of another configuration.
    try:
        assert _run_folder(folder).is_finished(Store(folder / "runs/store")) in (True, False)
    except InputError as error:
        assert str(folder) in error.line
    for run in find_runs(folder / "runs"):
        if "result" not in run.metrics:
            continue  # measured on nothing: the harness leaves it out
        row = row_of(run, {"seconds": 1.0}, HERE)
        assert isinstance(row["map"], float | int)
        assert command_of(run.metrics).startswith("make ")
        points_of(run.metrics.get("proposals", {}).get("test", ()))
        assert all(isinstance(name, str) for name in run.metrics["classes"])
        usual = run.metrics.get("usual_scores", {})
        assert np.array([usual.get(name, np.inf) for name in run.metrics["classes"]]).dtype == float
        with contextlib.suppress(InputError):  # which names the data's folder
            run.data(Store(folder / "runs/store"))


# detections.json ----------------------------------------------------------------------------------


def _rle() -> str:
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    drawn[4:9, 5:20] = 1
    counts: bytes = coco.encode(np.asfortranarray(drawn))["counts"]
    return counts.decode()


def _detections(folder: Path) -> Sequence[str]:
    rows = [
        {
            "image_id": image_id,
            "category_id": category,
            "bbox": [1.5, 2.0, 10.25, 8.0],
            "score": 0.75,
            **(
                {"segmentation": {"size": [HEIGHT, WIDTH], "counts": _rle()}}
                if image_id == 1
                else {}
            ),
        }
        for image_id, category in ((1, 3), (1, 7), ("b", 3), (2, 3))
    ]
    (folder / "detections.json").write_text(json.dumps(rows))
    return ["detections.json"]


def _read_detections(folder: Path, name: str) -> None:
    sizes = {1: (HEIGHT, WIDTH), "b": (HEIGHT, WIDTH)}
    for image_id, found in load_detections(folder / name, (3, 7), sizes).items():
        count = len(found["scores"])
        assert count
        assert found["boxes"].shape == (count, 4)
        assert np.isfinite(found["boxes"]).all()
        assert (found["boxes"][:, :2] <= found["boxes"][:, 2:]).all()
        assert np.isfinite(found["scores"]).all()
        assert set(found["labels"].tolist()) <= {1, 2}
        if "segmentation" in found and image_id in sizes:
            size = list(sizes[image_id])  # type: ignore[index]
            for counts in found["segmentation"].tolist():
                assert coco.decode({"size": size, "counts": counts}).shape == tuple(size)


# Masks --------------------------------------------------------------------------------------------


def _masks(folder: Path) -> Sequence[str]:
    whole = [
        {"size": [HEIGHT, WIDTH], "counts": _rle()},
        {"size": [HEIGHT, WIDTH], "counts": [20, 5, 50, 9, WIDTH * HEIGHT - 84]},
        [[2, 2, 10, 2, 10, 9, 2, 9], [12, 3, 20, 3, 20.5, 10.25]],
    ]
    (folder / "masks.json").write_text(json.dumps(whole))
    return ["masks.json"]


def _read_masks(folder: Path, name: str) -> None:
    """As the reader of COCO hands them on; theirs is a ValueError, which it puts a name before."""
    path = folder / name
    try:
        outlines: Any = json.loads(path.read_bytes())
        if not isinstance(outlines, list):
            raise ValueError("no list")
        kept: list[Segmentation] = []
        for outline in outlines:
            if isinstance(outline, dict):
                kept.append(run_lengths_of(outline, WIDTH, HEIGHT))
            elif isinstance(outline, list):
                kept.append(polygons_of(outline, WIDTH, HEIGHT))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {one_line(error)}") from None
    masks = draw_segmentations(kept, WIDTH, HEIGHT)
    assert masks.shape == (len(kept), HEIGHT, WIDTH)
    assert masks.dtype == bool


def _wrong_masks(_: Path) -> st.SearchStrategy[Case]:
    total = WIDTH * HEIGHT
    numbers = st.sampled_from((0, 1, 5, total, total - 1, -1, 2**31, 2**32, 2**32 + total, 2**64))
    strings = st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=40)
    sizes = st.sampled_from(([HEIGHT, WIDTH], [WIDTH, HEIGHT], [2**16, 2**16], [0, 0], [-1, 5], 5))
    runs = st.builds(
        lambda size, counts: {"size": size, "counts": counts},
        sizes,
        st.lists(numbers, max_size=8) | strings | st.sampled_from(VALUES),
    )
    coordinates = st.sampled_from((0, 1, 7.5, WIDTH, -48, 48, 47.99, 1e9, -1e300))
    polygons = st.lists(st.lists(coordinates, max_size=12), max_size=3)
    zigzags = st.builds(
        lambda count: [[-48, 0, 48, HEIGHT] * count], st.sampled_from((100, 1000, 100_000))
    )
    one = st.one_of(runs, runs, polygons, polygons, zigzags)
    make: Callable[[Any], Case] = lambda outline: Case("masks.json", json.dumps([outline]).encode())  # noqa: E731
    return one.map(make)


METRICS_JSON = Reader("metrics.json", _metrics, _read_metrics, quick=100)
DETECTIONS = Reader("detections.json", _detections, _read_detections)
MASKS = Reader("Run lengths and polygons", _masks, _read_masks, _wrong_masks, share=6, quick=200)
