"""What a finished run says of itself: `metrics.json`, and a few lines on the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stages.data.records import Dataset
from stages.evaluation.detections_io import load_detections
from stages.evaluation.threshold import usual_scores
from stages.store import Artifact


class Finished(Protocol):
    """A finished run's artifacts, whatever paper it is of."""

    @property
    def data(self) -> Dataset: ...
    @property
    def proposals(self) -> Artifact: ...
    @property
    def training(self) -> tuple[Artifact, ...]: ...
    @property
    def model(self) -> Artifact: ...
    @property
    def detections(self) -> Artifact: ...
    @property
    def evaluation(self) -> Artifact: ...
    @property
    def pictures(self) -> Artifact: ...


def report(
    paper: str, backbone: str, finished: Finished, used: Sequence[Artifact]
) -> tuple[dict[str, Any], str, dict[str, Path]]:
    """`metrics.json`'s content, its summary as text, and files to copy, by name.

    Args:
        paper, backbone, used: see `metrics_of`.
        finished: its detections are there with box regression and without.
    """
    detections = finished.detections.path / "detections.json"
    metrics = metrics_of(
        paper,
        backbone,
        finished.data,
        {
            "result": finished.evaluation.path / "detections.json",
            "result_without_box_regression": finished.evaluation.path / "unregressed.json",
        },
        detections,
        finished.proposals,
        finished.training,
        used,
    )
    summary = "\n".join(
        [
            stage_table(metrics["stages"]),
            result_line("with box regression", metrics["result"]),
            result_line("without", metrics["result_without_box_regression"]),
        ]
    )
    files = {
        "detections.json": detections,
        "unregressed.json": finished.detections.path / "unregressed.json",
        "model": finished.model.path,
        **{path.name: path for path in finished.pictures.path.glob("*.png")},
    }
    return metrics, summary, files


def metrics_of(
    paper: str,
    backbone: str,
    data: Dataset,
    evaluations: Mapping[str, Path],
    detections: Path,
    proposals: Artifact | None,
    training: Sequence[Artifact],
    used: Sequence[Artifact],
) -> dict[str, Any]:
    """`metrics.json`'s content, as all papers have it.

    Args:
        paper: its short name: "rcnn".
        backbone: its name.
        evaluations: files of `evaluate_detections` by their key: "result", and what else the
            paper compares ("result_without_box_regression").
        detections: the `detections.json` that `make detect`'s thresholds are read off.
        proposals: of selective search; None: the detector makes its own.
        training: what train time and disk are the sums of; those not in `used` count nothing.
        used: every stage of the run, in order: `Store.used`.

    Returns:
        A dict for JSON: "paper", "backbone", "classes", the keys of `evaluations`;
        "usual_scores" {class: score}, without the classes that have none; "proposals", their
        recall, where there are any; "train_seconds", "train_disk_mib" (MiB); "stages", see `stage_rows`.

    Raises:
        InputError: as `load_detections`.
    """
    rows = stage_rows(used)
    names = {artifact.path.name for artifact in training}
    trained = [row for row in rows if row["artifact"] in names]
    usual = usual_scores(data, load_detections(detections, data.category_ids))
    return {
        "paper": paper,
        "backbone": backbone,
        "classes": data.classes,
        **{name: read_json(path) for name, path in evaluations.items()},
        "usual_scores": {
            name: float(score)
            for name, score in zip(data.classes, usual, strict=True)
            if np.isfinite(score)
        },
        **({} if proposals is None else {"proposals": read_json(proposals.path / "recall.json")}),
        "train_seconds": round(sum(row["seconds"] for row in trained), 3),
        "train_disk_mib": round(sum(row["disk_mib"] for row in trained), 2),
        "stages": rows,
    }


def stage_rows(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Each stage's time, memory and disk, from its manifest."""
    rows = []
    for artifact in artifacts:
        manifest = artifact.manifest
        rows.append(
            {
                "stage": manifest["stage"].rpartition(".")[2],
                "seconds": manifest["seconds"],
                "peak_memory_mib": round(manifest["peak_memory_bytes"] / 2**20),
                "peak_cuda_mib": round(manifest["peak_cuda_bytes"] / 2**20),
                "disk_mib": round(
                    sum(f["bytes"] for name, f in manifest["files"].items() if not _is_log(name))
                    / 2**20,
                    2,
                ),
                "device": manifest["device"],
                "commit": manifest["commit"],
                "artifact": artifact.path.name,
            }
        )
    return rows


def _is_log(name: str) -> bool:
    # As long as the clock and the interruptions made it, and nothing that another stage reads.
    return name == "losses.csv" or name.startswith("tensorboard/")


def stage_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{'stage':<24} {'seconds':>8} {'peak MiB':>9} {'disk MiB':>9}"]
    lines += [
        f"{row['stage']:<24} {row['seconds']:>8.1f} {row['peak_memory_mib']:>9} {row['disk_mib']:>9.1f}"
        for row in rows
    ]
    return "\n".join(lines)


def result_line(name: str, result: dict[str, Any]) -> str:
    """mAP with its interval, both of VOC's metrics and COCO's."""

    def percent(value: float | None) -> str:
        return "n/a" if value is None else f"{value:.1f}"

    low, high = (percent(value) for value in result["voc07_interval"])
    return (
        f"{name}: mAP {percent(result['voc07_map'])} [{low}, {high}] (VOC07, 11-point), "
        f"{percent(result['area_map'])} (area), COCO AP {percent(result['coco']['AP'])}, "
        f"AP50 {percent(result['coco']['AP50'])}; {result['images']} images"
    )


def read_json(path: Path) -> Any:
    """A JSON file of ours."""
    return json.loads(path.read_text())
