"""Which of a data set's splits to train and to test on, where the layout leaves it open."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from stages.errors import InputError

Split = TypeVar("Split")

CHOOSE = "choose with --data.train-split and --data.test-split"


def choose_splits(
    where: Path,
    splits: Mapping[str, Split],
    usual: Mapping[str, str],
    train_split: str,
    test_split: str,
) -> tuple[str, str]:
    """Names of the training and the test split.

    "auto" trains on `trainval`, else `train`, and tests on `test`; without it, on `val`, and
    then trains on `train` first, for a `trainval` would hold the images of `val`. Where there is one
    split only, whatever its name, it is both: a part of it is then held out (`stages.data.holdout`).

    Args:
        where: what names the splits, for messages.
        splits: all there are, by name.
        usual: what each of them is by its name: trainval, train, val or test. A split whose name
            does not tell is taken only when it is asked for.
        train_split, test_split: names, or "auto".

    Raises:
        InputError: no such split, several that could be meant, or one for both that was not
            asked for twice.
    """
    if len(splits) == 1 and (train_split, test_split) == ("auto", "auto"):
        (only,) = splits
        return only, only
    found = f"{where}: has {', '.join(splits) or 'no split'}"

    def pick(wanted: str, kinds: tuple[str, ...], purpose: str) -> str:
        if wanted != "auto":
            if wanted not in splits:
                raise InputError(f"{found}; there is no split {wanted!r} to {purpose}")
            return wanted
        for kind in kinds:
            names = [name for name in splits if usual.get(name) == kind]
            if len(names) > 1:
                raise InputError(f"{found}; {' and '.join(names)} could both be it; {CHOOSE}")
            if names:
                return names[0]
        raise InputError(f"{found}; none of them is the usual one to {purpose}; {CHOOSE}")

    test = pick(test_split, ("test", "val"), "test on")
    on_val = usual.get(test) == "val"
    train = pick(
        train_split, ("train", "trainval") if on_val else ("trainval", "train"), "train on"
    )
    if train == test:
        if "auto" in (train_split, test_split):
            raise InputError(f"{found}; {train} would be both the training and the test split")
        warn_of_same_images(where, train)
    return train, test


def warn_of_same_images(where: Path, split: str) -> None:
    """Say on stderr that the user trains and tests on one split."""
    print(
        f"{where}: warning: training and testing on the same images, {split}: "
        "what is measured says nothing about other images",
        file=sys.stderr,
    )


def usual_kind(split: str) -> str | None:
    """trainval, train, val or test where a split is called so, in any case; else None."""
    found = re.fullmatch(r"(trainval|train|val|valid|validation|test)[-_]?\d*", split.lower())
    return found[1].replace("validation", "val").replace("valid", "val") if found else None


def spelt(wanted: str, splits: Iterable[str]) -> str:
    """A split's name as the data set has it, whatever the case that someone asks in; else as asked."""
    names = list(splits)
    if wanted == "auto" or wanted in names:
        return wanted
    found = [split for split in names if split.lower() == wanted.lower()]
    return found[0] if len(found) == 1 else wanted
