"""From the RPN's answers to proposals (section 3.3), in numbered steps.

In both released codes small boxes are dropped first, and of the others the best are chosen. Mask R-CNN's
code and torchvision choose first; they have no least side, and drop only what is cut to nothing.

N images, A anchors of an image, P proposals of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torchvision.ops import nms

from faster_rcnn.config import ProposalConfig
from stages.boxes import decode

LEAST = 1e-3  # pixels of the scaled image: an anchor beyond the image is cut to nothing
FIRST = 6  # times as many candidates as are wanted are suppressed at first


@torch.no_grad()
def select_proposals(
    scores: Tensor,
    offsets: Tensor,
    anchors: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    ratios: Tensor,
    config: ProposalConfig,
) -> list[tuple[Tensor, Tensor]]:
    """Each image's proposals, best first: boxes [P, 4] in the pixels of the scaled image, scores [P].

    No gradient passes (section 3.2: approximate joint training ignores that of the coordinates).

    Args:
        scores: [N, A], logits; offsets: [N, A, 4].
        anchors: of each map, [A', 4]; their numbers add up to A.
        sizes: each image's height and width, scaled.
        ratios: [N, 4], from an image's own pixels to the scaled ones.
    """
    # As exact as the anchors: coordinates in bfloat16 would be off by pixels.
    exact = anchors[0].dtype
    scores, offsets = scores.detach().to(exact), offsets.detach().to(exact)
    if config.scores == "none":
        scores = torch.rand_like(scores)
    if config.boxes == "none":
        offsets = torch.zeros_like(offsets)
    limits = scores.new_tensor([[w, h, w, h] for h, w in sizes]).reshape(len(scores), 1, 4)
    least = (config.least_side * ratios[:, None, :2]).clamp(min=LEAST).to(scores)
    parts: list[tuple[Tensor, ...]] = []
    start = 0
    for number, of_map in enumerate(anchors):
        part = slice(start, start + len(of_map))
        start += len(of_map)
        count = len(of_map) if config.before is None else min(config.before, len(of_map))
        found = _best_of_map(
            scores[:, part], offsets[:, part], of_map, limits, least, count, config.least_side > 0
        )
        parts.append((*found, torch.full_like(found[1], number, dtype=torch.int64)))
    every, every_score, large, of_maps = (
        torch.cat(kind, dim=1) for kind in zip(*parts, strict=True)
    )

    def of_image(n: int) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(torch.is_inference(every)), torch.no_grad():
            rows = large[n]
            return _select(every[n][rows], every_score[n][rows], of_maps[n][rows], config)

    threads = min(len(every), torch.get_num_threads()) if every.device.type == "cpu" else 1
    if threads <= 1:
        return [of_image(n) for n in range(len(every))]
    # torchvision's NMS works on one core, and takes a tenth of a second of a training step's images.
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(of_image, range(len(every))))


def _best_of_map(
    scores: Tensor,
    offsets: Tensor,
    anchors: Tensor,
    limits: Tensor,
    least: Tensor,
    count: int,
    drop_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """A map's candidates, best first: boxes [N, count, 4], scores, and which are large, [N, count].

    Args:
        limits: [N, 1, 4], of each image's coordinates; least: [N, 1, 2], width and height.
        drop_first: steps 1 to 4 come in their order: no small box takes a place among the `count` best.
            Otherwise 4 comes first, and what is not among the best need not be moved.
    """
    if not drop_first:
        scores, rows = scores.topk(count, dim=1)
        anchors, offsets = anchors[rows], _rows(offsets, rows)
    # 1. Moved by the offsets that the network gives each; 2. cut to the image.
    boxes = torch.minimum(decode(anchors, offsets).clamp(min=0), limits)
    # 3. Small ones are dropped.
    large = ((boxes[..., 2:] - boxes[..., :2]) >= least).all(dim=-1)
    if not drop_first:
        return boxes, scores, large
    # 4. The best-scoring of what is left. Where too few are, small ones fill up, and are not large.
    best, rows = scores.masked_fill(~large, -torch.inf).topk(count, dim=1)
    return _rows(boxes, rows), best, large.gather(1, rows)


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    """[N, A, 4], [N, count] -> each image's rows, [N, count, 4]."""
    return values.gather(1, rows[..., None].expand(-1, -1, 4))


def _select(
    boxes: Tensor, scores: Tensor, maps: Tensor, config: ProposalConfig
) -> tuple[Tensor, Tensor]:
    """Of one image's candidates those that are proposed."""
    # 5. Of those that overlap much, the best; 6. and of those the best few.
    if config.nms_iou < 1:
        keep = _suppress(boxes, scores, maps, config.nms_iou, config.after)
    else:
        keep = scores.argsort(descending=True, stable=True)[: config.after]
    return boxes[keep], scores[keep]


def _suppress(boxes: Tensor, scores: Tensor, maps: Tensor, iou: float, after: int) -> Tensor:
    """The first `after` rows that greedy suppression, each map by itself, leaves, best first.

    What it leaves of the best candidates does not depend on the others, so it looks at the best few
    first, and at more only if they are not enough: the same rows, in a fraction of the time.
    """
    order = scores.argsort(descending=True, stable=True)
    if len(boxes):  # each map's boxes moved to a place of their own
        boxes = boxes + (maps * (boxes.max() + 1))[:, None].to(boxes.dtype)
    count = FIRST * after
    while True:
        first = order[:count]
        kept = nms(boxes[first], scores[first], iou)
        if len(kept) >= after or count >= len(order):
            return first[kept[:after]]
        count *= 4
