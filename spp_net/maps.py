"""The convolutions' maps of every training image, cached: one pass over each image (SPPnet, figure 1).

N images, S scales, h, w a map's height and width in cells, C channels.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from stages.backbones.backbone import Backbone
from stages.backbones.centres import first_centre
from stages.backbones.config import Name
from stages.backbones.frozen_norm import freeze_batch_norm
from stages.backbones.weights import Weights, build_backbone
from stages.data.images import image_tensor
from stages.data.records import Record, TrainingData
from stages.device import DType, choose_dtype
from stages.reading import damage_named, dataset
from stages.resize import resize
from stages.shards import shards
from stages.store import Artifact, Job, stage
from stages.sweep import sweep
from stages.writing import append_rows, hdf5, write_rows

SHARD = 16  # images: held in memory until they are written, 4 MB each at the paper's largest scale
OPEN = 128  # files of a scale at once: a system allows a thousand or so
KEPT = 2**29  # bytes of maps that stay in memory, of all scales


@dataclass(frozen=True, eq=False)
class Maps:
    """An image's maps.

    Attributes:
        cells: at each scale, half precision [h, w, C], no more of it than the image covers.
        ratios: float32 [S, 4], what a box in the image's own pixels is multiplied by at each scale.
    """

    cells: tuple[Tensor, ...]
    ratios: Tensor


class Convolutions:
    """The trunk, frozen, over whole images at several scales.

    Args:
        backbone: changed in place: on `device`, in evaluation mode, its trunk in `dtype`.
        scales, longest: see `PyramidConfig`.
    """

    def __init__(
        self, backbone: Backbone, device: str, dtype: str, scales: Sequence[int], longest: int
    ) -> None:
        freeze_batch_norm(backbone)
        self.backbone = backbone.eval().requires_grad_(False)
        backbone.to(device)
        backbone.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        backbone.trunk.to(self.dtype)
        self.device, self.scales, self.longest = device, scales, longest
        self.first = first_centre(backbone.trunk)

    def __call__(self, image: Tensor) -> Maps:
        """The maps of [3, H, W], uint8 or float in [0, 1], on the device."""
        image, cells, ratios = image.to(self.device), [], []
        for scale in self.scales:
            batch = resize([image], self.backbone, [scale], self.longest)
            pixels = batch.pixels.to(self.dtype).contiguous(memory_format=torch.channels_last)
            made = self.backbone.trunk(pixels)[0].permute(1, 2, 0)
            # Cells whose centre lies beyond the image are the frame's.
            height, width = (
                max(1, int(np.ceil((side - self.first) / self.backbone.stride)))
                for side in batch.sizes[0]
            )
            cells.append(made[:height, :width].half().contiguous())
            ratios.append(batch.ratios)
        return Maps(tuple(cells), torch.cat(ratios))


@stage(version=2, together=True)
def cache_maps(
    job: Job,
    data: TrainingData,
    weights: Weights,
    name: Name,
    scale: int,
    longest: int,
    dtype: DType,
) -> None:
    """The maps of the training split at one scale. Writes `maps/*.h5`; read by `MapCache`.

    A scale is an artifact of its own, so that one scale and five share it.
    """
    _write_maps(job, data, weights, name, scale, longest, dtype, image_tensor, f"maps at {scale}")


@stage(version=1, together=True)
def cache_mirrored_maps(
    job: Job,
    data: TrainingData,
    weights: Weights,
    name: Name,
    scale: int,
    longest: int,
    dtype: DType,
) -> None:
    """The same of the images mirrored, which fine-tuning sees too (released code).

    They are not the maps mirrored: filters have a left and a right. Over photographs and SqueezeNet the
    two differ by three quarters of their norm, as much as a map does from itself moved by a cell.
    """
    label = f"maps at {scale}, mirrored"
    _write_maps(job, data, weights, name, scale, longest, dtype, mirrored_tensor, label)


def mirrored_tensor(record: Record) -> Tensor:
    """The record's image, left and right exchanged: uint8 [3, H, W]."""
    return image_tensor(record).flip(-1)


def _write_maps(
    job: Job,
    data: TrainingData,
    weights: Weights,
    name: Name,
    scale: int,
    longest: int,
    dtype: DType,
    load: Callable[[Record], Tensor],
    label: str,
) -> None:
    backbone = build_backbone(name, weights)
    convolutions = Convolutions(
        backbone, job.device, choose_dtype(dtype, job.device), [scale], longest
    )
    every = shards(job.folder / "maps", len(data.train), SHARD, ".h5")
    with torch.inference_mode():
        for shard, images in sweep(data.train, every, job.workers, label, load, job.ranks):
            with hdf5(shard.path) as file:
                sizes, ratios = [], []
                for _, image in images:
                    maps = convolutions(image)
                    (cells,) = maps.cells
                    append_rows(file, "cells", cells.flatten(0, 1).cpu().numpy())
                    sizes.append(cells.shape[:2])
                    ratios.append(maps.ratios[0].numpy())
                write_rows(file, "sizes", np.array(sizes, np.int64))
                write_rows(file, "ratios", np.stack(ratios))


