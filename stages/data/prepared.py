"""A data set as it is trained and tested on: its files looked at, its oddities settled and said.

All of it happens at the first question for an image or a class, before anything is trained.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stages.data.faults import Faults
from stages.data.holdout import hold_out
from stages.data.layouts import AsWritten, Negatives
from stages.data.look import Look
from stages.data.looks import look_at_all
from stages.data.objects import Named
from stages.data.records import Record
from stages.data.turning import SIDEWAYS, turned_record
from stages.data.twins import groups_of
from stages.seals import digest
from stages.store import Store

VERSION = 1  # raise it when the same files and options give other records
MANY = 0.5  # of a split's images without an object: worth a warning


@dataclass(frozen=True)
class Preparation:
    """What of `DataConfig` shapes the records; see there."""

    negatives: Negatives
    unreadable: str
    holdout: float
    holdout_seed: int
    most_pixels: int | None = None


class Prepared:
    """`data`, ready to be trained and tested on.

    - An image file that is unreadable is left out of training, and refused in the test split.
    - An annotation's size must be the image's; whether objects were marked on the images as they are
      stored or as they are shown (EXIF) is decided once for all, by the sizes.
    - Images without objects are left out of training, or teach what is background (`negatives`).
    - Of the only split a part is held out.
    - What was read is said on stderr, with what it has that nobody expects.

    Args:
        data: its annotations' faults are refused together with its files'.
    """

    def __init__(self, data: AsWritten, options: Preparation, store: Store) -> None:
        self._data, self._options, self._store = data, options, store
        self.name = data.name
        self.fingerprint = digest([VERSION, data.fingerprint, dataclasses.astuple(options)])

    @property
    def classes(self) -> tuple[str, ...]:
        _ = self._splits  # faults are said together, those of classes among them
        return self._data.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        return self._data.category_ids

    @property
    def train(self) -> Sequence[Record]:
        return self._splits[0]

    @property
    def test(self) -> Sequence[Record]:
        return self._splits[1]

    @cached_property
    def _splits(self) -> tuple[list[Record], list[Record]]:
        faults, options = Faults(self.name), self._options
        train, test = self._data.read(faults)
        looks = look_at_all([*train, *test], options.most_pixels, self._store)
        kept = {
            "training": _readable(train, looks, "training", True, faults),
            "test": _readable(test, looks, "test", options.unreadable == "leave-out", faults),
        }
        stored = _marked_as_stored([*kept["training"], *kept["test"]], looks, self.name, faults)
        train, test = (
            [_settled(r, looks, stored, options.most_pixels, faults) for r in part]
            for part in kept.values()
        )
        faults.refuse()
        both = [] if self._data.one_split else [*train, *test]
        groups = groups_of([looks[record.path] for record in both or train])
        said = [*_oddities([*train, *test], looks)]
        if self._data.one_split:
            train, test = hold_out(train, groups, options.holdout, options.holdout_seed)
            said.append(
                f"there is one split: {len(test)} of its {len(train) + len(test)} images are held out to "
                "test on (--data.holdout, or name two splits: --data.train-split, --data.test-split)"
            )
        else:
            said += _twins_apart(both, len(train), groups)
        empty = [record for record in train if len(record.boxes) == 0]
        if empty:
            said.append(_said_of_negatives(len(empty), len(train), options.negatives))
        if options.negatives != "use":
            train = [record for record in train if len(record.boxes)]
        for split, records in (("training", train), ("test", test)):
            print(_counts(self.name, split, records, self._data.classes), file=sys.stderr)
        for line in said:
            print(f"{self.name}: {line}", file=sys.stderr)
        return train, test


def _readable(
    records: Sequence[Record],
    looks: Mapping[Path, Look],
    split: str,
    leave_out: bool,
    faults: Faults,
) -> list[Record]:
    """The records whose image files, and masks', can be read; the others are said, or are faults."""
    kept, out = [], Named(most=10)
    for record in records:
        paths = [record.path] if record.mask_path is None else [record.path, record.mask_path]
        wrong = [f"{path}: {looks[path].fault}" for path in paths if looks[path].fault]
        if not wrong:
            kept.append(record)
        elif leave_out:
            out.add(wrong[0])
        else:
            faults.lines += [
                f"{line} (--data.unreadable leave-out tests without it)" for line in wrong
            ]
    out.report(f"left out of {split}, not readable")
    if records and not kept and not faults.lines:
        faults.lines.append(f"{records[0].path}: not readable, nor is any other image of {split}")
    return kept


