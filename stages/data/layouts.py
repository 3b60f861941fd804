"""Which layout a folder is in: asked of each reader in turn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Protocol

from stages.data.coco import COCOFolder
from stages.data.faults import Faults
from stages.data.files import folders_below, is_image
from stages.data.labelme import LabelMeFolder
from stages.data.records import Dataset, Record
from stages.data.voc import VOCFolder
from stages.data.xml_beside import XMLFolder
from stages.data.yolo import YOLOFolder
from stages.errors import InputError

# Whether images without objects teach what is background. "auto": they are left out, and an image without
# any annotation is refused, as one that may have been forgotten; "use": both teach; "skip": both are left
# out of training.
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
    # LabelMe's files are known by what is in them, COCO's by their place alone, so that comes after it.
    # A list or a data.yaml says more than files that lie side by side, so these come last.
    for layout in (VOCFolder, LabelMeFolder, COCOFolder, YOLOFolder, XMLFolder):
        if layout.fits(root):
            return layout(root, name, train_split, test_split, negatives)
    if (root / "JPEGImages").is_dir():
        return VOCFolder(root, name, train_split, test_split, negatives)  # says what else it lacks
    images = _only_images(root)
    if images:
        raise InputError(
            f"{root}: {images} images without annotations of their objects; labelImg, CVAT, Label Studio "
            "and Roboflow are free and write what we read"
        )
    raise InputError(f"{root}: no data set that we read: {LAYOUTS}")


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


# What tells each layout, for who has none of them.
LAYOUTS = (
    "neither JPEGImages/, Annotations/ and ImageSets/Main/ (VOC), nor an .xml for each image (labelImg, "
    "Roboflow), nor a .json for each (LabelMe), nor annotations/*.json or one .json beside the images "
    "(COCO), nor data.yaml, obj.data or a .txt for each image (YOLO)"
)
# What annotations and their classes are written in.
WRITTEN = (".xml", ".json", ".txt", ".yaml", ".yml", ".csv", ".data", ".names", ".zip")


def _only_images(root: Path) -> int:
    """How many images are in the folder and those below; 0 if there is a file that may tell of them."""
    images = 0
    for folder in folders_below(root):
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(WRITTEN):
                    return 0
                images += is_image(entry.name)
    return images
