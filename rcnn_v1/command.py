"""`python -m rcnn_v1`: run the pipeline, then leave what people look at in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence

from rcnn_v1.config import PRESETS, Config
from rcnn_v1.pipeline import run
from stages.data.load import load_data
from stages.report import read_json, result_line, stage_rows, stage_table
from stages.run import RunFolder, parse, store_of


def command(arguments: Sequence[str]) -> None:
    """Parse, run, report."""
    options, config = parse("rcnn_v1", Config, PRESETS, arguments)
    store = store_of(options)
    folder = RunFolder(options, "rcnn", load_data(config.data, store).name, config.backbone.name, config)
    store.used.clear()
    finished = run(config, store)

    results = {
        "with box regression": read_json(finished.evaluation.path / "detections.json"),
        "without": read_json(finished.evaluation.path / "unregressed.json"),
    }
    rows = stage_rows(store.used)
    of_training = {artifact.path.name for artifact in finished.training}
    metrics = {
        "paper": "rcnn",
        "data": finished.data.name,
        "preset": options.preset,
        "backbone": config.backbone.name,
        "tag": options.tag,
        "result": results["with box regression"],
        "result_without_box_regression": results["without"],
        "proposals": read_json(finished.proposals.path / "recall.json"),
        "train_seconds": round(sum(r["seconds"] for r in rows if r["artifact"] in of_training), 3),
        "disk_mib": round(sum(r["disk_mib"] for r in rows if r["artifact"] in of_training), 2),
        "stages": rows,
    }
    pictures = {path.name: path for path in finished.pictures.path.glob("*.png")}
    folder.write(
        metrics,
        {
            "detections.json": finished.detections.path / "detections.json",
            "unregressed.json": finished.detections.path / "unregressed.json",
            "model": finished.model.path,
            **pictures,
        },
    )
    print(stage_table(rows))
    for name, result in results.items():
        print(result_line(name, result))
    print(f"{folder.path}")
