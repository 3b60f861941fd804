"""RoI max pooling: torchvision's operator, on all cores of a CPU.

N maps, C channels, R RoIs, S the side of the pooled map.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
import torchvision.ops
from torch import Tensor

CHUNK = 128  # RoIs: what is pooled of them stays in the cache until it is used


def place(boxes: Tensor, shift: float) -> Tensor:
    """Boxes [..., 4] xyxy where a map has them whose cells look `shift` pixels further right and down.

    A box that ends before the first cell's centre keeps that cell: the map has none nearer. What else
    lies outside it is left to the pooling operator, which cuts bins to the map.

    Args:
        shift: see `Backbone.shift`; 0: the boxes as they are.
    """
    if shift == 0:
        return boxes
    near, far = (boxes - shift).split(2, dim=-1)
    return torch.cat([near, far.clamp(min=0)], dim=-1)


def roi_pool(maps: Tensor, rois: Tensor, side: int, scale: float, shift: float = 0.0) -> Tensor:
    """Each RoI's max-pooled map, [R, C, S, S] (Fast R-CNN, section 2.1), in the maps' type.

    torchvision's operator rounds coordinates, counts width as end - start + 1, has floor and ceil
    bins, and gives 0 for a bin that is empty: a RoI outside the map. It knows no bfloat16, and
    works on one core of a CPU: where no gradient is wanted the RoIs are shared out among threads.

    Args:
        maps: [N, C, H, W].
        rois: [R, 5], the map's index and xyxy.
        scale: from the RoIs' coordinates to the map's cells.
        shift: see `place`.
    """
    # Maxima of bfloat16 values are bfloat16 values: nothing is lost on the way there and back.
    wide = maps.float() if maps.dtype == torch.bfloat16 else maps
    rois = torch.cat([rois[:, :1], place(rois[:, 1:], shift)], dim=1).to(wide.dtype)
    threads = torch.get_num_threads()
    if wide.device.type != "cpu" or threads == 1 or len(rois) <= CHUNK or _learning(wide):
        return torchvision.ops.roi_pool(wide, rois, side, scale).to(maps.dtype)
    wide = wide.contiguous()  # once, not in each thread

    def pool(part: Tensor) -> Tensor:
        with torch.inference_mode(torch.is_inference(wide)), torch.no_grad():
            return torchvision.ops.roi_pool(wide, part, side, scale).to(maps.dtype)

    with ThreadPoolExecutor(threads) as workers:
        return torch.cat(list(workers.map(pool, rois.split(CHUNK))))


def _learning(maps: Tensor) -> bool:
    return maps.requires_grad and torch.is_grad_enabled()
