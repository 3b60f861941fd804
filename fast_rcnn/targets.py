"""What the box layer is to say, brought to mean 0 and variance 1 (Fast R-CNN, section 2.3).

M windows of all training images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.boxes import encode
from stages.data.records import Record
from stages.proposals.windows import Windows


def statistics(
    records: Sequence[Record], windows: Windows, classes: int, positive_iou: float
) -> tuple[Tensor, Tensor]:
    """Mean and deviation, [K, 4] each, of each class's offsets over all its positive windows.

    Where a class has too few to tell, 0 and 1; a deviation is never under 0.01.
    """
    mean, std = torch.zeros(classes, 4), torch.ones(classes, 4)
    for k in range(classes):
        rows = ((windows.label == k + 1) & (windows.overlap >= positive_iou)).nonzero()[0]
        if len(rows) < 2:
            continue
        gt = [records[windows.image[row]].boxes[windows.gt[row]] for row in rows]
        offsets = encode(
            torch.from_numpy(windows.boxes[rows]), torch.stack([torch.from_numpy(b) for b in gt])
        )
        mean[k], std[k] = offsets.mean(dim=0), offsets.std(dim=0).clamp(min=0.01)
    return mean, std
