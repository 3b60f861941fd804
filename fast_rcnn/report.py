"""What a finished Fast R-CNN run leaves: metrics, detections, the model, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fast_rcnn.config import Config
from fast_rcnn.pipeline import Finished
from stages.report import metrics_of, result_line, stage_table
from stages.store import Store


def report(
    finished: Finished, store: Store, config: Config
) -> tuple[dict[str, Any], str, dict[str, Path]]:
    """`metrics.json`'s content, its summary as text, and files to copy, by name."""
    detections = finished.detections.path / "detections.json"
    metrics = metrics_of(
        "fast",
        config.backbone.name,
        finished.data,
        {
            "result": finished.evaluation.path / "detections.json",
            "result_without_box_regression": finished.evaluation.path / "unregressed.json",
        },
        detections,
        finished.proposals,
        finished.training,
        store.used,
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
