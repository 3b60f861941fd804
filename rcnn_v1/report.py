"""What a finished R-CNN run leaves: metrics, detections, the model, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rcnn_v1.config import Config
from rcnn_v1.pipeline import Finished
from stages.evaluation.detections_io import load_detections
from stages.evaluation.threshold import usual_scores
from stages.report import read_json, result_line, stage_rows, stage_table
from stages.store import Store


def report(
    finished: Finished, store: Store, config: Config
) -> tuple[dict[str, Any], str, dict[str, Path]]:
    """`metrics.json`'s content, its summary as text, and files to copy, by name."""
    regressed = read_json(finished.evaluation.path / "detections.json")
    unregressed = read_json(finished.evaluation.path / "unregressed.json")
    rows = stage_rows(store.used)
    detections = load_detections(
        finished.detections.path / "detections.json", finished.data.category_ids
    )
    usual = usual_scores(finished.data, detections)
    of_training = {artifact.path.name for artifact in finished.training}
    metrics = {
        "paper": "rcnn",
        "backbone": config.backbone.name,
        "classes": finished.data.classes,
        "result": regressed,
        "result_without_box_regression": unregressed,
        "usual_scores": {
            name: float(score)
            for name, score in zip(finished.data.classes, usual, strict=True)
            if np.isfinite(score)
        },
        "proposals": read_json(finished.proposals.path / "recall.json"),
        "train_seconds": round(sum(r["seconds"] for r in rows if r["artifact"] in of_training), 3),
        "train_disk_mib": round(
            sum(r["disk_mib"] for r in rows if r["artifact"] in of_training), 2
        ),
        "stages": rows,
    }
    summary = "\n".join(
        [
            stage_table(rows),
            result_line("with box regression", regressed),
            result_line("without", unregressed),
        ]
    )
    files = {
        "detections.json": finished.detections.path / "detections.json",
        "unregressed.json": finished.detections.path / "unregressed.json",
        "model": finished.model.path,
        **{path.name: path for path in finished.pictures.path.glob("*.png")},
    }
    return metrics, summary, files
