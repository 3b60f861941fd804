"""What the layouts have in common whose annotations name each object's class and keep no list of classes.

N objects in an image.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.data.faults import Faults
from stages.data.objects import Named, Sieve, cut
from stages.data.reader import Content, Reader
from stages.data.records import Record, Segmentation
from stages.data.segmentation import outlines_of
from stages.data.size import size_of
from stages.errors import InputError


@dataclass(frozen=True, eq=False)
class Marked:
    """An image, and the objects that someone marked on it.

    Attributes:
        image_id, path, width, height: see `Record`.
        names: of the N objects' classes.
        boxes: float64 [N, 4] xyxy, not cut to the image.
        difficult: bool [N].
        outlines: N of them, None for an object without one.
        mask_path: a PNG in which object i, counted from 1, has the value i; or None.
    """

    image_id: str
    path: Path
    width: int
    height: int
    names: list[str]
    boxes: np.ndarray
    difficult: np.ndarray
    outlines: tuple[Segmentation | None, ...]
    mask_path: Path | None = None

    @classmethod
    def bare(cls, image_id: str, path: Path, size: tuple[int, int] | None = None) -> Marked:
        """One without objects; where nobody gave its size it is the image's own."""
        width, height = size or own_size(path)
        return cls(image_id, path, width, height, [], np.empty((0, 4)), np.empty(0, bool), ())


def own_size(path: Path) -> tuple[int, int]:
    """Width and height of an upright image, of any number of pixels; 0×0 if it is unreadable."""
    try:
        return size_of(path)
    except InputError:
        return 0, 0


class ByName(Reader):
    """A data set whose classes are the names of the training objects, sorted, numbered from 1.

    For VOC's twenty that is the devkit's order.
    """

    _train_split: str
    _test_split: str

    @abstractmethod
    def _marked(self, split: str, faults: Faults) -> list[Marked]:
        """A split's images that are sound; what is wrong with the others goes to `faults`.

        Raises:
            InputError: nothing of the split can be read.
        """

    @abstractmethod
    def _where(self, split: str) -> Path:
        """The list or the folder of a split, for messages."""

    def _parse(self, faults: Faults) -> Content:
        train, test = self._train_split, self._test_split
        marked: dict[str, list[Marked]] = {train: [], test: []}
        for split in marked:
            with faults.caught():
                marked[split] = self._marked(split, faults)
        classes = tuple(sorted({name for image in marked[train] for name in image.names}))
        if not classes and not faults.lines:
            faults.lines.append(
                f"{self._where(train)}: no object in any of its images' annotations"
            )
        records = {split: self._records(split, images, classes) for split, images in marked.items()}
        return Content(records[train], records[test], classes, tuple(range(1, len(classes) + 1)))

    def _records(
        self, split: str, images: Sequence[Marked], classes: Sequence[str]
    ) -> list[Record]:
        label_of = {name: label for label, name in enumerate(classes, start=1)}
        sieve = Sieve(self._where(split), self._where(self._train_split).name)
        records, bare = [], Named()
        for image in images:
            boxes = cut(image.boxes, image.width, image.height)
            labels = np.array([label_of.get(name, 0) for name in image.names], np.int64)
            keep = sieve.keep(image.names, labels, boxes, image.image_id)
            outlines = outlines_of([image.outlines[i] for i in keep]) if len(keep) else None
            for i, outline in zip(keep, outlines or (), strict=False):
                if outline is None:
                    bare.add(f"{image.names[i]!r} of {image.image_id}")
            records.append(
                Record(
                    image_id=image.image_id,
                    path=image.path,
                    width=image.width,
                    height=image.height,
                    boxes=boxes[keep],
                    labels=labels[keep],
                    difficult=image.difficult[keep],
                    iscrowd=np.zeros(len(keep), bool),
                    mask_path=image.mask_path,
                    mask_ids=None if image.mask_path is None else keep + 1,
                    segmentations=outlines,
                    true_boxes=image.boxes[keep],
                )
            )
        sieve.report()
        bare.report(f"{self._where(split)}: objects without a mask beside others that have one")
        return records


class Unannotated:
    """The images of a split that have no annotation, which tools leave out where there is no object.

    Args:
        where: the split's list or folder.
        negatives: "auto": they are refused, as they may have been forgotten; "use": they have no
            objects; "skip": they are left out.
    """

    def __init__(self, where: Path, negatives: str) -> None:
        self._where, self._negatives = where, negatives
        self._images, self._expected = Named(), Named(most=1)

    def takes(self, image: str, expected: Path) -> bool:
        """Whether the image counts as one without objects.

        Args:
            image: its name.
            expected: where its annotation would be.

        Raises:
            InputError: there is a link to an annotation that was not fetched.
        """
        if os.path.lexists(expected):
            raise InputError(f"{expected}: missing")
        self._images.add(image)
        self._expected.add(str(expected))
        return self._negatives == "use"

    def report(self, faults: Faults) -> None:
        """Say what became of them, in one line; where they are refused, as a fault."""
        if self._negatives == "use":
            self._images.report(f"{self._where}: images without an annotation, so without objects")
        elif self._negatives == "skip":
            self._images.report(f"{self._where}: left out images without an annotation")
        elif len(self._images) == 1:
            faults.lines.append(
                f"{self._expected.listed}: missing; if its image shows no object, --data.negatives use "
                "says so (skip leaves the image out)"
            )
        elif self._images:
            faults.lines.append(
                f"{self._where}: images without an annotation: {len(self._images)}: "
                f"{self._images.listed}; if they show no object, --data.negatives use says so "
                "(skip leaves them out)"
            )
