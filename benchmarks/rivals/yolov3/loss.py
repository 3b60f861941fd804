"""The loss: offsets, objectness and independent classes (sections 2.1 and 2.2).

N images, P priors, K classes, G objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.rivals.yolov3.assign import assign
from benchmarks.rivals.yolov3.config import LossConfig
from benchmarks.rivals.yolov3.priors import Priors


def yolo_losses(
    outputs: Tensor,
    priors: Priors,
    sizes: Tensor,
    objects: Sequence[tuple[Tensor, Tensor]],
    images: Sequence[tuple[int, int]],
    config: LossConfig,
) -> dict[str, Tensor]:
    """Sums over an image's priors, means over the images (released code).

    Args:
        outputs: float32 [N, P, 5 + K], t_x t_y t_w t_h, logits of objectness and classes.
        sizes: [9, 2], see `place`.
        objects: each image's boxes [G, 4], in pixels of the scaled image, and labels [G], from 1.
        images: each one's height and width in these pixels.

    Returns:
        `boxes`, `objectness` and `classification`, scalars.
    """
    each = [
        _of_image(of_image, priors, sizes, boxes, labels, size, config)
        for of_image, (boxes, labels), size in zip(outputs, objects, images, strict=True)
    ]
    boxes, objectness, classification = torch.stack(each).mean(dim=0)
    return {"boxes": boxes, "objectness": objectness, "classification": classification}


def _of_image(
    outputs: Tensor,
    priors: Priors,
    sizes: Tensor,
    boxes: Tensor,
    labels: Tensor,
    image: tuple[int, int],
    config: LossConfig,
) -> Tensor:
    """The three losses, [3]."""
    offsets, objectness, classes = outputs.split([4, 1, outputs.shape[1] - 5], dim=1)
    with torch.no_grad():
        as_prior = config.ignored_by == "prior"
        predicted = priors.boxes() if as_prior else priors.decode(offsets)
        found = assign(priors, sizes, boxes, predicted, config.ignored_iou)
        truth = torch.zeros_like(objectness[:, 0])
        truth[found.places] = 1
        of_class = torch.zeros_like(classes)
        of_class[found.places, labels - 1] = 1
    own, gt_boxes = found.places[found.wins], boxes[found.wins]
    each = F.binary_cross_entropy_with_logits(objectness[:, 0], truth, reduction="none")
    return torch.stack(
        [
            _box_loss(
                offsets[own], priors.encode(gt_boxes, own), _weights(gt_boxes, image, config)
            ),
            each.masked_fill(found.ignored, 0).sum(),
            F.binary_cross_entropy_with_logits(classes[own], of_class[own], reduction="sum"),
        ]
    )


def _box_loss(offsets: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """The loss whose gradient at every output t is t minus the truth, times the object's weight.

    "Our gradient is the ground truth value minus our prediction" (section 2.1): for t_w and t_h half
    the squared error. For t_x and t_y the released code takes sigma(t) minus the truth as the gradient
    of t itself, before the sigma. That is cross-entropy's gradient, so it is cross-entropy here.

    Args:
        offsets: [R, 4], t_x t_y t_w t_h; truth: [R, 4], see `Priors.encode`; weights: [R].
    """
    middles = F.binary_cross_entropy_with_logits(offsets[:, :2], truth[:, :2], reduction="none")
    extents = (offsets[:, 2:] - truth[:, 2:]).square() / 2
    return ((middles + extents).sum(dim=1) * weights).sum()


def _weights(boxes: Tensor, image: tuple[int, int], config: LossConfig) -> Tensor:
    """[R], from 1 for the whole image to 2 for a point; see `LossConfig.small_boxes`."""
    if not config.small_boxes:
        return boxes.new_ones(len(boxes))
    return 2 - (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) / (image[0] * image[1])
