"""The COCO layout: annotations/*.json and the images beside it.

N objects in an image. COCO's boxes are continuous, x y of the upper left corner and width and
height; ours are x1 y1 x2 y2.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from stages.data.coco_file import CocoFile, CocoImage, corners_of, read_coco
from stages.data.files import IMAGE_SUFFIXES, Names, folders_below, stamp, stamps
from stages.data.objects import Named, Sieve
from stages.data.records import Record, Segmentation
from stages.data.segmentation import outlines_of
from stages.data.splits import choose_splits
from stages.errors import InputError


class COCOFolder:
    """A folder in the COCO layout, as a `Dataset`.

    A split is a file of `annotations/`, called by its name without `instances_` and `.json`.
    Its images may be in a folder of the split's name (with or without its year), in `images/`
    or `JPEGImages/`, in a folder of the split's name in `images/`, or beside the annotations; or
    in the folder of another split, whose part it is.

    Args:
        root: the folder.
        name: what to call it.
        train_split, test_split: names of splits; see `choose_splits` for "auto".
        negatives: of no use here: an image that the file lists is annotated.

    Raises:
        InputError: naming the file, when one is missing or broken, and which of its images or
            annotations is at fault.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        train_split: str = "auto",
        test_split: str = "auto",
        negatives: str = "auto",
    ) -> None:
        self.root = root
        self.name = name
        folder = root / "annotations"
        files = {
            path.stem.removeprefix("instances_"): path
            for path in sorted(folder.glob("*.json"))
            if path.is_file()  # not a link to a file that was not fetched
        }
        self._splits = tuple(files)
        usual = {split: kind for split in files if (kind := kind_of(split))}
        self._train_split, self._test_split = choose_splits(
            folder,
            files,
            usual,
            train_split.removeprefix("instances_"),
            test_split.removeprefix("instances_"),
        )
        self._train_path = files[self._train_split]
        self._test_path = files[self._test_split]

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether the folder is in this layout, complete or not."""
        return any((root / "annotations").glob("*.json"))

    @property
    def one_split(self) -> bool:
        return len(self._splits) == 1

    @cached_property
    def fingerprint(self) -> str:
        """From each image's and both files' relative path, size and modification time."""
        print_of = hashlib.sha256(f"{self._train_split} {self._test_split}\n".encode())
        for path in (self._train_path, self._test_path):
            print_of.update(stamp(path.name, path.stat()))
        # Which of the images a split has only its file knows, and COCO's is 450 MB to read.
        for folder in folders_below(self.root):
            prefix = f"{folder.relative_to(self.root).as_posix()}/"
            for line in stamps(folder, prefix, IMAGE_SUFFIXES):
                print_of.update(line)
        return print_of.hexdigest()[:16]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the categories that have an object in the training split, by their ids."""
        return tuple(self._categories.values())

    @property
    def category_ids(self) -> tuple[int, ...]:
        return tuple(self._categories)

    @cached_property
    def train(self) -> list[Record]:
        records = self._records(self._train, self._train_split)
        if self._train_path == self._test_path:
            return records
        # COCO's ids are unique over its splits, but other tools count each file's images from 1,
        # and proposals are kept by id. The test images' stay: results are compared by them.
        taken = {str(image.image_id) for image in self._test.images}
        if taken.isdisjoint(str(record.image_id) for record in records):
            return records
        return [
            replace(record, image_id=f"{self._train_split}/{record.image_id}") for record in records
        ]

    @cached_property
    def test(self) -> list[Record]:
        return self._records(self._test, self._test_split)

    @cached_property
    def _train(self) -> CocoFile:
        return read_coco(self._train_path)

    @cached_property
    def _test(self) -> CocoFile:
        return self._train if self._test_path == self._train_path else read_coco(self._test_path)

    @cached_property
    def _categories(self) -> dict[int, str]:
        """Name by id."""
        # Like VOC's: what no training image shows cannot be learnt. A crowd shows no single one.
        used: set[int] = set()
        for image in self._train.images:
            used.update(image.categories[~image.iscrowd].tolist())
        if not used:
            raise InputError(f"{self._train_path}: no object in any of its images")
        categories = {number: self._train.categories[number] for number in sorted(used)}
        counts = Counter(categories.values())
        for number, name in categories.items():
            if counts[name] > 1:
                of_name = [other for other in categories if categories[other] == name]
                raise InputError(f"{self._train_path}: categories {of_name} are all named {name!r}")
            there = self._test.categories.get(number, name)
            if there != name:
                raise InputError(
                    f"{self._test_path}: category {number} is {there!r}, "
                    f"but {name!r} in {self._train_path.name}"
                )
        return categories

    def _records(self, file: CocoFile, split: str) -> list[Record]:
        label_of = {number: i + 1 for i, number in enumerate(self._categories)}
        places = _Places(self.root, split, self._splits)
        sieve = Sieve(file.path, self._train_path.name)
        records, flat, bare = [], Named(), Named()
        for image in file.images:
            numbers = image.categories.tolist()
            labels = np.array([label_of.get(number, 0) for number in numbers], np.int64)
            names = [file.categories[number] for number in numbers]
            keep = sieve.keep(names, labels, image.boxes, image.file_name, image.iscrowd)
            outlines = _outlines(image, keep)
            for place, i in enumerate(keep):
                what = f"annotation {image.annotations[i]!r} of {image.file_name!r}"
                if image.segmentations[i] == ():
                    flat.add(what)
                if outlines is not None and outlines[place] is None:
                    bare.add(what)
            records.append(
                Record(
                    image_id=image.image_id,
                    path=places.of(file, image),
                    width=image.width,
                    height=image.height,
                    boxes=image.boxes[keep],
                    labels=labels[keep],
                    difficult=np.zeros(len(keep), bool),
                    iscrowd=image.iscrowd[keep],
                    segmentations=outlines,
                    true_boxes=corners_of(image.xywh[keep]),
                    xywh=image.xywh[keep],
                    areas=image.areas[keep],
                )
            )
        sieve.report()
        flat.report(f"{file.path}: outlines of less than three points, so empty masks")
        bare.report(f"{file.path}: objects without a mask beside others that have one")
        return records


