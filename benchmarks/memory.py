"""Memory of R-CNN's stages that look at everything: flat in the number of images, bounded for any cache.

Each is measured in a process of its own, which has loaded nothing else before.
"""

from __future__ import annotations

import dataclasses
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
from stages.backbones.weights import Weights
from stages.data.records import Dataset, Record
from stages.memory import keep_freed_memory
from stages.meter import Meter
from stages.proposals.cache import Proposals
from stages.proposals.windows import windows_of
from stages.shards import shards
from stages.store import Artifact, Job
from stages.writing import append_rows, hdf5, write_rows

WINDOWS = 64
MINED = 1000
FEATURES = 1024


def features_memory(data: Dataset, images: int, device: str, scratch: Path) -> float:
    """Peak MiB of caching fc7 of `tiny` for so many images, its workers included."""
    return _measured(_cache, few(data, images), device, scratch)


def mining_memory(data: Dataset, gibibytes: float, scratch: Path) -> float:
    """Peak MiB of training the SVMs from a cache of so many GiB of made-up features.

    They are noise, alike for objects and background, so that a large part stays hard and the mined
    negatives reach their bound. Only the first hundred images hold objects: it is the negatives
    that grow with a cache.
    """
    cut = few(data, max(1, int(gibibytes * 2**30 / (2 * FEATURES)) // MINED))
    records = [
        record if number < 100 else _without_objects(record)
        for number, record in enumerate(cut.train)
    ]
    return _measured(_mine, dataclasses.replace(cut, train=records), "cpu", scratch)


def _without_objects(record: Record) -> Record:
    boxes, labels, nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    return dataclasses.replace(
        record, boxes=boxes, labels=labels, difficult=nothing, iscrowd=nothing
    )


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
    proposals = boxes_by_chance(data, scratch, MINED)
    reader = Proposals(scratch / "proposals.h5")
    rng = np.random.default_rng(0)
    noise = np.maximum(rng.normal(size=(4000, FEATURES)) - 0.5, 0).astype(np.float16)
    for shard in shards(scratch / "features", len(data.train), 16, ".h5"):
        counts = [
            len(windows_of(record, reader, None)) for record in data.train[shard.start : shard.stop]
        ]
        with hdf5(shard.path) as file:
            rows = noise[rng.integers(len(noise), size=sum(counts))]
            append_rows(file, "features", rows)
            write_rows(file, "offsets", np.cumsum([0, *counts]))
    # Retrained more seldom and less exactly than by default, so that it ends: memory is the same,
    # but for the new negatives between two trainings.
    config = SVMConfig(retrain_after=20_000, tolerance=0.1)
    with Meter(scratch / "meter", beat=0.05) as meter:
        train_svms(Job(scratch, device, 0), data, proposals, Artifact(scratch, ""), None, config)
    answer.put(meter.peak_memory)
