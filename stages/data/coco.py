"""The COCO layout: annotations/*.json and the images beside it; and what other tools write in its place.

N objects in an image. COCO's boxes are continuous, x y of the upper left corner and width and
height; ours are x1 y1 x2 y2.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from stages.data.coco_file import CocoFile, CocoImage, corners_of, read_coco
from stages.data.faults import Faults
from stages.data.files import IMAGE_SUFFIXES, Names, folders_below, stamp, stamps
from stages.data.objects import Named, Sieve
from stages.data.reader import Content, Reader
from stages.data.records import Record, Segmentation
from stages.data.segmentation import outlines_of
from stages.data.splits import choose_splits
from stages.errors import InputError


class COCOFolder(Reader):
    """A folder in the COCO layout, as a `Dataset`.

    A split is a file of annotations: see `files_of`. Its images may be beside it, in a folder of the
    split's name (with or without its year), in `images/` or `JPEGImages/`, in a folder of the split's
    name in `images/`; or in the folder of another split, whose part it is.

    Args:
        root: the folder.
        name: what to call it.
        train_split, test_split: names of splits; see `choose_splits` for "auto".
        negatives: of no use here: an image that the file lists is annotated.
        file: the only file to read.

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
        file: Path | None = None,
    ) -> None:
        self.root = root
        self.name = name
        files = files_of(root) if file is None else {split_of(file): file}
        if file is not None and file.parent.name == "annotations":
            self.root = file.parent.parent
        self._splits = tuple(files)
        self._train_split, self._test_split = choose_splits(
            root / "annotations" if (root / "annotations").is_dir() else root,
            files,
            kinds_of(files),
            train_split.removeprefix("instances_"),
            test_split.removeprefix("instances_"),
        )
        self.one_split = len(files) == 1 and (train_split, test_split) == ("auto", "auto")
        self._train_path = files[self._train_split]
        self._test_path = files[self._test_split]

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether the folder is in this layout, complete or not."""
        return bool(files_of(root))

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

    def _parse(self, faults: Faults) -> Content:
        learnt = tested = read_coco(self._train_path, faults)
        if self._test_path != self._train_path:
            tested = read_coco(self._test_path, faults)
        categories = self._categories(learnt, tested, faults)
        train = self._records(learnt, self._train_split, categories, faults)
        if tested is learnt:
            test = train
        else:
            test = self._records(tested, self._test_split, categories, faults)
            # COCO's ids are unique over its splits, but other tools count each file's images from 1,
            # and proposals are kept by id. The test images' stay: results are compared by them.
            taken = {str(image.image_id) for image in tested.images}
            if not taken.isdisjoint(str(record.image_id) for record in train):
                train = [replace(r, image_id=f"{self._train_split}/{r.image_id}") for r in train]
        return Content(train, test, tuple(categories.values()), tuple(categories))

    def _categories(self, learnt: CocoFile, tested: CocoFile, faults: Faults) -> dict[int, str]:
        """Name by id of those that have an object in the training split, by their ids."""
        # Like VOC's: what no training image shows cannot be learnt.
        used = learnt.used
        if not used and not faults.lines:
            faults.lines.append(f"{learnt.path}: no object in any of its images")
        categories = {number: learnt.categories[number] for number in sorted(used)}
        counts = Counter(categories.values())
        for name in [name for name, count in counts.items() if count > 1]:
            of_name = [other for other in categories if categories[other] == name]
            faults.lines.append(f"{learnt.path}: categories {of_name} are all named {name!r}")
        for number, name in categories.items():
            there = tested.categories.get(number, name)
            if there != name and counts[name] == 1:
                faults.lines.append(
                    f"{tested.path}: category {number} is {there!r}, "
                    f"but {name!r} in {learnt.path.name}"
                )
        return categories

    def _records(
        self, file: CocoFile, split: str, categories: Mapping[int, str], faults: Faults
    ) -> list[Record]:
        label_of = {number: i + 1 for i, number in enumerate(categories)}
        places = _Places(self.root, file.path, split, self._splits)
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
            with faults.caught():
                records.append(
                    Record(
                        image_id=image.image_id,
                        path=places.of(image),
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


# Of a file of annotations, bytes that tell what it is.
HEAD = 2**16
SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test", "trainval")


def files_of(root: Path) -> dict[str, Path]:
    """A folder's files of annotations by the split's name; none where it is in another layout.

    In the order in which they are looked for: `annotations/*.json`, without `instances_` and `.json`;
    one .json in each of the folders `train`, `valid` .. (Roboflow), by the folder's name; one .json
    beside the images or the folder `images` (Label Studio's `result.json`), by its own.
    """
    folder = root / "annotations"
    files = {
        split_of(path): path
        for path in sorted(folder.glob("*.json"))
        # Not a link to a file that was not fetched, nor a test split that nobody filled.
        if path.is_file() and not (_is_empty(path) and _kind(split_of(path)) in ("test", "val"))
    }
    if files:
        # LabelMe's and others' may lie in a folder of that name, one for each image.
        return files if len(files) <= 20 or any(map(_is_coco, files.values())) else {}
    for name in SPLIT_FOLDERS:
        inside = [path for path in sorted((root / name).glob("*.json")) if _is_coco(path)]
        inside = [path for path in inside if name == "train" or not _is_empty(path)]
        if len(inside) == 1:
            files[name] = inside[0]
    if not files:
        inside = [path for path in sorted(root.glob("*.json")) if _is_coco(path)]
        files = {split_of(path): path for path in inside}
    return files


def split_of(path: Path) -> str:
    """What the file's name calls its split."""
    return path.stem.removeprefix("instances_")


def _is_empty(path: Path) -> bool:
    """Whether a small file is COCO's and lists no image."""
    try:
        if path.stat().st_size > HEAD:
            return False
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("images") == [] and data.get("annotations") == []


def _is_coco(path: Path) -> bool:
    """Whether a .json begins like COCO's: it is not read whole."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    keys = (b'"images"', b'"annotations"', b'"categories"')
    return (
        head.lstrip().startswith(b"{")
        and any(key in head for key in keys)
        and (
            b'"shapes"' not in head  # LabelMe's
        )
    )


def kinds_of(splits: Iterable[str]) -> dict[str, str]:
    """trainval, train, val or test, as a split's name says (`train2017` is a train), by the name.

    Where no name is one, the endings are (`lvis_v1_train`): COCO's `captions_train2017` beside
    `train2017` is no split.
    """
    splits = list(splits)
    whole = {split: kind for split in splits if (kind := _kind(split)) is not None}
    if whole:
        return whole
    endings = {split: re.split(r"[-_. ]", split.rstrip("0123456789-_"))[-1] for split in splits}
    return {split: kind for split, end in endings.items() if (kind := _kind(end)) is not None}


def _kind(word: str) -> str | None:
    found = re.fullmatch(r"(trainval|train|val|valid|validation|test)[-_]?\d*", word.lower())
    return found[1].replace("validation", "val").replace("valid", "val") if found else None


class _Places:
    """Where the images of a file's split, one of `splits`, are."""

    def __init__(self, root: Path, file: Path, split: str, splits: Iterable[str]) -> None:
        self._root, self._file = root, file
        self._names = Names()
        own = self._own(split)
        beside = [] if file.parent in (root, root / "annotations") else [file.parent]
        usual = self._made(["images", "JPEGImages", ".", "annotations"])
        self._folders = list(dict.fromkeys([*beside, *own, *usual]))
        others = (folder for other in splits for folder in self._own(other))
        self._others = [folder for folder in dict.fromkeys(others) if folder not in self._folders]

    def _own(self, split: str) -> list[Path]:
        """The folders called after a split, with or without its year."""
        short = re.sub(r"[-_]?\d+$", "", split)
        return self._made([split, f"images/{split}", short, f"images/{short}"])

    def _made(self, parts: list[str]) -> list[Path]:
        return [self._root / part for part in dict.fromkeys(parts)]

    def of(self, image: CocoImage) -> Path:
        for folder in self._folders:
            path = folder / image.file_name
            if self._names.has(path):
                return path
        found = [f / image.file_name for f in self._others if self._names.has(f / image.file_name)]
        if len(found) == 1:
            return found[0]
        what = f"{self._file}: image {image.image_id!r}: {image.file_name!r}"
        if found:
            raise InputError(f"{what} could be {found[0]} or {found[1]}")
        looked = ", ".join(f"{folder.relative_to(self._root)}/" for folder in self._folders)
        raise InputError(f"{what} is in none of {looked} of {self._root}")
