"""SPPnet's network: convolutions over the whole image, the pyramid for each window, fc6 and fc7.

R windows, S scales, C channels, B the pyramid's bins, P = C * B values of a window's pyramid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from reprlib import repr as shown

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spp_net.config import PyramidConfig
from spp_net.maps import Convolutions, Maps
from spp_net.projection import project
from spp_net.pyramid import bins_of, pool_windows
from spp_net.scales import best_scale
from stages.backbones.backbone import Backbone
from stages.backbones.config import Name
from stages.backbones.networks import layers_of
from stages.backbones.weights import Weights, build_backbone, load_built
from stages.device import DType, choose_dtype
from stages.errors import InputError
from stages.stopwatch import Stopwatch
from stages.store import Job, stage
from stages.writing import replacing

# A side of a window, at the scale it is taken from: `tiny` was pre-trained on 4, of which the
# nearest whole cell is too coarse (held out, 22.5 mAP with 4 and 27.7 with 6).
LEAST_CELLS = 6


class PyramidNetwork:
    """The network as a feature extractor (see `rcnn_v1.extract.Extractor`), frozen.

    Args:
        backbone: of `build`; changed in place: put on `device`, in evaluation mode, in `dtype`.
        batch: windows that are pooled and go through the fully connected layers at a time.
    """

    def __init__(
        self, backbone: Backbone, device: str, dtype: str, pyramid: PyramidConfig, batch: int
    ) -> None:
        self.convolutions = Convolutions(backbone, device, dtype, pyramid.scales, pyramid.longest)
        self.backbone, self.device = backbone, device
        self.dtype = self.convolutions.dtype
        backbone.head.to(self.dtype)
        self.levels, self.batch = pyramid.levels, batch
        self.side = pyramid.window_side or max(backbone.crop_size, LEAST_CELLS * backbone.stride)

    @staticmethod
    def load(
        name: Name, path: Path, device: str, dtype: DType, pyramid: PyramidConfig, batch: int
    ) -> PyramidNetwork:
        """The network with the weights of a file of SPPnet's in it, on the device.

        Raises:
            InputError: the weights do not fit.
        """
        backbone = build(name, pyramid.levels, path)
        return PyramidNetwork(backbone, device, choose_dtype(dtype, device), pyramid, batch)

    @property
    def pooled_size(self) -> int:
        return self.backbone.channels * bins_of(self.levels)

    def until(self, layer: str, pooled: Tensor) -> Tensor:
        """See `Backbone.until`; `pool5` is the pyramid."""
        return self.backbone.until(layer, pooled)

    def pooled(self, look: Tensor | Maps, boxes: Tensor, watch: Stopwatch) -> Iterator[Tensor]:
        """Each batch of windows' pyramids, [R, P].

        Args:
            look: the image [3, H, W], uint8 or float in [0, 1], or its maps.
            boxes: float [R, 4], on the device.
        """
        if len(boxes) == 0:
            return
        maps = look
        if isinstance(maps, Tensor):
            with watch("convolutions"):
                maps = self.convolutions(maps)
        with watch("pooling"):
            frame = _in_one_frame([cells.to(self.device) for cells in maps.cells])
            cells = self.cells(maps, boxes)
        for part in cells.split(self.batch):
            with watch("pooling"):
                pooled = pool_windows(frame, part, self.levels).to(self.dtype)
            yield pooled

    def cells(self, maps: Maps, boxes: Tensor) -> Tensor:
        """Where each window lies: int64 [R, 5], its scale, then its first and last cell x y."""
        ratios = maps.ratios.to(boxes.device)
        scale = best_scale(boxes, ratios, self.side)
        sizes = torch.tensor([of_scale.shape[:2] for of_scale in maps.cells], device=boxes.device)
        first, stride = self.convolutions.first, self.backbone.stride
        cells = project(boxes * ratios[scale], sizes[scale], first, stride)
        return torch.cat([scale[:, None], cells], dim=1)


def _in_one_frame(cells: Sequence[Tensor]) -> Tensor:
    """Maps [h, w, C] as float32 [S, C, H, W], from the top left corner of a common frame."""
    height, width = (max(of_scale.shape[axis] for of_scale in cells) for axis in (0, 1))
    channels_first = (of_scale.permute(2, 0, 1).float() for of_scale in cells)
    return torch.stack(
        [
            F.pad(maps, (0, width - maps.shape[2], 0, height - maps.shape[1]))
            for maps in channels_first
        ]
    )


def check_backbone(name: Name) -> None:
    """Refuse what cannot be an SPPnet.

    Raises:
        InputError: the network has no fully connected layers.
    """
    if "fc6" not in layers_of(name):
        raise InputError(
            f"BACKBONE={name}: SPPnet needs fully connected layers: tiny, alexnet, vgg16, squeezenet1_1"
        )


def new_layers(name: Name, levels: Sequence[int]) -> tuple[str, ...]:
    """Layers whose features are noise until they are tuned: fc6 is new, and fc7 looks at it."""
    with torch.device("meta"):
        backbone = build_backbone(name, Weights(None, "random"))
    return ("fc6", "fc7") if _own_level(backbone, levels) is None else ()


def build(name: Name, levels: Sequence[int], path: Path) -> Backbone:
    """A backbone whose fc6 takes the pyramid, with the weights of a file of SPPnet's in it.

    Raises:
        InputError: the file is no state dict of this network's.
    """

    def with_levels() -> Backbone:
        return with_pyramid(build_backbone(name, Weights(None, "random")), levels)

    return load_built(with_levels, path, f"{path}: no SPPnet has levels {shown(levels)}")


def with_pyramid(backbone: Backbone, levels: Sequence[int]) -> Backbone:
    """`backbone`, changed in place: its fc6 takes the pyramid of its map, [R, P].

    Where the pyramid has a level of the size of the network's own last pooling, as AlexNet's 6x6,
    that level's part of fc6 is the pre-trained one and the other levels' is 0: the network begins
    as what it was. Otherwise fc6 is new.
    """
    layer = backbone.head.get_submodule("fc6")
    assert isinstance(layer, nn.Sequential)
    fc6 = layer[0]
    assert isinstance(fc6, nn.Linear)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same in every run
        wider = nn.Linear(backbone.channels * bins_of(levels), fc6.out_features)
        nn.init.kaiming_normal_(wider.weight, nonlinearity="relu")
        nn.init.zeros_(wider.bias)
    own = _own_level(backbone, levels)
    if own is None:
        backbone.new = (*backbone.new, "head.fc6.")
    else:
        start = backbone.channels * bins_of(levels[:own])
        with torch.no_grad():
            wider.weight.zero_()
            wider.weight[:, start : start + fc6.in_features] = fc6.weight
            wider.bias.copy_(fc6.bias)
    layer[0] = wider
    return backbone


def _own_level(backbone: Backbone, levels: Sequence[int]) -> int | None:
    """Which level can take the pre-trained fc6; None: none, or there is no pre-trained one."""
    if "head.fc6.".startswith(backbone.new) or backbone.roi_size not in levels:
        return None
    return levels.index(backbone.roi_size)


@stage(version=1)
def add_pyramid(job: Job, weights: Weights, name: Name, levels: Sequence[int]) -> None:
    """Put the pyramid where the pre-trained network had its last pooling. Writes `weights.pt`."""
    backbone = with_pyramid(build_backbone(name, weights), levels)
    with replacing(job.folder / "weights.pt") as file:
        torch.save(backbone.state_dict(), file)
