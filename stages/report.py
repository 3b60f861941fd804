"""What a finished run says of itself: `metrics.json`'s stages, and a few lines on the screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.store import Artifact


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
                "disk_mib": round(sum(f["bytes"] for f in manifest["files"].values()) / 2**20, 2),
                "device": manifest["device"],
                "commit": manifest["commit"],
                "artifact": artifact.path.name,
            }
        )
    return rows


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
