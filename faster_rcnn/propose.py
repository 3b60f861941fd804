"""The RPN's proposals on disk, in selective search's place."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Literal, cast

import numpy as np
import torch

from fast_rcnn.config import ScaleConfig
from faster_rcnn.config import Config, ProposalConfig, RPNConfig, RPNLossConfig
from faster_rcnn.detector import ready
from faster_rcnn.network import FasterRCNN, build_untrained
from faster_rcnn.train import RPN_LAYERS, TRUNK, load_parts
from stages.backbones.config import Name
from stages.backbones.weights import Weights, build_backbone
from stages.data.images import image_tensor
from stages.data.records import Dataset, TrainingData
from stages.device import DType
from stages.proposals.cache import write_proposals
from stages.proposals.stage import keep_recall
from stages.reading import damage_named
from stages.shards import shards
from stages.store import Artifact, Job, Store, stage
from stages.sweep import sweep
from stages.writing import replacing

SHARD = 16  # images: what a kill may cost


def propose_with(
    config: Config,
    data: TrainingData,
    trained: Artifact,
    proposals: ProposalConfig,
    split: Literal["train", "test"],
    store: Store,
) -> Artifact:
    """A training's proposals for a split of the run's data; see `propose_by_rpn`."""
    return store.run(
        propose_by_rpn,
        data,
        trained,
        config.backbone.name,
        config.scale,
        dataclasses.replace(config.rpn, loss=RPNLossConfig()),  # the training's, idle here
        proposals,
        config.detection.dtype,
        split,
    )


@stage(version=3, together=True)
def propose_by_rpn(
    job: Job,
    data: TrainingData,
    trained: Artifact,
    name: Name,
    scale: ScaleConfig,
    rpn: RPNConfig,
    proposals: ProposalConfig,
    dtype: DType,
    split: Literal["train", "test"],
) -> None:
    """Propose boxes in every image of a split. Writes what `search_selectively` writes.

    Args:
        trained: a training that holds the trunk and the RPN.
    """
    backbone = build_backbone(name, Weights(None, "random"))
    model = build_untrained(backbone, data.classes, rpn, scale, proposals=proposals)
    load_parts(model, trained, TRUNK, RPN_LAYERS)
    propose_split(job, data, ready(model, dtype, job.device), split)


def propose_split(
    job: Job, data: TrainingData, model: FasterRCNN, split: Literal["train", "test"]
) -> None:
    """The proposals of a model that is ready. Writes what `search_selectively` writes."""
    # Of a training split there is no test split to propose in.
    records = data.train if split == "train" else cast(Dataset, data).test
    every = shards(job.folder / "shards", len(records), SHARD, ".npz")
    for shard, images in sweep(
        records, every, job.workers, "the RPN's proposals", image_tensor, job.ranks
    ):
        found = []
        for number, (_, image) in enumerate(images, start=shard.start):
            torch.manual_seed(number)  # of a random order, where the scores are not asked for
            found.append(model.propose([image])[0][0].cpu().numpy())
        with replacing(shard.path) as file:
            np.savez(file, *found)
    job.ranks.wait()
    if not job.ranks.leads:
        return
    boxes = []
    for shard in every:
        with damage_named(shard.path), np.load(shard.path) as arrays:
            boxes += [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    write_proposals(job.folder / "proposals.h5", records, boxes)
    keep_recall(job, {split: records})
    shutil.rmtree(job.folder / "shards")
