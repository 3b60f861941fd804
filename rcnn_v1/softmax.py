"""The fine-tuned network's own softmax in place of the SVMs (R-CNN, appendix B).

R windows of an image, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rcnn_v1.detector import RCNN, load
from stages.backbones.weights import fill, load_state
from stages.data.records import Dataset, Record
from stages.detect import Detection, detect_split
from stages.proposals.cache import Proposals
from stages.stopwatch import OFF
from stages.store import Artifact, Job, stage


@stage(version=1, together=True)
def detect_by_softmax(
    job: Job, data: Dataset, proposals: Artifact, model: Artifact, tuned: Artifact
) -> None:
    """Detect in the test split by the softmax's probabilities, without box regression.

    Writes `detections.json`.

    Args:
        model: an R-CNN whose network is `tuned`'s; its SVMs and regressors are not asked.
        tuned: of `fine_tune`.
    """
    rcnn = load(model.path, job.device)
    scores_of = load_softmax(tuned, rcnn)
    reader = Proposals(proposals.path / "proposals.h5")

    @torch.inference_mode()
    def detect_one(image: Tensor, record: Record) -> dict[str, Detection]:
        boxes = torch.from_numpy(reader.of(record, rcnn.description.top)).to(rcnn.network.device)
        scores = probabilities(rcnn, scores_of, image, boxes)
        still = boxes[:, None].expand(-1, scores.shape[1], 4)
        return {"detections": rcnn.suppress(scores, still)}

    detect_split(job, data, detect_one)


def load_softmax(tuned: Artifact, rcnn: RCNN) -> nn.Linear:
    """The layer under the softmax as fine-tuning left it, on the detector's device.

    Raises:
        InputError: the file does not fit.
    """
    layer = nn.Linear(rcnn.backbone.features, len(rcnn.classes) + 1)
    path = tuned.path / "softmax.pt"
    fill(layer, load_state(path), path)
    return layer.to(rcnn.network.device).requires_grad_(False)


def probabilities(rcnn: RCNN, scores_of: nn.Linear, image: Tensor, boxes: Tensor) -> Tensor:
    """Every window's class probabilities [R, K], background's left out; `boxes` [R, 4] on the device."""
    last = rcnn.backbone.layers[-1]
    parts = [boxes.new_zeros(0, len(rcnn.classes))]
    for pooled in rcnn.network.pooled(image, boxes, OFF):
        features = rcnn.network.until(last, pooled).float()
        parts.append(scores_of(features).softmax(dim=1)[:, 1:])
    return torch.cat(parts)
