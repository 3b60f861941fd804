"""Photograph to boxes, timed by part on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from benchmarks.detectors import Run
from stages.data.decode import decode
from stages.meter import Meter
from stages.stopwatch import Stopwatch


def time_run(run: Run, paths: Sequence[Path], device: str, scratch: Path) -> dict[str, Any]:
    """Detect in each image by itself, from its file to boxes in this process's memory.

    The first image is detected in once before, uncounted.

    Args:
        paths: image files.
        scratch: a file to note peak memory in.

    Returns:
        medians over the images, in seconds: `seconds` in all with quartiles, and `part: <name>`;
        `seconds_without_proposals`; `peak_memory_mib` of the process, the harness included.
    """
    rows: list[dict[str, float]] = []
    with Meter(scratch, beat=0.1) as meter:
        detector = run.detector(device)
        for path in [paths[0], *paths]:
            detector.watch = watch = Stopwatch(device)
            started = time.perf_counter()
            with watch("decode"):
                image = torch.from_numpy(decode(path)).permute(2, 0, 1)
            found = detector([image])[0]
            found["boxes"].cpu()
            rows.append({"seconds": time.perf_counter() - started, **watch.seconds})
    scratch.unlink(missing_ok=True)
    rows = rows[1:]
    times = [row["seconds"] for row in rows]
    without = [row["seconds"] - row.get("proposals", 0.0) for row in rows]
    low, _, high = quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
    parts = {
        f"part: {part}": median(row[part] for row in rows) for part in rows[0] if part != "seconds"
    }
    return {
        "images_timed": len(rows),
        "seconds": median(times),
        "seconds_q1": low,
        "seconds_q3": high,
        "seconds_without_proposals": median(without),
        **parts,
        "peak_memory_mib": round(meter.peak_memory / 2**20),
        "peak_cuda_mib": round(meter.peak_cuda / 2**20),
    }