class MapCache:
    """Reads what `cache_maps` wrote at each scale, an image or a few rows of a map at a time.

    Args:
        artifacts: of `cache_maps` or of `cache_mirrored_maps`, a scale each.
        records: the training split.
        keep: bytes of maps that stay in memory once `rows` has read them; batches draw images
            uniformly, so none is likelier to be asked for than another.

    Attributes:
        sizes: int64 [S, N, 2], each map's height and width.
        ratios: float32 [S, N, 4], see `Maps`.

    Raises:
        DamagedError: a shard is missing, cannot be read, or its checksum is wrong.
    """

    def __init__(
        self, artifacts: Sequence[Artifact], records: Sequence[Record], keep: int = KEPT
    ) -> None:
        folders = [artifact.path / "maps" for artifact in artifacts]
        self._scales = [_Scale(folder, len(records), keep // len(folders)) for folder in folders]
        self._row = {record.image_id: i for i, record in enumerate(records)}
        self.sizes = np.stack([scale.sizes for scale in self._scales])
        self.ratios = np.stack([scale.ratios for scale in self._scales])

    def of(self, record: Record) -> Maps:
        """All of the record's maps."""
        image = self._row[record.image_id]
        cells = [scale.rows(image, 0, int(scale.sizes[image, 0])) for scale in self._scales]
        return Maps(
            tuple(torch.from_numpy(of_scale) for of_scale in cells),
            torch.from_numpy(self.ratios[:, image]),
        )

    def rows(self, scale: int, image: int, first: int, end: int) -> np.ndarray:
        """Rows `first` to `end` (exclusive) of a map by itself, float16 [., w, C]."""
        return self._scales[scale].kept_rows(image, first, end)


class _Scale:
    """The maps of one scale."""

    def __init__(self, folder: Path, images: int, room: int) -> None:
        self._every = shards(folder, images, SHARD, ".h5")
        self._open: OrderedDict[Path, h5py.File] = OrderedDict()
        self._lock = threading.Lock()  # a file must not be closed while another thread reads it
        self._kept: dict[int, np.ndarray] = {}
        self._room = room
        sizes, ratios = [np.zeros((0, 2), np.int64)], [np.zeros((0, 4), np.float32)]
        for shard in self._every:
            of_shard = shard.stop - shard.start
            with damage_named(shard.path), self._lock:
                file = self._file(shard.path)
                sizes.append(dataset(file, "sizes", "i", (of_shard, 2))[:])
                ratios.append(dataset(file, "ratios", "f", (of_shard, 4))[:].astype(np.float32))
                cells = len(dataset(file, "cells", "f", (None, None)))
                if sizes[-1].min() < 1 or sizes[-1].prod(axis=1, dtype=float).sum() != cells:
                    raise ValueError(f"maps of {cells} cells, but of other sizes")
                if not (np.isfinite(ratios[-1]) & (ratios[-1] > 0)).all():
                    raise ValueError("ratios that are none")
        self.sizes, self.ratios = np.concatenate(sizes), np.concatenate(ratios)
        self._starts = np.zeros(images, np.int64)
        for shard in self._every:
            areas = self.sizes[shard.start : shard.stop].prod(axis=1)
            self._starts[shard.start : shard.stop] = np.cumsum(areas) - areas

    def rows(self, image: int, first: int, end: int) -> np.ndarray:
        width = int(self.sizes[image, 1])
        start = int(self._starts[image])
        cells = slice(start + first * width, start + end * width)
        read = self._cells(self._every[image // SHARD].path, cells)
        return read.reshape(end - first, width, -1)

    def kept_rows(self, image: int, first: int, end: int) -> np.ndarray:
        if image not in self._kept:
            rows = self.rows(image, first, end)
            height = int(self.sizes[image, 0])
            needed = rows.nbytes // max(end - first, 1) * height
            if needed > self._room:
                return rows
            self._room -= needed
            self._kept[image] = self.rows(image, 0, height)
        return self._kept[image][first:end]

    def _cells(self, path: Path, which: slice) -> np.ndarray:
        with damage_named(path), self._lock:
            cells: np.ndarray = self._file(path)["cells"][which]
            return cells.astype(np.float16, copy=False)

    def _file(self, path: Path) -> h5py.File:
        """The shard, open. Only while the lock is held."""
        if path not in self._open:
            self._open[path] = h5py.File(path)
        self._open.move_to_end(path)
        if len(self._open) > OPEN:
            self._open.popitem(last=False)[1].close()
        return self._open[path]
