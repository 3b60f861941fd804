"""SVMs in place of the softmax, to see whether they are needed (Fast R-CNN, section 5.4).

R RoIs, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fast_rcnn.detector import load
from fast_rcnn.network import FastRCNN
from rcnn_v1.features import write_features
from stages.backbones.backbone import Backbone
from stages.data.images import image_tensor
from stages.data.records import Dataset, Record, TrainingData
from stages.detect import Detection, detect_split
from stages.proposals.cache import Proposals
from stages.stopwatch import Stopwatch
from stages.store import Artifact, Job, stage

BATCH = 256  # RoIs


class FastExtractor:
    """A finished Fast R-CNN as R-CNN's extractor of features; see `rcnn_v1.extract.Extractor`."""

    def __init__(self, fast: FastRCNN, device: str) -> None:
        self.fast, self.device = fast, device
        self.backbone: Backbone = fast.backbone

    @property
    def pooled_size(self) -> int:
        return self.backbone.channels * self.backbone.roi_size**2

    def pooled(self, look: Tensor, boxes: Tensor, watch: Stopwatch) -> Iterator[Tensor]:
        """Each batch of windows' pooled maps [R, C, S, S] of an image [3, H, W]."""
        with watch("convolutions"):
            maps, ratios = self.fast.look(look)
        for part in boxes.split(BATCH) if len(boxes) else ():
            with watch("pooling"):
                yield self.fast.pool(maps, self.fast.cells(part, ratios))

    def until(self, layer: str, pooled: Tensor) -> Tensor:
        """See `Backbone.until`."""
        return self.backbone.until(layer, pooled)


@stage(version=3, together=True)
def cache_fast_features(
    job: Job, data: TrainingData, proposals: Artifact, model: Artifact, top: int | None, layer: str
) -> None:
    """`layer`'s values of every training window, for R-CNN's SVMs. Writes `features/*.h5`."""
    fast = load(model.path, job.device)
    extractor = FastExtractor(fast, job.device)
    write_features(job, data.train, proposals, top, extractor, layer, image_tensor)


@stage(version=3, together=True)
def detect_by_svms(
    job: Job, data: Dataset, proposals: Artifact, model: Artifact, svms: Artifact, layer: str
) -> None:
    """Detect with the SVMs' scores and the network's boxes. Writes `detections.json`."""
    fast = load(model.path, job.device)
    extractor = FastExtractor(fast, job.device)
    reader = Proposals(proposals.path / "proposals.h5")
    with np.load(svms.path / "svms.npz") as arrays:
        weights, bias = (
            torch.from_numpy(np.asarray(values, np.float32)).to(job.device)
            for values in (arrays["weights"] * arrays["scale"], arrays["bias"])
        )

    @torch.inference_mode()
    def detect_one(image: Tensor, record: Record) -> dict[str, Detection]:
        boxes = torch.from_numpy(reader.of(record, fast.top))
        scores, moved = fast.score(image, boxes)
        margins = [scores[:0]]
        for pooled in extractor.pooled(image, boxes, fast.watch):
            # Learnt from half-precision features.
            features = extractor.until(layer, pooled).half().float()
            margins.append(features @ weights.T + bias)
        return {"detections": fast.suppress(torch.cat(margins), moved)}

    detect_split(job, data, detect_one)
