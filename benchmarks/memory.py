"""Memory of R-CNN's stages that look at everything: flat in the number of images, bounded for any cache.

Each is measured in a process of its own, which has loaded nothing else before.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rates import CONTEXT, Few, boxes_by_chance, few
from rcnn_v1.config import FeaturesConfig, SVMConfig
from rcnn_v1.features import cache_features
from rcnn_v1.svm import train_svms
from rcnn_v1.windows import windows_of
from stages.backbones.weights import Weights
from stages.data.records import Dataset
from stages.memory import keep_freed_memory
from stages.meter import Meter
from stages.proposals.cache import Proposals
from stages.shards import shards
from stages.store import Artifact, Job
from stages.writing import hdf5

WINDOWS = 64
FEATURES = 1024


def features_memory(data: Dataset, images: int, device: str, scratch: Path) -> float:
    """Peak MiB of caching fc7 of `tiny` for so many images, its workers included."""
    return _measured(_cache, few(data, images), device, scratch)


def mining_memory(data: Dataset, gibibytes: float, scratch: Path) -> float:
    """Peak MiB of training the SVMs from a cache of so many GiB of made-up features."""
    rows = int(gibibytes * 2**30 / (2 * FEATURES))
    return _measured(_mine, few(data, max(1, rows // 1000)), "cpu", scratch)


def _measured(work: Callable[..., None], data: Few, device: str, scratch: Path) -> float:
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed measurement left
    spawn = multiprocessing.get_context("spawn")
    answer: Any = spawn.SimpleQueue()
    process = spawn.Process(target=_run, args=(work, data, device, scratch, answer))
    try:
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{work.__name__} ended with exit code {process.exitcode}")
        return float(answer.get()) / 2**20
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(work: Callable[..., None], data: Few, device: str, scratch: Path, answer: Any) -> None:
    keep_freed_memory()
    work(data, device, scratch, answer)


def _cache(data: Few, device: str, scratch: Path, answer: Any) -> None:
    proposals = boxes_by_chance(data, scratch, WINDOWS)
    random, config = Weights(None, "random"), FeaturesConfig(layer="fc7")
    with Meter(scratch / "meter", beat=0.05) as meter:
        cache_features(
            Job(scratch, device, 2), data, proposals, random, "tiny", None, CONTEXT, config
        )
    answer.put(meter.peak_memory)


def _mine(data: Few, device: str, scratch: Path, answer: Any) -> None:
    proposals = boxes_by_chance(data, scratch, 1000)
    reader = Proposals(scratch / "proposals.h5")
    rng = np.random.default_rng(0)
    noise = np.maximum(rng.normal(size=(4000, FEATURES)) - 0.5, 0).astype(np.float16)
    # Each class has a direction of its own; without one nothing would ever become easy.
    directions = np.maximum(rng.normal(size=(len(data.classes), FEATURES)) * 3, 0).astype(
        np.float16
    )
    for shard in shards(scratch / "features", len(data.train), 16, ".h5"):
        rows, offsets = [], [0]
        for record in data.train[shard.start : shard.stop]:
            of_image = noise[rng.integers(len(noise), size=len(windows_of(record, reader, None)))]
            objects = record.labels[~record.iscrowd]
            of_image[: len(objects)] += directions[objects - 1]
            rows.append(of_image)
            offsets.append(offsets[-1] + len(of_image))
        with hdf5(shard.path) as file:
            together = np.concatenate(rows)
            file.create_dataset("features", data=together, chunks=(256, FEATURES), fletcher32=True)
            file["offsets"] = np.array(offsets)
    with Meter(scratch / "meter", beat=0.05) as meter:
        train_svms(
            Job(scratch, device, 0), data, proposals, Artifact(scratch, ""), None, SVMConfig()
        )
    answer.put(meter.peak_memory)
