"""Images with a file of annotations each, beside them or in a folder of their own, and no lists.

Roboflow's VOC is one (`train/ valid/ test/`, an XML beside each image), so is the folder that labelImg or
LabelMe was pointed at, and `images/` with `annotations/`.
"""

from __future__ import annotations

import hashlib
import sys
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from stages.data.by_name import ByName, Marked, Unannotated
from stages.data.faults import Faults
from stages.data.files import (
    IMAGE_SUFFIXES,
    Names,
    folders_in,
    is_writable,
    stamps,
)
from stages.data.objects import Named
from stages.data.splits import choose_splits, spelt, usual_kind
from stages.errors import InputError

# What people and tools call the folder of the images, and of what was marked on them, in lower case.
IMAGES = ("images", "image", "imgs", "img", "jpegimages", "data")
ANNOTATIONS = (
    "annotations",
    "annotation",
    "labels",
    "label",
    "xmls",
    "xml",
    "jsons",
    "json",
    "ann",
)

ALL = "all"  # the split of images that are in the data's own folder


@dataclass(frozen=True)
class Pair:
    """Where a split's images are, and the annotations of them."""

    images: Path
    annotations: Path


class Beside(ByName):
    """A folder of images and their annotations, as a `Dataset`.

    A split is a folder of a usual name (`train`, `valid`, ..): in the data's folder, or in that of the
    images. Its images lie beside their annotations, or in a folder `images` or the like beside
    `annotations` or the like. Images outside of these are the split `all`. An annotation belongs to the
    image of its name; failing that, to the one that it names. Images are named by their path below the
    data's folder.

    Args:
        root: the folder.
        name: what to call it.
        train_split, test_split: names of folders, or `all`; see `choose_splits` for "auto".
        negatives: see `stages.data.layouts.Negatives`.

    Raises:
        InputError: naming the file, when one is missing or broken.
    """

    suffix: ClassVar[str]  # of the annotations

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
        self._negatives = negatives
        self._names = Names()
        self._pairs = find_pairs(root, self.suffix, self._names)
        if not self._pairs:
            raise InputError(f"{root}: holds no image with a {self.suffix} of its name")
        for folder in folders_in(root):
            if usual_kind(folder.name) and folder.name not in self._pairs:
                images = len(self._names.images_in(folder))
                if images:
                    print(
                        f"{folder}: {images} images without any {self.suffix}, so no split",
                        file=sys.stderr,
                    )
        usual = {split: kind for split in self._pairs if (kind := usual_kind(split))}
        asked = (spelt(train_split, self._pairs), spelt(test_split, self._pairs))
        self._train_split, self._test_split = choose_splits(root, self._pairs, usual, *asked)
        self._one_split = asked == ("auto", "auto") and self._train_split == self._test_split

    @property
    def one_split(self) -> bool:
        return self._one_split

    @cached_property
    def fingerprint(self) -> str:
        """From the relative path, size and modification time of each file in both splits' folders."""
        chosen = f"{self._train_split} {self._test_split} {self._negatives}\n"
        print_of = hashlib.sha256(chosen.encode(errors="surrogateescape"))
        pairs = [self._pairs[split] for split in (self._train_split, self._test_split)]
        for folder in sorted({f for pair in pairs for f in (pair.images, pair.annotations)}):
            prefix = f"{folder.relative_to(self.root).as_posix()}/"
            for line in stamps(folder, prefix, (*IMAGE_SUFFIXES, self.suffix)):
                print_of.update(line)
        return print_of.hexdigest()[:16]

    @abstractmethod
    def _named_by(self, annotation: Path) -> str:
        """The file name of the image, without folders, that the annotation names; empty if it names none.

        Raises:
            InputError: it is unreadable.
        """

    @abstractmethod
    def _of(self, image_id: str, image: Path, annotation: Path) -> Marked:
        """The image and its objects.

        Raises:
            InputError: the annotation is at fault.
        """

    def _where(self, split: str) -> Path:
        return self._pairs[split].images

    def _marked(self, split: str, faults: Faults) -> list[Marked]:
        pair = self._pairs[split]
        annotation_of, unused = self._annotations(pair)
        unannotated = Unannotated(pair.images, self._negatives)
        marked, copies = [], Named()
        for stem, several in sorted(self._names.images_in(pair.images).items()):
            used = [image for image in several if image in annotation_of] or several[:1]
            for image in several:
                if image not in used:
                    copies.add(image.name)
            for image in used:
                with faults.caught():
                    image_id = image.relative_to(self.root).as_posix()
                    if not is_writable(image_id):
                        raise InputError(f"{image}: its name is not UTF-8, so no file can hold it")
                    if image in annotation_of:
                        marked.append(self._of(image_id, image, annotation_of[image]))
                    elif unannotated.takes(image_id, pair.annotations / f"{stem}{self.suffix}"):
                        marked.append(Marked.bare(image_id, image))
        unannotated.report(faults)
        copies.report(f"{pair.images}: left out images that share their name with another")
        unused.report(f"{pair.annotations}: warning: annotations without an image in {pair.images}")
        return marked

    def _annotations(self, pair: Pair) -> tuple[dict[Path, Path], Named]:
        """The annotation of each image that has one, and the annotations of none."""
        images = self._names.images_in(pair.images)
        files = self._names.files_in(pair.annotations, self.suffix)
        annotation_of: dict[Path, Path] = {}
        for stem, file in files.items():
            if stem in images:
                several = images[stem]
                named = self._name_in(file) if len(several) > 1 else ""
                annotation_of[next((i for i in several if i.name == named), several[0])] = file
        unused, elsewhere = Named(), self._stems_elsewhere(pair)
        by_name = {image.name: image for several in images.values() for image in several}
        for stem, file in files.items():
            if stem not in images and stem not in elsewhere:
                image = by_name.get(self._name_in(file))
                if image is None or image in annotation_of:
                    unused.add(file.name)
                else:
                    annotation_of[image] = file
        return annotation_of, unused

    def _name_in(self, annotation: Path) -> str:
        """The file name of the image that it names; empty where it is unreadable."""
        try:
            return self._named_by(annotation)
        except InputError:  # said when it is read for its objects, if it is
            return ""

    def _stems_elsewhere(self, pair: Pair) -> set[str]:
        """Names of the images of other splits whose annotations are in the same folder."""
        others = [
            p for p in self._pairs.values() if p.annotations == pair.annotations and p != pair
        ]
        return {stem for other in others for stem in self._names.images_in(other.images)}


