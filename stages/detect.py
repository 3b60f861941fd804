"""Detection over a whole split, in shards, so that a kill costs sixteen images.

n detections in an image.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from stages.data.images import image_tensor
from stages.data.records import Dataset, Record
from stages.evaluation.detections_io import save_detections, sizes_of
from stages.reading import damage_named
from stages.shards import shards
from stages.store import Job
from stages.sweep import sweep
from stages.writing import replacing

SHARD = 16  # images
Detection: TypeAlias = Mapping[str, Tensor | np.ndarray]


def detect_split(
    job: Job, data: Dataset, detect: Callable[[Tensor, Record], dict[str, Detection]]
) -> None:
    """Run a detector over the test split. Writes `<kind>.json`, COCO results, for each kind it gives.

    Args:
        detect: (uint8 image [3, H, W], record) -> detections by kind, usually just `detections`:
            `boxes` [n, 4], `labels` [n], `scores` [n], and of masks `segmentation` 'S' [n],
            see `stages.evaluation.detections_io`. n is an image's own and may be 0.
    """
    records = data.test
    every = shards(job.folder / "shards", len(records), SHARD, ".npz")
    for shard, images in sweep(records, every, job.workers, "detection", image_tensor, job.ranks):
        arrays: dict[str, np.ndarray] = {}
        for index, (record, image) in enumerate(images, start=shard.start):
            for kind, found in detect(image, record).items():
                for key, value in found.items():
                    array = value.cpu().numpy() if isinstance(value, Tensor) else value
                    arrays[f"{kind}/{index}/{key}"] = array
        with replacing(shard.path) as file:
            np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]

    job.ranks.wait()
    if not job.ranks.leads:
        return
    by_kind: dict[str, dict[str | int, dict[str, Any]]] = {}
    for shard in every:
        with damage_named(shard.path), np.load(shard.path) as arrays_of:
            for name in arrays_of.files:
                kind, index, key = name.split("/")
                image_id = records[int(index)].image_id
                by_kind.setdefault(kind, {}).setdefault(image_id, {})[key] = arrays_of[name]
    for kind, detections in by_kind.items():
        path = job.folder / f"{kind}.json"
        save_detections(path, detections, data.category_ids, sizes_of(records))
    shutil.rmtree(job.folder / "shards")
