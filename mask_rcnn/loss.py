"""What a mask is to be, and how far it is from that (section 3).

R RoIs, N objects of an image, H and W of it in pixels, m a mask's side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor

from mask_rcnn.mask_head import MaskHead
from stages.data.masks import Masks
from stages.ranks import shared_count

# Pixels of masks, as floats, that are drawn at once: of COCO's images a hundred masks.
AT_ONCE = 2**25


def mask_targets(masks: Tensor | Masks, objects: Tensor, rois: Tensor, side: int) -> Tensor:
    """The part of its object's mask that lies in each RoI, bool [R, m, m].

    A cell of it is set where at least half of it is, by the mask's interpolated values: detectron2's rule
    for bitmaps (`BitMasks.crop_and_resize`). The first released code, Detectron, draws the polygons anew
    on the RoI's m x m cells.

    Args:
        masks: bool [N, H, W], or as run lengths.
        objects: int64 [R], which of them.
        rois: [R, 4] xyxy in the image's own pixels.
        side: m.
    """
    targets = torch.zeros(len(rois), side, side, dtype=torch.bool, device=rois.device)
    if not len(rois):
        return targets
    chosen, index = objects.unique(return_inverse=True)
    most = max(1, AT_ONCE // (masks.shape[1] * masks.shape[2]))
    for first in range(0, len(chosen), most):
        some = chosen[first : first + most]
        rows = ((index >= first) & (index < first + most)).nonzero()[:, 0]
        # Each RoI looks at a mask of its own: as an image of one channel.
        own = (index[rows] - first)[:, None].to(rois.dtype)
        placed = torch.cat([own, rois[rows]], dim=1).float()
        pixels = masks[some][:, None].float()
        inside = torchvision.ops.roi_align(pixels, placed, side, aligned=True)
        targets[rows] = inside[:, 0] >= 0.5
    return targets


def mask_loss(head: MaskHead, logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The mean over the pixels of all RoIs, each seen in its true class's mask alone; 0 without RoIs.

    Args:
        logits: [R, outputs, m, m], of positive RoIs.
        labels: int64 [R], from 1.
        targets: bool [R, m, m].
    """
    pixels = shared_count(len(labels), logits) * logits.shape[2] * logits.shape[3]
    if head.config.loss == "softmax":
        of_class = labels if head.config.class_specific else torch.ones_like(labels)
        classes = torch.where(targets, of_class[:, None, None], 0)
        return F.cross_entropy(logits.float(), classes, reduction="sum") / pixels
    own = head.of_class(logits, labels).float()
    each = F.binary_cross_entropy_with_logits(own, targets.to(own.dtype), reduction="sum")
    return each / pixels
