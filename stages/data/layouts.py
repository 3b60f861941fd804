"""Which layout a folder is in: asked of each reader in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from stages.data.coco import COCOFolder
from stages.data.faults import Faults
from stages.data.records import Dataset, Record
from stages.data.voc import VOCFolder
from stages.data.yolo import YOLOFolder
from stages.errors import InputError

# Whether images without objects teach what is background. "auto": they do, and an image without any
# annotation is refused, as one that may have been forgotten; "use": it is one without objects; "skip":
# both are left out of training.
Negatives = Literal["auto", "use", "skip"]


class AsWritten(Dataset, Protocol):
    """A data set as its files have it.

    `train` and `test` read both splits, and refuse them with all that is wrong in either
    (`stages.data.faults`). An image whose size nobody knows, since it is unreadable, is 0×0.
    """

    def read(self, faults: Faults) -> tuple[list[Record], list[Record]]:
        """Training and test records that are sound; what is wrong with the others goes to `faults`."""
        ...

    @property
    def one_split(self) -> bool:
        """Whether there is one split, which is both: to be held out in part."""
        ...


def open_folder(
    root: Path,
    name: str,
    train_split: str = "auto",
    test_split: str = "auto",
    negatives: Negatives = "auto",
) -> AsWritten:
    """A folder as a data set, in whichever layout it is; in the first of these, if in several.

    Raises:
        InputError: in none.
    """
    for layout in (VOCFolder, COCOFolder, YOLOFolder):
        if layout.fits(root):
            return layout(root, name, train_split, test_split, negatives)
    if (root / "JPEGImages").is_dir():
        return VOCFolder(root, name, train_split, test_split, negatives)  # says what else it lacks
    raise InputError(
        f"{root}: no data set that we read: neither JPEGImages/ and Annotations/ (VOC), "
        "nor annotations/*.json (COCO), nor data.yaml (YOLO)"
    )


def open_file(
    path: Path, train_split: str = "auto", test_split: str = "auto", negatives: Negatives = "auto"
) -> AsWritten:
    """A data set by the one file that says what is in it: YOLO's .yaml or COCO's .json.

    Raises:
        InputError: it is neither.
    """
    root, suffix = path.resolve().parent, path.suffix.lower()
    more = (train_split, test_split, negatives)
    if suffix in (".yaml", ".yml"):
        return YOLOFolder(root, root.name, *more, file=path)
    if suffix == ".json":
        return COCOFolder(root, root.name, *more, file=path)
    raise InputError(
        f"{path}: no data set: takes a folder, a .zip of one, a data.yaml or COCO's .json"
    )
