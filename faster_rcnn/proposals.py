"""From the RPN's answers to proposals (section 3.3), in numbered steps.

N images, A anchors of an image, P proposals of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torchvision.ops import nms

from faster_rcnn.config import ProposalConfig
from stages.boxes import clip, decode

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
    boxes, kept_scores, maps = [], [], []
    start = 0
    for number, of_map in enumerate(anchors):
        part = slice(start, start + len(of_map))
        start += len(of_map)
        # 1. The best-scoring anchors of each map: what is not among them need not be moved.
        count = len(of_map) if config.before is None else min(config.before, len(of_map))
        best, rows = scores[:, part].topk(count, dim=1)
        # 2. Moved by the offsets that the network gives each.
        moved = decode(of_map[rows], offsets[:, part].gather(1, rows[..., None].expand(-1, -1, 4)))
        boxes.append(moved)
        kept_scores.append(best)
        maps.append(torch.full_like(rows, number))
    every, every_score = torch.cat(boxes, dim=1), torch.cat(kept_scores, dim=1)
    of_maps = torch.cat(maps, dim=1)

    def of_image(n: int) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(torch.is_inference(every)), torch.no_grad():
            return _select(every[n], every_score[n], of_maps[n], sizes[n], ratios[n], config)

    threads = min(len(every), torch.get_num_threads()) if every.device.type == "cpu" else 1
    if threads <= 1:
        return [of_image(n) for n in range(len(every))]
    # torchvision's NMS works on one core, and takes a tenth of a second of a training step's images.
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(of_image, range(len(every))))


def _select(
    boxes: Tensor,
    scores: Tensor,
    maps: Tensor,
    size: tuple[int, int],
    ratio: Tensor,
    config: ProposalConfig,
) -> tuple[Tensor, Tensor]:
    # 3. Cut to the image.
    boxes = clip(boxes, *size)
    # 4. Small ones are dropped.
    wide, high = (config.least_side * ratio[:2]).clamp(min=LEAST).tolist()
    large = (boxes[:, 2] - boxes[:, 0] >= wide) & (boxes[:, 3] - boxes[:, 1] >= high)
    boxes, scores, maps = boxes[large], scores[large], maps[large]
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
