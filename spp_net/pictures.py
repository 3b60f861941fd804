"""SPPnet in pictures: what is pooled of a window, and what comes out and errs.

h, w a map's height and width in cells, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spp_net.detector import load_network
from spp_net.network import PyramidNetwork
from stages.data.decode import image_of
from stages.data.records import Dataset, Record
from stages.evaluation.result_pictures import draw_results
from stages.pictures import outline
from stages.proposals.cache import Proposals
from stages.sheet import Panel, Row, sheet
from stages.store import Artifact, Job, stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOWS = 6
SMALL = 1.8  # inches
COLOUR = "#E69F00"


@stage(version=3)
def draw_pictures(
    job: Job,
    data: Dataset,
    proposals: Artifact,
    model: Artifact,
    detections: Artifact,
    top: int | None,
) -> None:
    """Write a PNG of what the pyramid pools (`pyramid.png`), and of what the detections are worth.

    Args:
        model: of `assemble`.
        top: proposals an image that the detector sees.
    """
    reader = Proposals(proposals.path / "proposals.h5")
    draw_results(job.folder, data, reader, detections.path / "detections.json", top)
    description, network = load_network(model.path, job.device)
    with_objects = [record for record in data.test if not record.iscrowd.all()]
    shown = with_objects[:: max(1, len(with_objects) // WINDOWS)][:WINDOWS]
    sheet(
        job.folder / "pyramid.png",
        "An object, the channel of the map that it stirs most, and the pyramid over its window",
        [pyramid_of(record, data.classes, network, description.pyramid.scales) for record in shown],
        SMALL,
    )


@torch.inference_mode()
def pyramid_of(
    record: Record, classes: Sequence[str], network: PyramidNetwork, scales: Sequence[int]
) -> Row:
    """The record's largest object, its cells on the map of its scale, and its bins at each level."""
    boxes = record.boxes * ~record.iscrowd[:, None]
    largest = int(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).argmax())
    box, image = boxes[largest], image_of(record)
    maps = network.convolutions(torch.from_numpy(image).permute(2, 0, 1))
    scale, *cells = network.cells(maps, torch.from_numpy(box[None]).to(network.device))[0].tolist()
    every = maps.cells[scale].float().cpu()
    x1, y1, x2, y2 = cells
    window = every[y1 : y2 + 1, x1 : x2 + 1]
    channel = int((window.mean(dim=(0, 1)) - every.mean(dim=(0, 1))).argmax())
    shown = every[..., channel]
    most = max(float(shown.max()), 1e-6)

    panels = [
        Panel.of(
            image,
            classes[int(record.labels[largest]) - 1],
            lambda axes: outline(axes, box, COLOUR),
        ),
        _panel(shown / most, cells, f"channel {channel} at {scales[scale]}", None),
    ]
    for n in network.levels:
        bins = F.adaptive_max_pool2d(window[None, ..., channel], n)[0] / most
        panels.append(_panel(shown / most, cells, f"{n}x{n}", bins))
    return Row(panels)


def _panel(values: Tensor, cells: Sequence[int], caption: str, bins: Tensor | None) -> Panel:
    """A channel of the map, [h, w] from 0 to 1, the window on it, and in it what its bins [n, n] are."""
    grey = (values.numpy() * 255).astype(np.uint8)
    x1, y1, x2, y2 = cells[0], cells[1], cells[2] + 1, cells[3] + 1

    def draw(axes: Axes) -> None:
        if bins is None:
            outline(axes, np.array([x1, y1, x2, y2]), COLOUR)
            return
        # Drawn side by side; where the window's cells do not divide evenly, bins share some.
        axes.pcolormesh(
            np.linspace(x1, x2, len(bins) + 1),
            np.linspace(y1, y2, len(bins) + 1),
            bins.numpy(),
            cmap="gray",
            vmin=0,
            vmax=1,
            edgecolors=COLOUR,
            linewidth=1.0,
            zorder=2,
        )

    return Panel.of(np.repeat(grey[..., None], 3, axis=2), caption, draw)
