"""Photograph to boxes, timed by part on this machine; and how many at once are quickest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from benchmarks.detectors import Run
from benchmarks.rivals.detector import Detector
from stages.data.decode import decode
from stages.data.size import MOST_TOLD
from stages.device import autocast
from stages.errors import InputError
from stages.meter import Meter
from stages.processes import apart
from stages.stopwatch import OFF, Stopwatch

# The papers that go image by image; the others' networks take several as one batch.
ONE_BY_ONE = ("rcnn", "spp", "fast")
IMAGES = 8  # that every size sees, at least
MOST_ON_CPU = 64  # images at once, where memory does not say that it ends
ENOUGH = 5.0  # seconds to time a size for
GAIN = 1.02  # below which a larger batch is no faster


def time_run(run: Run, paths: Sequence[Path], device: str, scratch: Path) -> dict[str, Any]:
    """Detect in each image by itself, from its file to boxes in memory, in a process of its own.

    The first image is detected in once before, uncounted. On a GPU the parts are timed in a
    detection of their own, since each waits for the one before. One process for all detectors
    would give each what those before it left in memory.

    Args:
        paths: image files.
        scratch: a file to note peak memory in.

    Returns:
        medians over the images, in seconds: `seconds` in all with quartiles,
        `seconds_without_proposals`; `part: <name>`, `seconds` times the part's mean share of an
        image (medians of each may sum to more); `peak_memory_mib` of the process, with Python and
        its libraries, and `peak_cuda_mib`; `images_per_second` at `best_batch` images at once (1 for a
        detector that takes one at a time).

    Raises:
        InputError: the model is unreadable, or memory ends.
        BrokenProcessPool: the process died, for want of memory maybe, or of an error that it printed.
    """
    return apart(partial(_time_here, run, paths, device, scratch))


def _time_here(run: Run, paths: Sequence[Path], device: str, scratch: Path) -> dict[str, Any]:
    try:
        return _times(run, paths, device, scratch)
    except (RuntimeError, MemoryError) as error:
        if not _is_of_memory(error):
            raise
        raise InputError(f"{run.folder}: memory ends: {error}") from None


def _times(run: Run, paths: Sequence[Path], device: str, scratch: Path) -> dict[str, Any]:
    times: list[float] = []
    proposals: list[float] = []
    shares: list[dict[str, float]] = []
    scratch.unlink(missing_ok=True)  # of one that failed: the meter would go on from it
    with Meter(scratch, beat=0.1) as meter:
        detector = run.detector(device)
        for path in [paths[0], *paths]:
            watch = Stopwatch(device)
            seconds = watched = _seconds(detector, path, watch)
            if device != "cpu":
                seconds = _seconds(detector, path, OFF)
            times.append(seconds)
            proposals.append(watch.seconds.get("proposals", 0.0))
            shares.append({part: of / watched for part, of in watch.seconds.items()})
        detector.watch = OFF
    scratch.unlink(missing_ok=True)
    times, proposals, shares = times[1:], proposals[1:], shares[1:]
    low, _, high = quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
    parts = {
        f"part: {part}": median(times) * mean(share.get(part, 0.0) for share in shares)
        for part in dict.fromkeys(part for share in shares for part in share)
    }
    rates = {1: 1 / median(times)}
    if run.metrics["paper"] not in ONE_BY_ONE:
        rates = rates_by_batch(_together(detector, device), paths, device)
    best = max(rates, key=lambda size: rates[size])
    return {
        "images_timed": len(times),
        "seconds": median(times),
        "seconds_q1": low,
        "seconds_q3": high,
        "seconds_without_proposals": median(
            whole - part for whole, part in zip(times, proposals, strict=True)
        ),
        **parts,
        "images_per_second": rates[best],
        "best_batch": best,
        "peak_memory_mib": round(meter.peak_memory / 2**20),
        "peak_cuda_mib": round(meter.peak_cuda / 2**20),
    }


def rates_by_batch(
    detect: Callable[[list[Tensor]], Any],
    paths: Sequence[Path],
    device: str,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Images a second, their decoding included, with so many at once.

    Every size sees the same eight images, a larger one them again and again (fewer are repeated
    too), after one batch uncounted; a slow detector only as many of them as start within `ENOUGH`
    seconds. Sizes double until memory ends or images a second no longer grow; on a CPU to 64.

    Args:
        detect: images [3, H, W] uint8 to detections, in memory when it returns.
        clock: seconds.

    Returns:
        by batch size, those that were tried; the last may be the one that was no faster.
    """
    rates: dict[int, float] = {}
    for size in (2**n for n in count()):
        if rates and not _has_room(device, size):
            break
        images = list(islice(cycle(paths), max(size, IMAGES)))
        batches = [images[i : i + size] for i in range(0, len(images), size)]
        try:
            detect(_decoded(batches[0]))
            started, seen = clock(), 0
            for batch in batches:
                detect(_decoded(batch))
                seen += len(batch)
                if clock() - started > ENOUGH:
                    break
            rates[size] = seen / (clock() - started)
        except (RuntimeError, MemoryError) as error:
            if not rates or not _is_of_memory(error):
                raise
            break
        if rates[size] < GAIN * max([rate for n, rate in rates.items() if n < size], default=0.0):
            break
    if device != "cpu":
        torch.cuda.empty_cache()
    return rates


def _seconds(detector: Any, path: Path, watch: Stopwatch) -> float:
    detector.watch = watch
    started = time.perf_counter()
    with watch("decode"):
        image = torch.from_numpy(_pixels(path)).permute(2, 0, 1)
    detector([image])[0]["boxes"].cpu()
    return time.perf_counter() - started


def _pixels(path: Path) -> np.ndarray:
    """uint8 [H, W, 3], however large: the run has detected in it, as its data set allowed."""
    return decode(path, MOST_TOLD)


def _decoded(paths: Sequence[Path]) -> list[Tensor]:
    return [torch.from_numpy(_pixels(path)).permute(2, 0, 1) for path in paths]


def _together(detector: Any, device: str) -> Callable[[list[Tensor]], Any]:
    """Detects in all images at once: ours are called so; torchvision's is, under its wrapping."""

    @torch.inference_mode()
    def torchvision(images: list[Tensor]) -> list[dict[str, Tensor]]:
        with autocast(device, detector.dtype):
            found: list[dict[str, Tensor]] = detector.network(
                [image.to(device).float() / 255 for image in images]
            )
        return found

    call = torchvision if isinstance(detector, Detector) else detector

    def detect(images: list[Tensor]) -> None:
        for found in call(images):
            found["boxes"].cpu()

    return detect


def _has_room(device: str, size: int) -> bool:
    """Whether so many images may be tried: a CPU's system does not refuse memory, it ends the process.

    Twice as many as before take no more than is taken now.
    """
    if device != "cpu":
        return True
    free, taken = psutil.virtual_memory().available, psutil.Process().memory_info().rss
    return size <= MOST_ON_CPU and free > taken


def _is_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "can't allocate memory" in str(error)  # a CPU's
    )
