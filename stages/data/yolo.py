"""The YOLO layout: a data.yaml, images/ and labels/; and what other tools write in its place.

N objects in an image. A label file has a line for each object, in parts of the image's width
and height: the class and either the box's centre and size, or the corners of its outline.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from stages.data.faults import Faults
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
from stages.data.reader import Content, Reader
from stages.data.records import Record
from stages.data.segmentation import check_length, outlines_of
from stages.data.size import size_of
from stages.data.splits import choose_splits, warn_of_same_images
from stages.data.yolo_files import Label, read_labels, read_list
from stages.data.yolo_plan import is_list_of_names, plan_of
from stages.errors import InputError

KINDS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def _has_images(source: Path) -> bool:
    """Whether it is a folder with an image somewhere below, or a list."""
    if not os.path.isdir(source):
        return os.path.exists(source)
    return any(is_image(name) for folder in folders_below(source) for name in os.listdir(folder))


class YOLOFolder(Reader):
    """A folder in the YOLO layout, as a `Dataset`.

    A split is an entry of `data.yaml`: a folder of images, a .txt list of images, or several,
    all below the data's folder, which `path` may name. Where there is no `data.yaml`, see
    `stages.data.yolo_plan`.
    The labels of `images/x.jpg` are in `labels/x.txt`, or beside it where no folder is called
    `images`; an image without a label file is one without objects. Images are named by their
    path below the data's folder.

    Args:
        root: the folder of `data.yaml`.
        name: what to call it.
        train_split, test_split: entries of `data.yaml`; see `choose_splits` for "auto".
        negatives: of no use here: an image without a label file is one without objects.
        file: another file than `data.yaml` that says the same.

    Raises:
        InputError: naming the file and the line, when one is missing or broken.
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
        plan = plan_of(root, file)
        if plan is None:
            raise InputError(f"{root}: holds no data.yaml, obj.data or label files")
        self._said_by, self._config = plan
        # `path` is where its author kept the data; if nothing is there, it was moved here.
        self._base = root
        if self._config.path is not None and os.path.isdir(root / self._config.path):
            self._base = root / self._config.path
        sources = {split: self._sources(split) for split in self._config.splits}
        # Templates name a test split, whether there is one or not; others leave its folder empty.
        there = {
            split: given
            for split, given in sources.items()
            if all(map(os.path.exists if split.startswith("train") else _has_images, given))
        }
        kinds = {split: kind for split, kind in KINDS.items() if split in there}
        self.one_split = len(there) == 1 and (train_split, test_split) == ("auto", "auto")
        offered = there if self.one_split else sources
        self._train_split, self._test_split = choose_splits(
            self._said_by, offered, kinds, train_split, test_split
        )
        train, test = sources[self._train_split], sources[self._test_split]
        if self._train_split != self._test_split and train == test:  # as in samples of data sets
            warn_of_same_images(self._said_by, f"{self._train_split} and {self._test_split}")

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether the folder is in this layout, complete or not."""
        return plan_of(root) is not None

    @cached_property
    def fingerprint(self) -> str:
        """From the relative path, size and modification time of each file in the splits' folders."""
        print_of = hashlib.sha256(f"{self._train_split} {self._test_split}\n".encode())
        names = sorted(self._config.names.items())
        print_of.update(f"{names}\n".encode())
        if self._said_by.is_file():
            print_of.update(stamp(self._said_by.name, self._said_by.stat()))
        folders: set[Path] = set()
        for split in (self._train_split, self._test_split):
            for source in self._sources(split):
                if source.is_file():
                    print_of.update(stamp(self._called(source), source.stat()))
            for image in self._images(split)[0]:
                folders |= {image.parent, self._labels_of(image).parent}
        for folder in sorted(folders):
            if folder.is_dir():
                for line in stamps(folder, f"{self._called(folder)}/", (*IMAGE_SUFFIXES, ".txt")):
                    print_of.update(line)
        return print_of.hexdigest()[:16]

    def _parse(self, faults: Faults) -> Content:
        both = (self._train_split, self._test_split)
        labels = {split: self._labels(split, faults) for split in dict.fromkeys(both)}
        used = {thing.number for _, things in labels[self._train_split] for thing in things}
        if not used and not faults.lines:
            faults.lines.append(
                f"{self._said_by}: no object in the label files of any image of {self._train_split}"
            )
        numbers = tuple(sorted(used))
        records = {split: self._records(split, labels[split], numbers, faults) for split in labels}
        names = tuple(self._config.names[number] for number in numbers)
        return Content(records[both[0]], records[both[1]], names, numbers)

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

    def _images(self, split: str) -> tuple[list[Path], Faults]:
        """The split's images, each once, and what is wrong with its folders and lists."""
        if split not in self._found:
            faults = Faults(self._said_by)
            images = [
                image for source in self._sources(split) for image in self._in(source, faults)
            ]
            if not images and not faults.lines:
                faults.lines.append(f"{self._said_by}: {split}: holds no image")
            for image in images:
                if not is_writable(self._called(image)):
                    faults.lines.append(f"{image}: its name is not UTF-8, so no file can hold it")
            self._found[split] = (list(dict.fromkeys(images)), faults)
        return self._found[split]

    def _in(self, source: Path, faults: Faults) -> Iterator[Path]:
        """The images in a folder and those below it, or on a list."""
        if not self._holds(source):
            faults.lines.append(
                f"{self._said_by}: {str(source)!r} leads out of {self._base} "
                "(`path:` names another folder)"
            )
        elif os.path.isdir(source):
            for folder in folders_below(source):
                with os.scandir(folder) as entries:
                    names = sorted(entry.name for entry in entries if is_image(entry.name))
                yield from (folder / name for name in names)
        elif source.suffix == ".txt" and os.path.isfile(source):
            for line in read_list(source):
                # CVAT lists images below a folder `data/` that its archive does not have.
                inner = line.removeprefix("data/")
                every = (source.parent / line, self._base / line, self._base / inner)
                places = [place for place in every if self._holds(place)]
                image = next((place for place in places if self._names.has(place)), None)
                if not places:
                    what = f"leads out of {self._base}"
                    faults.lines.append(f"{source}: lists {line!r}, which {what}")
                elif image is None:
                    faults.lines.append(f"{source}: lists {line!r}, which is not there")
                else:
                    yield image
        else:
            faults.lines.append(
                f"{source}: no such folder, nor list of images ({self._said_by} names it)"
            )

    def _labels_of(self, image: Path) -> Path:
        inner = image.relative_to(self._base) if image.is_relative_to(self._base) else image
        parts = list(inner.parent.parts)
        if "images" in parts:
            last = len(parts) - 1 - parts[::-1].index("images")
            parts[last] = "labels"
        return self._base.joinpath(*parts, f"{inner.stem}.txt")

    def _labels(self, split: str, faults: Faults) -> list[tuple[Path, list[Label]]]:
        """Each image of the split with its objects; those with a fault are left out."""
        images, of_images = self._images(split)
        faults.lines += of_images.lines
        files = [self._labels_of(image) for image in images]
        folders = sorted({file.parent for file in files})
        if folders and not any(folder.is_dir() for folder in folders):
            faults.lines.append(
                f"{folders[0]}: no such folder (the labels of {split} would be there)"
            )
        read, bare = [], Named()
        for image, file in zip(images, files, strict=True):
            with faults.caught():
                there = self._names.has(file)
                if not there:
                    bare.add(image.name)
                read.append((image, read_labels(file, self._config.names) if there else []))
        self._say_unmatched(split, len(images), set(files), folders, bare)
        return read

    def _say_unmatched(
        self, split: str, images: int, files: set[Path], folders: list[Path], bare: Named
    ) -> None:
        """Images without a label file, and label files without an image: names that do not fit."""
        where = f"{self._said_by}: {split}"
        others = {self._labels_of(image) for s in self._found for image in self._found[s][0]}
        astray = Named()
        for folder in folders:
            for name in sorted(self._names.of(folder)):
                file = folder / name
                labels = file.suffix == ".txt" and not is_list_of_names(file)
                if labels and file not in files | others and not self._is_a_source(file):
                    astray.add(name)
        if astray:
            print(
                f"{where}: warning: {len(astray)} label files have no image of their name: "
                f"{astray.listed}",
                file=sys.stderr,
            )
        if bare and (astray or 2 * len(bare) >= images):
            print(
                f"{where}: warning: {len(bare)} of {images} images have no label file, so no objects: "
                f"{bare.listed}",
                file=sys.stderr,
            )

    def _is_a_source(self, file: Path) -> bool:
        return any(file in self._sources(split) for split in self._config.splits)

    @cached_property
    def _names(self) -> Names:
        return Names()

    @cached_property
    def _found(self) -> dict[str, tuple[list[Path], Faults]]:
        return {}

    def _called(self, path: Path) -> str:
        """The path below the data's folder; whole if it is not there."""
        return (
            path.relative_to(self._base) if path.is_relative_to(self._base) else path
        ).as_posix()

    def _records(
        self,
        split: str,
        labelled: list[tuple[Path, list[Label]]],
        numbers: tuple[int, ...],
        faults: Faults,
    ) -> list[Record]:
        label_of = {number: i + 1 for i, number in enumerate(numbers)}
        sieve = Sieve(f"{self._said_by}: {split}", self._train_split)
        records, bare = [], Named()
        for path, every in labelled:
            things = every
            try:
                width, height = size_of(path)
            except InputError:  # said when the files are looked at
                width, height, things = 0, 0, []
            parts = np.array([thing.box for thing in things]).reshape(-1, 4)
            true_boxes = parts * [width, height, width, height]
            boxes = cut(true_boxes, width, height)
            labels = np.array([label_of.get(thing.number, 0) for thing in things], np.int64)
            names = [self._config.names[thing.number] for thing in things]
            keep = sieve.keep(names, labels, boxes, self._called(path))
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
                faults.lines.append(f"{self._labels_of(path)}: {error}")
                continue
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
            f"{self._said_by}: {split}: label files of outlines and boxes, and a box has no mask"
        )
        return records