def _outlines(image: CocoImage, keep: np.ndarray) -> tuple[Segmentation | None, ...] | None:
    """Of the objects that stay; None where none has one."""
    given = [image.segmentations[i] for i in keep]
    if outlines_of(given) is None and not image.iscrowd[keep].all():
        return None
    # A crowd, which nothing learns, is all of its box if it has no outline.
    return tuple(
        _around(image.boxes[i]) if outline is None and image.iscrowd[i] else outline
        for i, outline in zip(keep, given, strict=True)
    )


def _around(box: np.ndarray) -> Segmentation:
    """The outline of a box, xyxy."""
    return (box[[0, 1, 2, 1, 2, 3, 0, 3]].astype(np.float64),)


def kind_of(split: str) -> str | None:
    """trainval, train, val or test, as the split's name says (`train2017` is a train); or None."""
    found = re.fullmatch(r"(trainval|train|val|valid|validation|test)[-_]?\d*", split.lower())
    return found[1].replace("validation", "val").replace("valid", "val") if found else None


class _Places:
    """Where the images of a split, one of `splits`, are."""

    def __init__(self, root: Path, split: str, splits: Iterable[str]) -> None:
        self._root = root
        self._names = Names()
        self._folders = [
            *self._own(split),
            *self._made(["images", "JPEGImages", ".", "annotations"]),
        ]
        others = (folder for other in splits for folder in self._own(other))
        self._others = [folder for folder in dict.fromkeys(others) if folder not in self._folders]

    def _own(self, split: str) -> list[Path]:
        """The folders called after a split, with or without its year."""
        short = re.sub(r"[-_]?\d+$", "", split)
        return self._made([split, f"images/{split}", short, f"images/{short}"])

    def _made(self, parts: list[str]) -> list[Path]:
        return [self._root / part for part in dict.fromkeys(parts)]

    def of(self, file: CocoFile, image: CocoImage) -> Path:
        for folder in self._folders:
            path = folder / image.file_name
            if self._names.has(path):
                return path
        found = [f / image.file_name for f in self._others if self._names.has(f / image.file_name)]
        if len(found) == 1:
            return found[0]
        what = f"{file.path}: image {image.image_id!r}: {image.file_name!r}"
        if found:
            raise InputError(f"{what} could be {found[0]} or {found[1]}")
        looked = ", ".join(f"{folder.relative_to(self._root)}/" for folder in self._folders)
        raise InputError(f"{what} is in none of {looked} of {self._root}")
