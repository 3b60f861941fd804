"""The harness's one tidy table: a row a detector, its accuracy, speed, memory and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import pandas as pd

from benchmarks.detectors import Run
from benchmarks.papers import TABLE_4, Paper

PART = "part: "


def row_of(run: Run, timed: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """A detector's row.

    Args:
        timed: `time_run`'s, now, on the machine that `here` is: `stages.machine.machine`'s.

    Returns:
        with mAP and AP in percent (`map` is VOC07's of boxes, `map_devkit` the same as the devkit rounds
        it, `coco_ap` COCO's, `mask_..` of masks, nan where not measured), `.._low` and `.._high` their
        95 % intervals; what `timed` has; training's seconds and MiB of disk, and the device that it ran
        on; `search_seconds`, of selective search in all images, training's and test's (0: none is
        needed; nan: not known, the proposals were given as a file); `system`, the run's in Fast R-CNN's
        table 4 ("": none).
    """
    metrics, result = run.metrics, run.metrics["result"]
    trained_on = sorted({stage["device"] for stage in metrics.get("stages", ())})
    return {
        "folder": f"{run.folder.parent.name}/{run.name}",
        "run": run.name,
        "paper": metrics["paper"],
        "data": metrics["data"],
        "data_fingerprint": metrics["data_fingerprint"],
        "preset": metrics["preset"],
        "tag": metrics.get("tag", ""),
        "backbone": metrics["backbone"],
        "dtype": run.dtype,
        "system": _system(metrics["paper"], metrics["config"]),
        **_accuracy(result, ""),
        **_accuracy(result.get("masks", {}), "mask_"),
        "test_images": result["images"],
        **timed,
        "train_seconds": metrics.get("train_seconds", nan),
        "train_disk_mib": metrics.get("train_disk_mib", nan),
        "search_seconds": _search_seconds(metrics.get("stages", ())),
        "train_device": "; ".join(trained_on),
        "device": here["device"],
        "torch": here["versions"]["torch"],
        "commit": here["commit"],
    }


def _system(paper: str, config: Mapping[str, Any]) -> str:
    """The row of Fast R-CNN's table 4 that is of the same number of scales, and of SVD or none."""
    if paper == "spp" and len(config.get("pyramid", {}).get("scales", ())) == 5:
        return "SPPnet, 5 scales"
    if paper == "fast" and len(config.get("scale", {}).get("test", ())) == 1:
        svd = config.get("svd", {})
        kept = [svd.get(layer) for layer in ("fc6", "fc7")]
        if kept == [None, None]:
            return "Fast R-CNN"
        if None not in kept:
            return "Fast R-CNN + SVD"
    return ""


def _search_seconds(stages: Sequence[Mapping[str, Any]]) -> float:
    if any(stage.get("stage") == "import_proposals" for stage in stages):
        return nan
    searches = [stage for stage in stages if stage.get("stage") == "search_selectively"]
    return sum(search.get("seconds", nan) for search in searches)


def _accuracy(result: Mapping[str, Any], prefix: str) -> dict[str, float]:
    none = (None, None)
    low, high = result.get("voc07_interval", none)
    coco_low, coco_high = result.get("coco_interval", none)
    values = {
        "map": result.get("voc07_map"),
        "map_low": low,
        "map_high": high,
        "map_devkit": result.get("voc07_map_devkit"),
        "map_area": result.get("area_map"),
        "coco_ap": result.get("coco", {}).get("AP"),
        "coco_ap_low": coco_low,
        "coco_ap_high": coco_high,
    }
    return {prefix + name: nan if value is None else value for name, value in values.items()}


def parts_of(table: pd.DataFrame) -> list[str]:
    """The names of the parts of a detection that some row has, in the order in which they came."""
    parts = [str(name).removeprefix(PART) for name in table if str(name).startswith(PART)]
    return [part for part in parts if table[PART + part].notna().any()]


def with_gains(table: pd.DataFrame) -> pd.DataFrame:
    """One data set's rows and how many times faster than R-CNN each is, here and in the papers.

    R-CNN is that with the same backbone; of several the one without a tag, else the first.
    Proposals are not counted, as in Fast R-CNN's table 4. Training is compared only where both
    ran on the same device.

    Returns:
        the rows with `test_gain` and `train_gain` (nan: no such R-CNN, or nothing was trained),
        `paper_test_gain` and `paper_train_gain` (nan: table 4 has no such system), for AlexNet
        where that is the backbone, for VGG16 otherwise.
    """
    rows = [
        {
            **_gain(row, [r for r in table.to_dict("records") if r["paper"] == "rcnn"]),
            **_published_gain(row["system"], row["backbone"]),
        }
        for row in table.to_dict("records")
    ]
    names = ["test_gain", "train_gain", "paper_test_gain", "paper_train_gain"]
    return table.assign(**pd.DataFrame(rows, table.index, columns=names))


def _gain(row: Mapping[Any, Any], rcnns: Sequence[Mapping[Any, Any]]) -> dict[str, float]:
    same = [rcnn for rcnn in rcnns if rcnn["backbone"] == row["backbone"]]
    if not same:
        return {"test_gain": nan, "train_gain": nan}
    first = min(same, key=lambda rcnn: rcnn["tag"])
    same_device = first["train_device"] == row["train_device"]
    trained = row["train_seconds"] > 0 and same_device
    return {
        "test_gain": first["seconds_without_proposals"] / row["seconds_without_proposals"],
        "train_gain": first["train_seconds"] / row["train_seconds"] if trained else nan,
    }


def _published_gain(system: str, backbone: str) -> dict[str, float]:
    network = backbone if backbone == "alexnet" else "vgg16"
    printed: Paper | None = TABLE_4.get((network, system))
    test = nan if printed is None else printed.test_gain
    train = nan if printed is None or printed.train_gain is None else printed.train_gain
    return {"paper_test_gain": test, "paper_train_gain": train}