def find_pairs(root: Path, suffix: str, names: Names) -> dict[str, Pair]:
    """The splits in a folder by their names.

    Args:
        suffix: of the annotations.
    """
    images, annotations = _called(root, IMAGES), _called(root, ANNOTATIONS)
    splits = {
        f.name for holder in (root, *images) for f in folders_in(holder) if usual_kind(f.name)
    }
    found = {}
    for split in sorted(splits):
        own = root / split
        found[split] = _best(
            [own, *_called(own, IMAGES), *(folder / split for folder in images)],
            [*_called(own, ANNOTATIONS), *(folder / split for folder in annotations), *annotations],
            suffix,
            names,
        )
    found[ALL] = _best([root, *images], annotations, suffix, names)
    return {split: pair for split, pair in found.items() if pair is not None}


def _called(folder: Path, usual: Iterable[str]) -> list[Path]:
    return [inner for inner in folders_in(folder) if inner.name.lower() in usual]


def _best(
    images: Iterable[Path], annotations: Iterable[Path], suffix: str, names: Names
) -> Pair | None:
    """The folder of images, and of annotations beside them or in one of the others, that fit most often."""
    best, most = None, 0
    for folder in images:
        for other in (folder, *annotations):
            stems = names.files_in(other, suffix)
            fit = len(stems.keys() & names.images_in(folder).keys()) if stems else 0
            if fit > most:
                best, most = Pair(folder, other), fit
    return best
