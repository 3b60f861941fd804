"""Supervised, domain-specific fine-tuning (R-CNN, section 2.3): a softmax over classes and background.

B windows in a batch, S the side of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rcnn_v1.config import FineTuneConfig
from rcnn_v1.warp import crop_windows, surroundings
from stages.backbones.backbone import Backbone, normalise
from stages.backbones.classifier import Classifier
from stages.backbones.config import Name
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.backbones.weights import Weights, build_backbone
from stages.data.decode import ImageCache
from stages.data.records import Record, TrainingData
from stages.errors import InputError
from stages.proposals.cache import Proposals
from stages.proposals.windows import Windows, draw_rows, training_windows
from stages.ranks import ALONE, Ranks, shared_count
from stages.store import Artifact, Job, stage
from stages.training.loop import train
from stages.training.sgd import Rates
from stages.writing import replacing


class WindowBatches:
    """Batch s: windows from anywhere in the training set, by (seed, s).

    All positives of all classes are alike likely; objects are rare, so they are drawn apart
    from the background (section 2.3: "we bias the sampling towards positive windows").
    """

    threads = False  # a hundred small warps a batch keep Python busy

    def __init__(
        self,
        records: Sequence[Record],
        windows: Windows,
        config: FineTuneConfig,
        backbone: Backbone,
        context: float,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.records, self.windows, self.config, self.context = records, windows, config, context
        self.side, self.mean, self.std = backbone.crop_size, backbone.mean, backbone.std
        positive = windows.overlap >= config.positive_iou
        self.positives, self.backgrounds = np.flatnonzero(positive), np.flatnonzero(~positive)
        self.images = ImageCache(records)
        if len(self.positives) == 0 or len(self.backgrounds) == 0:
            raise InputError("fine-tuning needs objects and background in the training split")

    def choose(self, rng: np.random.Generator) -> np.ndarray:
        """int64 [B], rows of the windows: positives, then background."""
        config = self.config
        return draw_rows(
            rng, (self.positives, config.positives), (self.backgrounds, config.backgrounds)
        )

    def __getitem__(self, iteration: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.config.sgd.seed, iteration])
        rows = self.choose(rng)
        mine = self.ranks.mine
        mirrored, rows = (rng.random(len(rows)) < 0.5)[mine], rows[mine]
        images = self.windows.image[rows]
        crops = torch.empty(len(rows), 3, self.side, self.side)
        for i, (index, box) in enumerate(zip(images, self.windows.boxes[rows], strict=True)):
            # Only what the window needs is made float and normalised: of a large photograph, little.
            pixels, box = surroundings(self.images[index], box, self.context)
            normalised = normalise(torch.from_numpy(pixels).permute(2, 0, 1), self.mean, self.std)
            crop = crop_windows(normalised, torch.from_numpy(box[None]), self.side, self.context)[0]
            crops[i] = crop.flip(-1) if mirrored[i] else crop
        labels = np.where(
            self.windows.overlap[rows] >= self.config.positive_iou, self.windows.label[rows], 0
        )
        return {
            "crops": crops,
            "labels": torch.from_numpy(labels),
            "image_ids": [self.records[index].image_id for index in images],
        }


def softmax_loss(model: Classifier, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Cross-entropy over K classes and background, averaged over the batch."""
    scores, labels = model(batch["crops"]).float(), batch["labels"]
    together = F.cross_entropy(scores, labels, reduction="sum")
    return {"classification": together / shared_count(len(labels), scores)}


@stage(version=5, together=True)
def fine_tune(
    job: Job,
    data: TrainingData,
    proposals: Artifact,
    weights: Weights,
    name: Name,
    top: int | None,
    context: float,
    config: FineTuneConfig,
) -> None:
    """Train the pre-trained network to tell windows' classes apart.

    Writes `weights.pt`, its backbone's, and `softmax.pt`, of the layer of scores over it, which R-CNN
    itself replaces by SVMs.
    """
    torch.manual_seed(config.sgd.seed)
    backbone = build_backbone(name, weights)
    freeze_batch_norm(backbone)
    windows = training_windows(data.train, Proposals(proposals.path / "proposals.h5"), top)
    batches = WindowBatches(data.train, windows, config, backbone, context, job.ranks)
    model = Classifier(backbone, len(data.classes) + 1)
    new = ("scores.", *(f"backbone.{prefix}" for prefix in backbone.new))
    rates = Rates(new, config.new_layer_factor, config.bias_factor, bias_decay=False)
    train(job, model, batches, softmax_loss, config.sgd, rates, "fine-tuning")
    if not job.ranks.leads:
        return
    model.cpu()
    for written, part in (("weights.pt", backbone), ("softmax.pt", model.scores)):
        with replacing(job.folder / written) as file:
            torch.save(part.state_dict(), file)