def _marked_as_stored(
    records: Sequence[Record], looks: Mapping[Path, Look], name: str, faults: Faults
) -> bool:
    """Whether objects were marked on the images as they are stored, before EXIF turns them.

    Only images that are turned sideways can tell, and only by an annotation's size.
    """
    shown, stored = [], []
    for record in records:
        look = looks[record.path]
        sides = (look.width, look.height)
        if look.orientation in SIDEWAYS and sides[0] != sides[1]:
            if (record.width, record.height) == sides:
                stored.append(record)
            elif (record.height, record.width) == sides:
                shown.append(record)
    if stored and shown:
        a, b = stored[0], shown[0]
        faults.lines.append(
            f"{a.path}: its annotation has the size of the image as it is stored, {a.width}x{a.height}, "
            f"that of {b.path} the size as it is shown, {b.width}x{b.height}: mark all in one way"
        )
    if stored:
        print(
            f"{name}: objects were marked on images as they are stored: {len(stored)} that EXIF turns, "
            f"{stored[0].path.name} first; their boxes are turned with them",
            file=sys.stderr,
        )
    return bool(stored)


def _settled(
    record: Record,
    looks: Mapping[Path, Look],
    stored: bool,
    most_pixels: int | None,
    faults: Faults,
) -> Record:
    """The record of the upright image, which has the size that the annotation says, or is at fault."""
    look = looks[record.path]
    content = look.digest
    if record.mask_path is not None:
        content += looks[record.mask_path].digest
    record = dataclasses.replace(record, content=content, most_pixels=most_pixels)
    if stored:
        record = turned_record(record, look.orientation)
    upright = look.upright
    if (record.width, record.height) != upright:
        faults.lines.append(
            f"{record.path}: {upright[0]}x{upright[1]} pixels, but its annotation says "
            f"{record.width}x{record.height}"
        )
    if record.mask_path is not None:
        mask = looks[record.mask_path]
        sides = (mask.width, mask.height)
        expected = upright[::-1] if record.mask_orientation in SIDEWAYS else upright
        if sides != expected:
            faults.lines.append(
                f"{record.mask_path}: {sides[0]}x{sides[1]} pixels, but {record.path.name} has "
                f"{expected[0]}x{expected[1]}"
            )
    return record


def _oddities(records: Sequence[Record], looks: Mapping[Path, Look]) -> list[str]:
    """What is odd about files that are read all the same."""
    said = []
    short = dict.fromkeys(r.path for r in records if looks[r.path].cut_short)
    if short:
        names = _first([path.name for path in short])
        said.append(f"{len(short)} JPEGs lack their end and are read as far as they go: {names}")
    ranges = {r.path: looks[r.path].stretched for r in records}
    deep = [f"{p.name} {own[0]:g} to {own[1]:g}" for p, own in ranges.items() if own is not None]
    if deep:
        said.append(
            f"{len(deep)} images have more than 8 bits a value and are shown from black to white by the "
            f"range of each: {_first(deep)}"
        )
    return said


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", .." if len(names) > 3 else "")


def _twins_apart(
    records: Sequence[Record], n_train: int, groups: Sequence[Sequence[int]]
) -> list[str]:
    """Images that are in training and, the same or nearly, in the test split too."""
    pairs = []
    for group in groups:
        learnt = [place for place in group if place < n_train]
        pairs += [(learnt[0], place) for place in group if place >= n_train and learnt]
    # One split asked for twice has been warned of.
    pairs = [(a, b) for a, b in pairs if records[a].path != records[b].path]
    if not pairs:
        return []
    shown = ", ".join(f"{records[a].path.name} = {records[b].path.name}" for a, b in pairs[:3])
    return [
        f"warning: {len(pairs)} test images are, the same or nearly, in training too: "
        f"{shown}{', ..' if len(pairs) > 3 else ''}; what is measured on them says little"
    ]


def _said_of_negatives(empty: int, images: int, negatives: Negatives) -> str:
    much = "warning: " if empty > MANY * images else ""
    if negatives == "use":
        what = "teach what is background (--data.negatives skip leaves them out)"
    else:
        what = "are left out (--data.negatives use has them teach what is background)"
    return f"{much}{empty} of {images} training images have no object and {what}"


def _counts(name: str, split: str, records: Sequence[Record], classes: Sequence[str]) -> str:
    """One line: images and objects, and how many of each class."""
    counts = Counter(label for record in records for label in record.labels.tolist())
    each = [f"{classes[label - 1]} {count}" for label, count in counts.most_common()]
    listed = ", ".join(each[:10]) + (
        f" and {len(each) - 10} more classes" if len(each) > 10 else ""
    )
    return f"{name}: {split}: {len(records)} images, {sum(counts.values())} objects: {listed}"
