"""Detection over a whole split, in shards, so that a kill costs sixteen images.

n detections in an image.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from stages.data.images import image_tensor
from stages.data.records import Dataset, Record
from stages.evaluation.detections_io import save_detections
from stages.shards import shards
from stages.store import Job
from stages.sweep import sweep
from stages.writing import replacing

SHARD = 16  # images
Detection = dict[str, Tensor]


def detect_split(
    job: Job, data: Dataset, detect: Callable[[Tensor, Record], dict[str, Detection]]
) -> None:
    """Run a detector over the test split. Writes `<kind>.json`, COCO results, for each kind it gives.

    Args:
        detect: (uint8 image [3, H, W], record) -> detections by kind, usually just `detections`:
            `boxes` [n, 4], `labels` [n], `scores` [n].
    """
    records = data.test
    every = shards(job.folder / "shards", len(records), SHARD, ".npz")
    for shard, images in sweep(records, every, job.workers, "detection", image_tensor):
        arrays: dict[str, np.ndarray] = {}
        for index, (record, image) in enumerate(images, start=shard.start):
            for kind, found in detect(image, record).items():
                for key, value in found.items():
                    arrays[f"{kind}/{index}/{key}"] = value.cpu().numpy()
        with replacing(shard.path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    by_kind: dict[str, dict[str | int, dict[str, Any]]] = {}
    for shard in every:
        with np.load(shard.path) as arrays_of:
            for name in arrays_of.files:
                kind, index, key = name.split("/")
                image_id = records[int(index)].image_id
                by_kind.setdefault(kind, {}).setdefault(image_id, {})[key] = arrays_of[name]
    for kind, detections in by_kind.items():
        save_detections(job.folder / f"{kind}.json", detections, data.category_ids)
    shutil.rmtree(job.folder / "shards")
