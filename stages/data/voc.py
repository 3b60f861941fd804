"""The PASCAL VOC layout: JPEGImages/ Annotations/ ImageSets/Main/ and, for masks, SegmentationObject/.

N objects in an image. Boxes in the XML are 1-based inclusive pixel indices: column
`xmin` is the first that the object covers, `xmax` the last. Ours are continuous, so
x1 = xmin - 1 and x2 = xmax. This is the one place that knows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from reprlib import repr as shown
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from stages.data.files import is_writable, stamps
from stages.data.objects import Sieve, cut
from stages.data.records import Record
from stages.errors import InputError, check_regular, one_line

# In the order in which they are tried.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp")


class VOCFolder:
    """A folder in the VOC layout, as a `Dataset`.

    Args:
        root: the folder.
        name: what to call it.
        train_split, test_split: names of lists in `ImageSets/Main`; "auto" takes `trainval`
            (else `train`) and `test`; without `test`, `train` and `val`.
        negatives: see `stages.data.layouts.Negatives`.
        fingerprint: given when the store made the folder and knows it already.

    Raises:
        InputError: naming the file, when a folder, list, image or annotation is missing or broken.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        train_split: str = "auto",
        test_split: str = "auto",
        negatives: str = "auto",
        fingerprint: str | None = None,
    ) -> None:
        self.root = root
        self.name = name
        if not root.is_dir():
            raise InputError(f"{root}: no such folder")
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            if not (root / part).is_dir():
                raise InputError(f"{root / part}: no such folder (the VOC layout has one)")
        self._train_list = self._split_file(train_split, ("trainval", "train"))
        self._test_list = self._split_file(test_split, ("test", "val"))
        if train_split == "auto" and self._test_list.stem == "val":
            # VOC 2012's test annotations are secret: testing on val, its images must not train.
            self._train_list = self._split_file("auto", ("train", "trainval"))
        if self._train_list == self._test_list:
            raise InputError(f"{self._test_list}: would be both the training and the test split")
        self._given_fingerprint = fingerprint

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether the folder is in this layout, complete or not."""
        return (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir()

    @property
    def one_split(self) -> bool:
        return False

    def _split_file(self, wanted: str, usual: Sequence[str]) -> Path:
        folder = self.root / "ImageSets" / "Main"
        names = usual if wanted == "auto" else (wanted,)
        for name in names:
            if (folder / f"{name}.txt").is_file():
                return folder / f"{name}.txt"
        raise InputError(f"{folder}: holds no {' or '.join(f'{name}.txt' for name in names)}")

    @cached_property
    def fingerprint(self) -> str:
        """From each file's relative path, size and modification time: seconds, not minutes."""
        print_of = hashlib.sha256(f"{self._train_list.stem} {self._test_list.stem}".encode())
        if self._given_fingerprint is not None:
            print_of.update(self._given_fingerprint.encode())
            return print_of.hexdigest()[:16]
        for part in ("Annotations", "ImageSets/Main", "JPEGImages", "SegmentationObject"):
            folder = self.root / part
            if folder.is_dir():
                for line in stamps(folder, f"{part}/"):
                    print_of.update(line)
        return print_of.hexdigest()[:16]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names found in the training split, sorted (for VOC's twenty: the devkit's order)."""
        names = {name for _, names, *_ in self._parsed(self._train_list) for name in names}
        if not names:
            raise InputError(f"{self._train_list}: no object in any of its images' annotations")
        return tuple(sorted(names))

    @property
    def category_ids(self) -> tuple[int, ...]:
        """1 .. K: VOC has no numbers of its own."""
        return tuple(range(1, len(self.classes) + 1))

    @cached_property
    def train(self) -> list[Record]:
        return self._records(self._train_list)

    @cached_property
    def test(self) -> list[Record]:
        return self._records(self._test_list)

    def _records(self, split: Path) -> list[Record]:
        label_of = {name: i + 1 for i, name in enumerate(self.classes)}
        records = []
        sieve = Sieve(split, self._train_list.name)
        for stem, names, size, true_boxes, difficult in self._parsed(split):
            boxes = cut(true_boxes, *size)
            labels = np.array([label_of.get(name, 0) for name in names], np.int64)
            keep = sieve.keep(names, labels, boxes, stem)
            masks = self.root / "SegmentationObject" / f"{stem}.png"
            has_masks = masks.is_file()
            records.append(
                Record(
                    image_id=stem,
                    path=self._image(stem, split),
                    width=size[0],
                    height=size[1],
                    boxes=boxes[keep],
                    labels=labels[keep],
                    difficult=difficult[keep],
                    iscrowd=np.zeros(len(keep), bool),
                    mask_path=masks if has_masks else None,
                    # VOC numbers the objects of the mask in the XML's order, from 1.
                    mask_ids=keep + 1 if has_masks else None,
                    true_boxes=true_boxes[keep],
                )
            )
        sieve.report()
        return records

    def _image(self, stem: str, split: Path) -> Path:
        for suffix in IMAGE_SUFFIXES:
            path = self.root / "JPEGImages" / f"{stem}{suffix}"
            if path.is_file():
                return path
        raise InputError(
            f"{split}: lists {stem!r}, but {self.root / 'JPEGImages' / stem}.jpg is missing"
        )

    def _parsed(self, split: Path) -> list[Annotation]:
        if split not in self._cache:
            self._cache[split] = [
                read_annotation(self.root / "Annotations" / f"{stem}.xml", stem)
                for stem in read_split(split)
            ]
        return self._cache[split]

    @cached_property
    def _cache(self) -> dict[Path, list[Annotation]]:
        return {}


# stem, names, (width, height), boxes float64 [N, 4] not cut to the image, difficult bool [N]
Annotation = tuple[str, list[str], tuple[int, int], np.ndarray, np.ndarray]


def read_split(path: Path) -> list[str]:
    """The image names in an `ImageSets/Main` list; a second column (VOC's per-class lists) is ignored."""
    try:
        check_regular(path)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {one_line(error)}") from None
    stems = [line.split()[0] for line in lines if line.strip()]
    if not stems:
        raise InputError(f"{path}: lists no image")
    for stem in stems:
        if "/" in stem or "\\" in stem or stem in (".", ".."):
            raise InputError(f"{path}: {stem!r} is not a plain file name")
        if not is_writable(stem):
            raise InputError(f"{path}: no file can hold the name {shown(stem)}")
    if len(set(stems)) != len(stems):
        ((twice, _),) = Counter(stems).most_common(1)
        raise InputError(f"{path}: lists {twice!r} twice")
    return stems


def read_annotation(path: Path, stem: str) -> Annotation:
    """One annotation file.

    Raises:
        InputError: the file is missing, is no XML, lacks a size, or has a number that is none.
    """
    try:
        check_regular(path)
        root = parse(path).getroot()
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except (ParseError, DefusedXmlException, LookupError, ValueError, OSError) as error:
        raise InputError(f"{path}: not readable as XML: {one_line(error)}") from None
    size = (int(_number(path, root, "size/width")), int(_number(path, root, "size/height")))
    if min(size) <= 0:
        raise InputError(f"{path}: image size {size[0]}x{size[1]}")
    names, boxes, difficult = [], [], []
    for thing in root.iter("object"):
        name = (thing.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{path}: an object without a name")
        names.append(name)
        xmin, ymin, xmax, ymax = (
            _number(path, thing, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
        )
        boxes.append((xmin - 1, ymin - 1, xmax, ymax))
        difficult.append((thing.findtext("difficult") or "0").strip() == "1")
    return (
        stem,
        names,
        size,
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(difficult, bool),
    )


def _number(path: Path, element: Element, tag: str) -> float:
    text = element.findtext(tag)
    try:
        value = float(text) if text is not None else float("nan")
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise InputError(f"{path}: <{tag.replace('/', '><')}> is {text!r}, not a number")
    return value
