"""Pre-training on drawn objects, as the papers pre-train on ILSVRC: what is drawn has no ImageNet.

B objects in a batch, S the side of a crop.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.backbones.classifier import Classifier
from stages.backbones.config import Name, PretrainConfig
from stages.backbones.networks import classifier, cut, tiny
from stages.data.shapes import CLASSES, draw_chunk
from stages.device import autocast, choose_dtype
from stages.processes import spread
from stages.store import Job, stage
from stages.training.loop import train
from stages.writing import replacing

CHUNK = 250  # objects drawn by one call of a worker


class ObjectBatches:
    """Batch s: B drawn objects chosen and mirrored by (seed, s)."""

    threads = False

    def __init__(self, crops: np.ndarray, labels: np.ndarray, batch: int, seed: int) -> None:
        self.crops, self.labels, self.batch, self.seed = crops, labels, batch, seed

    def __getitem__(self, iteration: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, iteration])
        chosen = rng.choice(len(self.labels), self.batch, replace=len(self.labels) < self.batch)
        crops = self.crops[chosen]
        mirrored = rng.random(self.batch) < 0.5
        crops[mirrored] = crops[mirrored, :, ::-1]
        return {
            "crops": torch.from_numpy(crops).permute(0, 3, 1, 2),
            "labels": torch.from_numpy(self.labels[chosen]),
            "image_ids": chosen.tolist(),
        }


@stage(version=2)
def pretrain(job: Job, name: Name, config: PretrainConfig) -> None:
    """Train a backbone to tell drawn objects and background apart.

    Writes `weights.pt`, the backbone's state dict, and `accuracy.json`, measured on objects it
    has not seen.
    """
    torch.manual_seed(config.seed)
    backbone = tiny() if name == "tiny" else cut(name, classifier(name))
    every, classes = _draw(
        config.seed, config.objects + config.held_out, backbone.crop_size, job.workers
    )
    crops, held_out = np.split(every, [config.objects])
    labels, held_out_labels = np.split(classes, [config.objects])
    model = Classifier(backbone, len(CLASSES) + 1)

    def losses_of(model: Classifier, batch: dict[str, Any]) -> dict[str, Tensor]:
        scores = model(backbone.normalise(batch["crops"]))
        return {"classification": F.cross_entropy(scores.float(), batch["labels"])}

    batches = ObjectBatches(crops, labels, config.batch, config.sgd.seed)
    # A batch is a slice of an array: workers would only carry it about.
    here = dataclasses.replace(job, workers=0)
    train(
        here, model, batches, losses_of, config.sgd, label=f"pre-training {name} on drawn objects"
    )

    right = 0
    with torch.inference_mode(), autocast(job.device, choose_dtype(config.sgd.dtype, job.device)):
        for start in range(0, config.held_out, config.batch):
            part = torch.from_numpy(held_out[start : start + config.batch]).permute(0, 3, 1, 2)
            guesses = model(backbone.normalise(part.to(job.device))).argmax(dim=1).cpu().numpy()
            right += int((guesses == held_out_labels[start : start + config.batch]).sum())
    accuracy = round(100 * right / max(config.held_out, 1), 2)
    (job.folder / "accuracy.json").write_text(
        json.dumps({"accuracy": accuracy, "objects": config.held_out})
    )
    with replacing(job.folder / "weights.pt") as file:
        torch.save(backbone.cpu().state_dict(), file)


def _draw(seed: int, count: int, side: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Objects 0 to `count` of the seed: uint8 [., side, side, 3] and int64 [.]."""
    chunks = [(seed, start, min(CHUNK, count - start), side) for start in range(0, count, CHUNK)]
    drawn = list(spread(draw_chunk, chunks, workers))
    return np.concatenate([crops for crops, _ in drawn]), np.concatenate(
        [labels for _, labels in drawn]
    )
