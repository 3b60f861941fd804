"""The YOLO layout: a data.yaml, images/ and labels/.

N objects in an image. A label file has a line for each object, in parts of the image's width
and height: the class and either the box's centre and size, or the corners of its outline.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from stages.data.files import (
    IMAGE_SUFFIXES,
    Names,
    folders_below,
    is_image,
    is_writable,
    stamp,
    stamps,
)
from stages.data.objects import Named, Sieve, cut
from stages.data.records import Record
from stages.data.segmentation import check_length, outlines_of
from stages.data.size import size_of
from stages.data.splits import choose_splits, warn_of_same_images
from stages.data.yolo_files import Label, read_config, read_labels, read_list
from stages.errors import InputError

KINDS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


class YOLOFolder:
    """A folder in the YOLO layout, as a `Dataset`.

    A split is an entry of `data.yaml`: a folder of images, a .txt list of images, or several,
    all below the data's folder, which `path` may name.
    The labels of `images/x.jpg` are in `labels/x.txt`, or beside it where no folder is called
    `images`; an image without a label file is one without objects. Images are named by their
    path below the data's folder.

    Args:
        root: the folder of `data.yaml`.
        name: what to call it.
        train_split, test_split: entries of `data.yaml`; see `choose_splits` for "auto".

    Raises:
        InputError: naming the file and the line, when one is missing or broken.
    """

    def __init__(
        self, root: Path, name: str, train_split: str = "auto", test_split: str = "auto"
    ) -> None:
        self.root = root
        self.name = name
        self._yaml = root / "data.yaml"
        self._config = read_config(self._yaml)
        # `path` is where its author kept the data; if nothing is there, it was moved here.
        self._base = root
        if self._config.path is not None and os.path.isdir(root / self._config.path):
            self._base = root / self._config.path
        sources = {split: self._sources(split) for split in self._config.splits}
        # Templates name a test split, whether there is one or not.
        there = {
            split: kind
            for split, kind in KINDS.items()
            if split in sources and all(os.path.exists(source) for source in sources[split])
        }
        self._train_split, self._test_split = choose_splits(
            self._yaml, sources, there, train_split, test_split
        )
        train, test = sources[self._train_split], sources[self._test_split]
        if self._train_split != self._test_split and train == test:  # as in samples of data sets
            warn_of_same_images(self._yaml, f"{self._train_split} and {self._test_split}")

    @cached_property
    def fingerprint(self) -> str:
        """From the relative path, size and modification time of each file in the splits' folders."""
        print_of = hashlib.sha256(f"{self._train_split} {self._test_split}\n".encode())
        print_of.update(stamp("data.yaml", self._yaml.stat()))
        folders: set[Path] = set()
        for split in (self._train_split, self._test_split):
            for source in self._sources(split):
                if source.is_file():
                    print_of.update(stamp(self._called(source), source.stat()))
            for image in self._images(split):
                folders |= {image.parent, self._labels_of(image).parent}
        for folder in sorted(folders):
            if folder.is_dir():
                for line in stamps(folder, f"{self._called(folder)}/", (*IMAGE_SUFFIXES, ".txt")):
                    print_of.update(line)
        return print_of.hexdigest()[:16]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that have an object in the training split, by their numbers."""
        return tuple(self._config.names[number] for number in self.category_ids)

    @cached_property
    def category_ids(self) -> tuple[int, ...]:
        used = {label.number for _, labels in self._labels(self._train_split) for label in labels}
        if not used:
            raise InputError(
                f"{self._yaml}: no object in the label files of any image of {self._train_split}"
            )
        return tuple(sorted(used))

    @cached_property
    def train(self) -> list[Record]:
        return self._records(self._train_split)

    @cached_property
    def test(self) -> list[Record]:
        return self._records(self._test_split)

    def _sources(self, split: str) -> list[Path]:
        """Folders and lists of a split's images; they may not be there."""
        sources = []
        for entry in self._config.splits[split]:
            source = self._base / entry
            if not self._holds(source) and entry.startswith("../"):
                # As Roboflow writes it, meaning the folder beside data.yaml.
                source = self._base / entry.removeprefix("../")
            sources.append(source)
        return sources

    def _holds(self, path: Path) -> bool:
        """Whether the path, its `..` followed, leads below the data's folder."""
        place = Path(os.path.normpath(path))
        folders = (os.path.normpath(self._base), os.path.realpath(self._base))
        return any(place.is_relative_to(folder) for folder in folders)

    def _images(self, split: str) -> list[Path]:
        if split not in self._found:
            images = [image for source in self._sources(split) for image in self._in(source)]
            if not images:
                raise InputError(f"{self._yaml}: {split}: holds no image")
            for image in images:
                if not is_writable(self._called(image)):
                    raise InputError(f"{image}: its name is not UTF-8, so no file can hold it")
            self._found[split] = list(dict.fromkeys(images))
        return self._found[split]

    def _in(self, source: Path) -> Iterator[Path]:
        """The images in a folder and those below it, or on a list."""
        if not self._holds(source):
            raise InputError(
                f"{self._yaml}: {str(source)!r} leads out of {self._base} (`path:` names another folder)"
            )
        if os.path.isdir(source):
            for folder in folders_below(source):
                with os.scandir(folder) as entries:
                    names = sorted(entry.name for entry in entries if is_image(entry.name))
                yield from (folder / name for name in names)
        elif source.suffix == ".txt" and os.path.isfile(source):
            for line in read_list(source):
                every = (source.parent / line, self._base / line)
                places = [place for place in every if self._holds(place)]
                if not places:
                    raise InputError(f"{source}: lists {line!r}, which leads out of {self._base}")
                image = next((place for place in places if self._names.has(place)), None)
                if image is None:
                    raise InputError(f"{source}: lists {line!r}, which is not there")
                yield image
        else:
            raise InputError(
                f"{source}: no such folder, nor list of images ({self._yaml} names it)"
            )

    def _labels_of(self, image: Path) -> Path:
        inner = image.relative_to(self._base) if image.is_relative_to(self._base) else image
        parts = list(inner.parent.parts)
        if "images" in parts:
            last = len(parts) - 1 - parts[::-1].index("images")
            parts[last] = "labels"
        return self._base.joinpath(*parts, f"{inner.stem}.txt")

    def _labels(self, split: str) -> list[tuple[Path, list[Label]]]:
        """Each image of the split with its objects."""
        if split not in self._read:
            images = self._images(split)
            files = [self._labels_of(image) for image in images]
            folders = sorted({file.parent for file in files})
            if not any(folder.is_dir() for folder in folders):
                raise InputError(
                    f"{folders[0]}: no such folder (the labels of {split} would be there)"
                )
            self._read[split] = [
                (image, read_labels(file, self._config.names) if self._names.has(file) else [])
                for image, file in zip(images, files, strict=True)
            ]
        return self._read[split]

    @cached_property
    def _names(self) -> Names:
        return Names()

    @cached_property
    def _found(self) -> dict[str, list[Path]]:
        return {}

    @cached_property
    def _read(self) -> dict[str, list[tuple[Path, list[Label]]]]:
        return {}

    def _called(self, path: Path) -> str:
        """The path below the data's folder; whole if it is not there."""
        return (
            path.relative_to(self._base) if path.is_relative_to(self._base) else path
        ).as_posix()

    def _records(self, split: str) -> list[Record]:
        label_of = {number: i + 1 for i, number in enumerate(self.category_ids)}
        sieve = Sieve(f"{self._yaml}: {split}", self._train_split)
        records, bare = [], Named()
        for path, things in self._labels(split):
            width, height = size_of(path)
            parts = np.array([thing.box for thing in things]).reshape(-1, 4)
            true_boxes = parts * [width, height, width, height]
            boxes = cut(true_boxes, width, height)
            labels = np.array([label_of.get(thing.number, 0) for thing in things], np.int64)
            keep = sieve.keep([self._config.names[thing.number] for thing in things], labels, boxes)
            polygons = [
                None
                if (polygon := things[i].polygon) is None
                else (polygon.reshape(-1, 2) * [width, height]).ravel()
                for i in keep
            ]
            try:
                for polygon in polygons:
                    check_length([] if polygon is None else [polygon])
            except ValueError as error:
                raise InputError(f"{self._labels_of(path)}: {error}") from None
            outlines = outlines_of([None if p is None else (p,) for p in polygons])
            if any(outline is None for outline in outlines or ()):
                bare.add(str(self._labels_of(path)))
            records.append(
                Record(
                    image_id=self._called(path),
                    path=path,
                    width=width,
                    height=height,
                    boxes=boxes[keep],
                    labels=labels[keep],
                    difficult=np.zeros(len(keep), bool),
                    iscrowd=np.zeros(len(keep), bool),
                    segmentations=outlines,
                    true_boxes=true_boxes[keep],
                )
            )
        sieve.report()
        bare.report(
            f"{self._yaml}: {split}: label files of outlines and boxes, and a box has no mask"
        )
        return records
