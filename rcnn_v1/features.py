"""The feature cache (R-CNN, section 2.3: "features are cached on disk"): HDF5, in shards.

M windows of a shard's images together, D features of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import torch

from rcnn_v1.config import FeaturesConfig
from rcnn_v1.extract import Extractor, WindowNetwork
from stages.backbones.config import Name
from stages.backbones.weights import Weights
from stages.data.images import image_tensor
from stages.data.records import Record, TrainingData
from stages.proposals.cache import Proposals
from stages.proposals.windows import windows_of
from stages.reading import damage_named, dataset, rows_of
from stages.shards import shards
from stages.stopwatch import OFF
from stages.store import Artifact, Job, stage
from stages.sweep import sweep
from stages.writing import append_rows, hdf5, write_rows

T = TypeVar("T")
SHARD = 8  # images: held in memory until they are written, 36 kB a window for pool5


@stage(version=4, together=True)
def cache_features(
    job: Job,
    data: TrainingData,
    proposals: Artifact,
    weights: Weights,
    name: Name,
    top: int | None,
    context: float,
    config: FeaturesConfig,
) -> None:
    """Features of every window of the training split. Writes `features/*.h5`; read by `FeatureCache`."""
    network = WindowNetwork.load(name, weights, job.device, config.dtype, context, config.batch)
    write_features(job, data.train, proposals, top, network, config.layer, image_tensor)


@torch.inference_mode()
def write_features(
    job: Job,
    records: Sequence[Record],
    proposals: Artifact,
    top: int | None,
    network: Extractor[T],
    layer: str,
    load: Callable[[Record], T],
) -> None:
    """Each record's windows through `network`, up to `layer`, into `features/*.h5`.

    Args:
        load: what the network looks at for a record.
    """
    reader = Proposals(proposals.path / "proposals.h5")
    every = shards(job.folder / "features", len(records), SHARD, ".h5")
    for shard, looks in sweep(records, every, job.workers, "features", load, job.ranks):
        with hdf5(shard.path) as file:
            offsets = [0]
            for record, look in looks:
                boxes = torch.from_numpy(windows_of(record, reader, top)).to(job.device)
                parts = [
                    network.until(layer, pooled).half()
                    for pooled in network.pooled(look, boxes, OFF)
                ]
                features = torch.cat(parts).cpu().numpy() if parts else np.zeros((0, 0), np.float16)
                if len(features):
                    append_rows(file, "features", features)
                offsets.append(offsets[-1] + len(features))
            write_rows(file, "offsets", np.array(offsets, np.int64))


class FeatureCache:
    """Reads the cache an image at a time, so that its size does not matter.

    Args:
        folder: the artifact of `cache_features`.
    """

    def __init__(self, folder: Path) -> None:
        self.paths: Sequence[Path] = sorted((folder / "features").glob("*.h5"))

    def __iter__(self) -> Iterator[np.ndarray]:
        """For each training image in order, float16 [M, D], its windows' features in their order.

        Raises:
            DamagedError: a shard cannot be read, or its checksum is wrong.
        """
        for path in self.paths:
            with damage_named(path), h5py.File(path) as file:
                first, _, end = path.stem.partition("-")  # as `shards` names it
                images = int(end) - int(first) + 1 if end else None
                offsets = dataset(file, "offsets", "i", (images,))[:]
                # A shard without any window has none.
                every: Any = ()
                if "features" in file:
                    every = dataset(file, "features", "f", (None, None))
                for start, stop in pairwise(rows_of(offsets, len(every))):
                    rows = every[start:stop] if stop > start else np.zeros((0, 0))
                    yield rows.astype(np.float16, copy=False)
