"""`DATA=`: which data set, by name or by path."""

from __future__ import annotations

from dataclasses import dataclass, field

from stages.data.records import Dataset
from stages.data.shapes import ShapesConfig, draw_shapes
from stages.data.voc import VOCFolder
from stages.errors import InputError, expand
from stages.store import Store


@dataclass(frozen=True)
class DataConfig:
    """Which images to train and test on.

    Attributes:
        name: `shapes`, drawn by the project, or the path of a folder in the VOC layout.
        train_split, test_split: lists in `ImageSets/Main`. To choose a schedule without looking
            at the test split, train on `train` and test on `val`.
        shapes: what to draw.
    """

    name: str = "shapes"
    train_split: str = "auto"
    test_split: str = "auto"
    shapes: ShapesConfig = field(default_factory=lambda: ShapesConfig(train=300, test=100))


def load_data(config: DataConfig, store: Store) -> Dataset:
    """The data set; drawn first if it is `shapes` and not there yet.

    Raises:
        InputError: no such folder, or not a layout we read.
    """
    if config.name == "shapes":
        drawn = store.run(draw_shapes, config.shapes)
        return VOCFolder(
            drawn.path,
            "shapes",
            config.train_split,
            config.test_split,
            fingerprint=drawn.fingerprint,
        )
    root = expand(config.name)
    if not root.exists():
        raise InputError(f"{root}: no such folder (DATA= takes `shapes` or the path of a data set)")
    return VOCFolder(root, root.resolve().name, config.train_split, config.test_split)
