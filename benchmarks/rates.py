"""How near R-CNN's slow stages come to what the machine allows: ratios, each from one interleaved run.

C crops in a batch, S the side of the network's input.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from rcnn_v1.config import Config, FeaturesConfig
from rcnn_v1.extract import WindowNetwork
from rcnn_v1.features import cache_features
from stages.backbones.config import Name
from stages.backbones.networks import layers_of
from stages.backbones.weights import Weights
from stages.data.decode import image_of
from stages.data.records import Dataset, Record
from stages.device import choose_dtype
from stages.processes import spread
from stages.proposals.cache import write_proposals
from stages.proposals.selective_search import SelectiveSearchConfig, search, search_record
from stages.store import Artifact, Job

CONTEXT = Config().context
REPEATS = 3


@dataclass(frozen=True)
class Few:
    """A data set cut to some training images, for a stage to work on."""

    name: str
    fingerprint: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    train: Sequence[Record]
    test: Sequence[Record] = ()


def few(data: Dataset, images: int) -> Few:
    """The first training images of a data set, and over again until there are so many."""
    records = [data.train[i % len(data.train)] for i in range(images)]
    return Few(data.name, "few", data.classes, data.category_ids, records)


def feature_rate(
    data: Dataset, name: Name, device: str, workers: int, scratch: Path, seconds: float = 8.0
) -> dict[str, float]:
    """Windows a second of the features stage (decoding, warping, network, writing) and of the bare network.

    The bare network eats ready batches of the same size, in the same type and layout. Weights
    are random: speed does not depend on them. The two take turns, and medians are compared.

    Args:
        scratch: a folder for what the stage writes; removed.
        seconds: about how long each turn shall take; of eight images as many windows.

    Returns:
        `stage_rate`, `bare_rate` in windows a second, and `ratio`.
    """
    cut, random = few(data, 8), Weights(None, "random")
    config = FeaturesConfig(dtype=choose_dtype("auto", device), layer=layers_of(name)[-1])
    network = WindowNetwork.load(name, random, device, config.dtype, CONTEXT, config.batch)
    side = network.backbone.crop_size
    batch = torch.rand(config.batch, 3, side, side, device=device).to(network.dtype)
    batch = batch.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def bare(batches: int) -> float:
        started = time.perf_counter()
        for _ in range(batches):
            pooled = network.backbone.pool5(network.backbone.trunk(batch))
            network.backbone.until(config.layer, pooled)
        _wait(device)
        return config.batch * batches / (time.perf_counter() - started)

    bare(1)  # warm-up
    windows = int(np.clip(seconds * bare(1) / len(cut.train), 32, 4000))
    proposals = boxes_by_chance(cut, scratch, windows)
    total = sum(int((~record.iscrowd).sum()) + windows for record in cut.train)

    def stage() -> float:
        folder = scratch / "features"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        job = Job(folder, device, workers)
        started = time.perf_counter()
        cache_features(job, cut, proposals, random, name, None, CONTEXT, config)
        return total / (time.perf_counter() - started - _building(name, device, config))

    try:
        rates = [(stage(), bare(-(-total // config.batch))) for _ in range(REPEATS)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    ours, theirs = (median(column) for column in zip(*rates, strict=True))
    return {"stage_rate": ours, "bare_rate": theirs, "ratio": ours / theirs}


def search_speedup(data: Dataset, seconds: float = 40.0) -> dict[str, float]:
    """Selective search by one worker process and by two, starting them included.

    Args:
        seconds: about how long one process shall take.

    Returns:
        `one` and `two`, images a second, and `ratio`.
    """
    config = SelectiveSearchConfig()
    started = time.perf_counter()
    search(image_of(data.train[0]), config)
    # An even number, the same images twice: both processes have as much to do.
    half = int(np.clip(seconds / (time.perf_counter() - started) / 2, 4, 200))
    tasks = [(record, config) for record in few(data, half).train] * 2

    def rate(workers: int) -> float:
        began = time.perf_counter()
        for _ in spread(search_record, tasks, workers):
            pass
        return len(tasks) / (time.perf_counter() - began)

    one, two = rate(1), rate(2)
    return {"one": one, "two": two, "ratio": two / one}


def _building(name: Name, device: str, config: FeaturesConfig) -> float:
    """Seconds to build the network, which a stage does once for any number of images."""
    started = time.perf_counter()
    WindowNetwork.load(name, Weights(None, "random"), device, config.dtype, CONTEXT, config.batch)
    return time.perf_counter() - started


def boxes_by_chance(data: Few, scratch: Path, windows: int) -> Artifact:
    """Boxes by chance, of all sizes, in each image."""
    rng = np.random.default_rng(0)
    every = []
    for record in data.train:
        size = np.array([record.width, record.height])
        corners = np.sort(rng.random((windows, 2, 2)) * size, axis=1)
        corners[:, 1] = np.minimum(corners[:, 1] + 20, size)
        every.append(corners.reshape(windows, 4).astype(np.float32))
    scratch.mkdir(parents=True, exist_ok=True)
    write_proposals(scratch / "proposals.h5", data.train, every)
    return Artifact(scratch, "proposals")


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
