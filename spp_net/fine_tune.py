"""Fine-tuning of the fully connected layers alone, over cached maps (SPPnet, section 4.1).

B windows in a batch, P values of a window's pyramid, S scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spp_net.config import FineTuneConfig
from spp_net.maps import KEPT, MapCache
from spp_net.network import build
from spp_net.projection import project
from spp_net.pyramid import pool_crops
from stages.backbones.backbone import Backbone
from stages.backbones.centres import first_centre
from stages.backbones.config import Name
from stages.data.records import Record, TrainingData
from stages.errors import InputError
from stages.proposals.cache import Proposals
from stages.proposals.windows import Windows, draw_rows, training_windows
from stages.ranks import ALONE, Ranks, shared_count
from stages.store import Artifact, Job, stage
from stages.training.image_batches import mirror
from stages.training.loop import train
from stages.training.sgd import Rates
from stages.writing import replacing


class PyramidBatches:
    """Batch s: pyramids of windows from anywhere in the training set, each at a scale of its own.

    Windows, scales and which of them are mirrored are drawn by (seed, s).

    Args:
        mirrored: the maps of the mirrored images; None: no window is mirrored.
    """

    threads = True  # reading and pooling leave Python's lock alone, and the maps kept are shared

    def __init__(
        self,
        records: Sequence[Record],
        windows: Windows,
        maps: MapCache,
        config: FineTuneConfig,
        levels: Sequence[int],
        backbone: Backbone,
        ranks: Ranks = ALONE,
        mirrored: MapCache | None = None,
    ) -> None:
        self.ranks, self.mirrored = ranks, mirrored
        self.records, self.windows, self.maps, self.config = records, windows, maps, config
        self.levels = levels
        self.first, self.stride = first_centre(backbone.trunk), backbone.stride
        overlap = windows.overlap
        positive = overlap >= config.positive_iou
        self.positives = np.flatnonzero(positive)
        self.backgrounds = np.flatnonzero(~positive & (overlap >= config.background_iou))
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
        scales = rng.integers(0, len(self.maps.sizes), len(rows))
        flipped = (rng.random(len(rows)) < 0.5) & (self.mirrored is not None)
        rows, scales, flipped = rows[mine], scales[mine], flipped[mine]
        images = self.windows.image[rows]
        labels = np.where(
            self.windows.overlap[rows] >= self.config.positive_iou, self.windows.label[rows], 0
        )
        return {
            "pooled": pool_crops(self.crops(rows, scales, flipped), self.levels),
            "labels": torch.from_numpy(labels),
            "image_ids": [self.records[index].image_id for index in images],
        }

    def crops(self, rows: np.ndarray, scales: np.ndarray, flipped: np.ndarray) -> list[Tensor]:
        """What each of the windows covers of its map at its scale: half precision [h, w, C].

        Args:
            flipped: bool [B], whether of the mirrored image's map, where a window lies mirrored.
        """
        images = self.windows.image[rows]
        boxes = torch.from_numpy(self.windows.boxes[rows])
        widths = torch.tensor([self.records[image].width for image in images])
        boxes = torch.where(torch.from_numpy(flipped)[:, None], mirror(boxes, widths), boxes)
        cells = project(
            boxes * torch.from_numpy(self.maps.ratios[scales, images]),
            torch.from_numpy(self.maps.sizes[scales, images]),
            self.first,
            self.stride,
        )
        crops = []
        for image, scale, other, (x1, y1, x2, y2) in zip(
            images, scales, flipped, cells.tolist(), strict=True
        ):
            maps = self.mirrored if other and self.mirrored is not None else self.maps
            of_rows = torch.from_numpy(maps.rows(scale, image, y1, y2 + 1))
            crops.append(of_rows[:, x1 : x2 + 1])
        return crops


class FullyConnected(nn.Module):
    """What learns: fc6, fc7, and scores of K classes and background over them, [R, P] to [R, K + 1]."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.head = backbone.head
        self.scores = nn.Linear(backbone.features, classes)
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.zeros_(self.scores.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.scores(self.head(pooled))  # type: ignore[no-any-return]


def softmax_loss(model: FullyConnected, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Cross-entropy over K classes and background, averaged over the batch."""
    scores, labels = model(batch["pooled"]).float(), batch["labels"]
    together = F.cross_entropy(scores, labels, reduction="sum")
    return {"classification": together / shared_count(len(labels), scores)}


@stage(version=2, together=True)
def fine_tune(
    job: Job,
    data: TrainingData,
    proposals: Artifact,
    maps: Sequence[Artifact],
    mirrored: Sequence[Artifact],
    network: Artifact,
    name: Name,
    top: int | None,
    levels: Sequence[int],
    config: FineTuneConfig,
) -> None:
    """Train the fully connected layers to tell windows' classes apart. Writes `weights.pt`.

    Args:
        maps: of `cache_maps`, a scale each.
        mirrored: of `cache_mirrored_maps`, at the same scales; none: no window is mirrored.
        network: of `add_pyramid`; the weights written are of the same kind.
    """
    torch.manual_seed(config.sgd.seed)
    backbone = build(name, levels, network.path / "weights.pt")
    windows = training_windows(data.train, Proposals(proposals.path / "proposals.h5"), top)
    keep = KEPT // (2 if mirrored else 1)
    batches = PyramidBatches(
        data.train,
        windows,
        MapCache(maps, data.train, keep),
        config,
        levels,
        backbone,
        job.ranks,
        MapCache(mirrored, data.train, keep) if mirrored else None,
    )
    model = FullyConnected(backbone, len(data.classes) + 1)
    rates = Rates(backbone.new, config.new_layer_factor, config.bias_factor)
    train(job, model, batches, softmax_loss, config.sgd, rates, "fine-tuning")
    if not job.ranks.leads:
        return
    with replacing(job.folder / "weights.pt") as file:
        torch.save(backbone.cpu().state_dict(), file)
