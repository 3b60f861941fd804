"""`DATA=`: which data set, by name or by path."""

from __future__ import annotations

from dataclasses import dataclass, field

from stages.data.download import NAMES, fetch
from stages.data.first import First
from stages.data.layouts import open_folder
from stages.data.records import Dataset
from stages.data.shapes import ShapesConfig, draw_shapes
from stages.data.voc import VOCFolder
from stages.errors import InputError, expand
from stages.store import Store


@dataclass(frozen=True)
class DataConfig:
    """Which images to train and test on.

    Attributes:
        name: `shapes`, drawn by the project; `voc2007`, `voc2012`, `coco` or `pets`, fetched where
            they were published; or the path of a folder in the VOC, COCO or YOLO layout.
        train_split, test_split: VOC: lists in `ImageSets/Main`; COCO: files in `annotations`, without
            `instances_` and `.json`; YOLO: entries of `data.yaml`. To choose a schedule without
            looking at the test split, train on `train` and test on `val`.
        first: only so many images of each split, the first; None: all.
        downloads: the folder that fetched data sets are kept in.
        shapes: what to draw.
    """

    name: str = "shapes"
    train_split: str = "auto"
    test_split: str = "auto"
    first: int | None = None
    downloads: str = "data"
    shapes: ShapesConfig = field(default_factory=lambda: ShapesConfig(train=260, test=100))


def load_data(config: DataConfig, store: Store) -> Dataset:
    """The data set; drawn or fetched first if it is not there yet.

    Raises:
        InputError: no such folder, not a layout we read, or it cannot be fetched.
    """
    if config.first is not None and config.first < 1:
        raise InputError(f"--data.first {config.first}: takes 1 or more")
    data = _whole(config, store)
    return data if config.first is None else First(data, config.first)


def _whole(config: DataConfig, store: Store) -> Dataset:
    splits = (config.train_split, config.test_split)
    if config.name == "shapes":
        drawn = store.run(draw_shapes, config.shapes)
        return VOCFolder(drawn.path, "shapes", *splits, fingerprint=drawn.fingerprint)
    if config.name in NAMES:
        return open_folder(fetch(config.name, expand(config.downloads)), config.name, *splits)
    root = expand(config.name)
    if not root.exists():
        raise InputError(
            f"{root}: no such folder (DATA= takes shapes, {', '.join(NAMES)} or the path of a data set)"
        )
    return open_folder(root, root.resolve().name, *splits)
