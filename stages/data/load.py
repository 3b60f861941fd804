"""`DATA=`: which data set, by name or by path."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stages.data.download import NAMES, fetch
from stages.data.files import stamp
from stages.data.first import First
from stages.data.layouts import AsWritten, Negatives, open_file, open_folder
from stages.data.prepared import Preparation, Prepared
from stages.data.records import Dataset
from stages.data.shapes import ShapesConfig, draw_shapes
from stages.data.unpack import unpack
from stages.data.voc import VOCFolder
from stages.errors import InputError, expand
from stages.store import Store


@dataclass(frozen=True)
class DataConfig:
    """Which images to train and test on.

    Attributes:
        name: `shapes`, drawn by the project; `voc2007`, `voc2012`, `coco` or `pets`, fetched where
            they were published; or the path of a folder in a layout of `stages.data.layouts`, of a
            `data.yaml`, of a JSON file of COCO's, or of a zip file of any of these.
        train_split, test_split: VOC: lists in `ImageSets/Main`; COCO: files in `annotations`, without
            `instances_` and `.json`; YOLO: entries of `data.yaml`; elsewhere folders. To choose a schedule
            without looking at the test split, train on `train` and test on `val`.
        holdout: where there is one split only, this part of it is held out to test on;
        holdout_seed: another, other images.
        negatives: whether images without objects teach what is background. "auto": they are left out of
            training, as detectron2 leaves them out, and an image without any annotation is refused, as
            one that may have been forgotten; "use": both teach; "skip": both are left out. What was
            measured is in the README.
        unreadable: an image file that cannot be read is left out of training and refused in the test split;
            "leave-out": it is left out there too, and what is measured is of fewer images.
        most_megapixels: that an image may have; None: 89, Pillow's limit. A larger one is taken for a
            bomb. Decoding takes 10 bytes a pixel, in each process that loads images.
        first: only so many images of each split, the first; None: all.
        downloads: the folder that fetched and unpacked data sets are kept in.
        shapes: what to draw.
    """

    name: str = "shapes"
    train_split: str = "auto"
    test_split: str = "auto"
    holdout: float = 0.2
    holdout_seed: int = 0
    negatives: Negatives = "auto"
    unreadable: Literal["refuse", "leave-out"] = "refuse"
    most_megapixels: float | None = None
    first: int | None = None
    downloads: str = "data"
    shapes: ShapesConfig = field(default_factory=lambda: ShapesConfig(train=260, test=100))


def load_data(config: DataConfig, store: Store) -> Dataset:
    """The data set; drawn, fetched or unpacked first if it is not there yet.

    Nobody's files are read before the first question for an image or a class; then all of them are
    (`stages.data.prepared`).

    Raises:
        InputError: no such folder, not a layout we read, or it cannot be fetched.
    """
    if config.first is not None and config.first < 1:
        raise InputError(f"--data.first {config.first}: takes 1 or more")
    if not 0 < config.holdout < 1:
        raise InputError(f"--data.holdout {config.holdout:g}: takes a part, above 0 and below 1")
    data: Dataset
    if config.name == "shapes":
        drawn = store.run(draw_shapes, config.shapes)
        splits = (config.train_split, config.test_split)
        data = VOCFolder(drawn.path, "shapes", *splits, fingerprint=drawn.fingerprint)
    else:
        most = None if config.most_megapixels is None else int(config.most_megapixels * 1e6)
        options = Preparation(
            config.negatives, config.unreadable, config.holdout, config.holdout_seed, most
        )
        data = Prepared(_open(config), options, store)
    return data if config.first is None else First(data, config.first)


def _open(config: DataConfig) -> AsWritten:
    more = (config.train_split, config.test_split, config.negatives)
    downloads = expand(config.downloads)
    if config.name in NAMES:
        return open_folder(fetch(config.name, downloads), config.name, *more)
    path = expand(config.name)
    if not path.exists():
        raise InputError(
            f"{path}: no such file or folder "
            f"(DATA= takes shapes, {', '.join(NAMES)} or the path of a data set)"
        )
    if path.is_dir():
        return open_folder(path, path.resolve().name, *more)
    if path.suffix.lower() == ".zip":
        return open_folder(unpacked(path, downloads), path.stem, *more)
    return open_file(path, *more)


def unpacked(archive: Path, downloads: Path) -> Path:
    """The folder of what a zip file holds; unpacked once for each state of the file.

    Raises:
        InputError: it is damaged, or holds what would be written elsewhere.
    """
    state = hashlib.sha256(stamp(str(archive.resolve()), archive.stat())).hexdigest()[:8]
    folder = downloads / f"{archive.stem}-{state}"
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.{os.getpid()}.unfinished")
        print(f"unpacking {archive} into {folder}", file=sys.stderr, flush=True)
        try:
            part.mkdir(parents=True)
            unpack(archive, part)
            if not folder.is_dir():  # another run was faster
                os.rename(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    inside = [entry for entry in folder.iterdir() if entry.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
