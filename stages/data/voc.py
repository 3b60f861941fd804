"""The PASCAL VOC layout: JPEGImages/ Annotations/ ImageSets/Main/ and, for masks, SegmentationObject/."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from functools import cached_property
from pathlib import Path, PurePosixPath

from stages.data.by_name import ByName, Marked, Unannotated
from stages.data.faults import Faults
from stages.data.files import Names, folders_below, stamps
from stages.data.reader import Content
from stages.data.splits import choose_splits, spelt, usual_kind
from stages.data.voc_lists import find_lists, is_of_a_class, lists_nothing, read_split
from stages.data.voc_xml import read_marked
from stages.errors import InputError


class VOCFolder(ByName):
    """A folder in the VOC layout, as a `Dataset`.

    A split is a list in `ImageSets/Main`, `trainval` for `trainval.txt` in any case. Lists of a class
    (`cat_train` beside `train`) and lists of nothing are splits only if someone asks for them.

    Args:
        root: the folder.
        name: what to call it.
        train_split, test_split: names of lists; see `choose_splits` for "auto".
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
        folder = root / "ImageSets" / "Main"
        self._lists = find_lists(folder)
        if not self._lists:
            raise InputError(f"{folder}: holds no list of images, such as train.txt and test.txt")
        asked = (spelt(train_split, self._lists), spelt(test_split, self._lists))
        own = [split for split in self._lists if not is_of_a_class(split, self._lists)]
        empty = [split for split in own if lists_nothing(self._lists[split])]
        splits = {
            split: path
            for split, path in self._lists.items()
            if split in asked or (split in own and split not in empty)
        }
        if not splits and empty:
            raise InputError(f"{self._lists[empty[0]]}: lists no image")
        usual = {split: kind for split in splits if (kind := usual_kind(split))}
        self._train_split, self._test_split = choose_splits(folder, splits, usual, *asked)
        self._one_split = asked == ("auto", "auto") and self._train_split == self._test_split
        for split in empty:
            if split not in asked:
                print(
                    f"{self._lists[split]}: lists no image; training is on {self._train_split}, "
                    f"testing on {self._test_split}",
                    file=sys.stderr,
                )
        self._negatives = negatives
        self._given_fingerprint = fingerprint

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether the folder is in this layout."""
        folder = root / "ImageSets" / "Main"
        parts = (root / "JPEGImages", root / "Annotations", folder)
        return all(part.is_dir() for part in parts) and bool(find_lists(folder))

    @property
    def one_split(self) -> bool:
        return self._one_split

    @cached_property
    def fingerprint(self) -> str:
        """From each file's relative path, size and modification time: seconds, not minutes."""
        chosen = f"{self._train_split} {self._test_split}"
        if self._negatives != "auto":
            chosen += f" {self._negatives}"
        print_of = hashlib.sha256(chosen.encode(errors="surrogateescape"))
        if self._given_fingerprint is not None:
            print_of.update(self._given_fingerprint.encode())
            return print_of.hexdigest()[:16]
        for part in ("Annotations", "ImageSets/Main", "JPEGImages", "SegmentationObject"):
            for folder in folders_below(self.root / part):
                for line in stamps(folder, f"{folder.relative_to(self.root).as_posix()}/"):
                    print_of.update(line)
        return print_of.hexdigest()[:16]

    def _parse(self, faults: Faults) -> Content:
        content = super()._parse(faults)
        given = self._given_fingerprint
        if given is None:
            return content
        # Nobody looks at images that the store made: it knows what they are of.
        train, test = (
            [dataclasses.replace(record, content=given) for record in records]
            for records in (content.train, content.test)
        )
        return dataclasses.replace(content, train=train, test=test)

    def _where(self, split: str) -> Path:
        return self._lists[split]

    def _marked(self, split: str, faults: Faults) -> list[Marked]:
        path = self._lists[split]
        unannotated = Unannotated(path, self._negatives)
        marked = []
        for stem in read_split(path, self._has, faults):
            with faults.caught():
                image = self._names.image_of(self.root / "JPEGImages", stem)
                if image is None:
                    raise InputError(
                        f"{path}: lists {stem!r}, but {self.root / 'JPEGImages' / stem}.jpg is missing"
                    )
                annotation = self._names.file_of(self.root / "Annotations", stem, ".xml")
                if annotation is not None:
                    # VOC numbers the objects of the mask in the XML's order, from 1.
                    masks = self._names.file_of(self.root / "SegmentationObject", stem, ".png")
                    marked.append(read_marked(annotation, stem, image, masks))
                elif unannotated.takes(stem, self.root / "Annotations" / f"{stem}.xml"):
                    marked.append(Marked.bare(stem, image))
        unannotated.report(faults)
        return marked

    def _has(self, stem: str) -> bool:
        """Whether there is an image, or an annotation, of that name."""
        if str(PurePosixPath(stem)) != stem:
            return False
        return (
            self._names.image_of(self.root / "JPEGImages", stem) is not None
            or self._names.file_of(self.root / "Annotations", stem, ".xml") is not None
        )

    @cached_property
    def _names(self) -> Names:
        return Names()
