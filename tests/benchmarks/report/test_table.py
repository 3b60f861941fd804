"""The table's rows, speed-ups over R-CNN, and what is compared with what."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.detectors import LOADERS, Run
from benchmarks.papers import TABLE_4
from benchmarks.report.commands import TARGETS
from benchmarks.report.comparison import Comparison
from benchmarks.report.look import LOOKS, TITLES, labels, looks
from benchmarks.report.table import row_of, with_gains
from tests.benchmarks.report.conftest import HERE


def row(paper: str, test: float, train: float, backbone: str = "vgg16", **more: Any) -> Any:
    return {
        "paper": paper,
        "backbone": backbone,
        "tag": "",
        "preset": "small",
        "folder": f"x/{paper}",
        "seconds_without_proposals": test,
        "train_seconds": train,
        "train_device": "here",
        "system": "",
        **more,
    }


def test_speed_ups_are_over_rcnn_of_the_same_network() -> None:
    table = pd.DataFrame(
        [
            row("rcnn", 30.0, 100.0, tag="untuned"),
            row("rcnn", 20.0, 80.0),
            row("fast", 0.5, 10.0, system="Fast R-CNN"),
            row("spp", 2.0, 20.0, system="SPPnet, 5 scales", train_device="there"),
            row("faster", 0.1, 0.0),
            row("fast", 0.25, 10.0, system="Fast R-CNN", backbone="alexnet"),
            row("spp", 1.0, 10.0),  # of one scale
        ]
    )
    gains = with_gains(table)
    # The R-CNN without a tag; not over another network's.
    assert gains.test_gain.iloc[[0, 1, 2, 3, 4, 6]].tolist() == pytest.approx(
        [20 / 30, 1, 40, 10, 200, 20]
    )
    assert isnan(gains.test_gain.iloc[5])
    assert gains.train_gain.iloc[:3].tolist() == pytest.approx([0.8, 1, 8])
    # Trained on another device; not trained at all; no R-CNN.
    assert gains.train_gain.iloc[3:6].isna().all()
    # Fast R-CNN's table 4.
    assert gains.paper_test_gain.fillna(0).tolist() == [0, 0, 146, 20, 0, 98, 0]
    assert gains.paper_train_gain.fillna(0).tolist() == [0, 0, 8.8, 3.4, 0, 18.3, 0]


def test_only_one_data_sets_runs_are_compared(compared: list[Comparison]) -> None:
    assert [one.title for one in compared] == ["cats & dogs, 6 test images", "other, 6 test images"]
    assert [[entry.label for entry in one.entries] for one in compared] == [
        ["R-CNN", "Fast R-CNN, short"],
        ["Faster R-CNN", "torchvision's Mask R-CNN"],
    ]
    for one in compared:
        assert list(one.table.label) == [entry.label for entry in one.entries]
        assert [run.name for run in (entry.run for entry in one.entries)] == list(one.table.run)
        assert "/" not in one.slug


def test_labels_say_as_much_as_it_takes() -> None:
    fast = row("fast", 1, 1)
    assert labels([row("rcnn", 1, 1), fast]) == ["R-CNN", "Fast R-CNN"]
    assert labels([fast, {**fast, "tag": "short"}]) == ["Fast R-CNN", "Fast R-CNN, short"]
    assert labels([fast, {**fast, "backbone": "tiny"}]) == ["Fast R-CNN, vgg16", "Fast R-CNN, tiny"]
    assert labels([fast, {**fast, "preset": "paper"}, row("spp", 1, 1)]) == [
        "Fast R-CNN, small",
        "Fast R-CNN, paper",
        "SPPnet",
    ]
    assert labels([fast, {**fast, "folder": "y/fast"}]) == [
        "Fast R-CNN, small, x/fast",
        "Fast R-CNN, small, y/fast",
    ]


def test_float32_is_said_where_others_take_half_the_bits() -> None:
    fast, rcnn = row("fast", 1, 1), row("rcnn", 1, 1)
    half, whole = {"dtype": "bfloat16"}, {"dtype": "float32"}
    assert labels([{**rcnn, **half}, {**fast, **whole}]) == ["R-CNN", "Fast R-CNN, float32"]
    assert labels([{**rcnn, **whole}, {**fast, **whole}]) == ["R-CNN", "Fast R-CNN"]


def test_detectors_of_one_paper_share_a_colour_and_no_marker() -> None:
    found = looks(["fast", "rcnn", "fast", "fast"])
    assert found[0].colour == found[2].colour == found[3].colour != found[1].colour
    assert len({look.marker for look in found}) == 4
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.colour for look in LOOKS.values()}) == len(LOOKS)


def test_every_detector_that_is_found_can_be_reported() -> None:
    assert (
        set(LOADERS) <= set(LOOKS) and set(LOADERS) <= set(TITLES) and set(LOADERS) <= set(TARGETS)
    )


def finished(paper: str, **more: Any) -> Run:
    about = {"data": "x", "data_fingerprint": "y", "preset": "small", "backbone": "tiny"}
    result = {"voc07_map": None, "voc07_interval": [None, None], "images": 0}
    metrics = {**about, "paper": paper, "result": result, "config": {}, **more}
    return Run(Path(f"folder/{paper}"), metrics)


@pytest.mark.parametrize(
    "config",
    [
        {"dtype": "float32", "sgd": {"dtype": "bfloat16"}},
        {"detection": {"dtype": "float32"}},
        {"detection": {"nms_iou": 0.3}, "features": {"dtype": "float32"}},
    ],
    ids=["rivals", "fast", "rcnn"],
)
def test_the_dtype_is_that_of_detection(config: dict[str, Any]) -> None:
    assert row_of(finished("fast", config=config), {}, HERE)["dtype"] == "float32"


@pytest.mark.parametrize(
    ("stage", "seconds"),
    [("search_selectively", 7.5), ("import_proposals", float("nan")), ("propose_by_rpn", 0.0)],
)
def test_seconds_of_selective_search(stage: str, seconds: float) -> None:
    run = finished("fast", stages=[{"stage": stage, "seconds": 7.5, "device": "here"}])
    found = row_of(run, {}, HERE)["search_seconds"]
    assert found == pytest.approx(seconds, nan_ok=True)


@pytest.mark.parametrize(
    ("paper", "config", "system"),
    [
        ("spp", {"pyramid": {"scales": [480, 576, 688, 864, 1200]}}, "SPPnet, 5 scales"),
        ("spp", {"pyramid": {"scales": [688]}}, ""),
        ("fast", {"scale": {"test": [600]}}, "Fast R-CNN"),
        ("fast", {"scale": {"test": [600]}, "svd": {"fc6": 64, "fc7": 16}}, "Fast R-CNN + SVD"),
        ("fast", {"scale": {"test": [600]}, "svd": {"fc6": 64, "fc7": None}}, ""),
        ("fast", {"scale": {"test": [480, 576, 688, 864, 1200]}}, ""),
        ("faster", {"scale": {"test": [600]}}, ""),
        ("rcnn", {}, ""),
    ],
)
def test_the_papers_system_has_as_many_scales(
    paper: str, config: dict[str, Any], system: str
) -> None:
    assert row_of(finished(paper, config=config), {}, HERE)["system"] == system
    assert system == "" or ("vgg16", system) in TABLE_4


def test_what_was_not_measured_is_nan() -> None:
    found = row_of(finished("rcnn"), {"seconds": 1.0}, HERE)
    missing = ("map", "map_low", "coco_ap", "coco_ap_high", "mask_map", "train_seconds")
    assert all(isnan(found[name]) for name in missing)
    assert (found["folder"], found["tag"], found["seconds"]) == ("folder/rcnn", "", 1.0)
