"""What every layout does with the objects it reads: boxes cut, misfits dropped and counted, oddities named.

N objects in an image.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def cut(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes [N, 4] xyxy as float32, no side outside the image.

    Released sets hold boxes a pixel or two past the edge: cut them, as the object is.
    """
    return boxes.clip(0, [width, height, width, height]).astype(np.float32)


class Sieve:
    """Drops the objects of one split that nothing can learn or find, and says how many they were.

    Args:
        split: the file or folder that lists the split, for the message.
        train: what the classes were found in, for the message.
    """

    def __init__(self, split: Path | str, train: str) -> None:
        self.split = split
        self.train = train
        self._without_area = 0
        self._unknown: Counter[str] = Counter()
        self._twice = Named()

    def keep(
        self,
        names: Sequence[str],
        labels: np.ndarray,
        boxes: np.ndarray,
        image: str,
        iscrowd: np.ndarray | None = None,
    ) -> np.ndarray:
        """Places, int64 [n], of the N objects that stay.

        They are of a known class, have a box with area, and are there for the first time: an object
        that its tool wrote twice would be found once at most. Crowds may share a box.

        Args:
            names: of the N objects' classes.
            labels: int64 [N], 0 for a class that the training split does not have.
            boxes: float [N, 4] xyxy, as exact as the file has them.
            image: its name, for the message.
            iscrowd: bool [N]; None: no object is one.
        """
        known = labels > 0
        has_area = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
        self._without_area += int((known & ~has_area).sum())
        self._unknown.update(names[i] for i in np.flatnonzero(~known).tolist())
        seen: set[tuple[float, ...]] = set()
        keep = []
        for i in np.flatnonzero(known & has_area).tolist():
            crowd = iscrowd is not None and bool(iscrowd[i])
            key = (int(labels[i]), *boxes[i].tolist())
            if key in seen and not crowd:
                self._twice.add(f"{names[i]!r} of {image}")
                continue
            if not crowd:
                seen.add(key)
            keep.append(i)
        return np.array(keep, np.int64)

    def report(self) -> None:
        """Say on stderr what was dropped, a line for each reason."""
        if self._without_area:
            print(f"{self.split}: dropped {self._without_area} boxes without area", file=sys.stderr)
        self._twice.report(
            f"{self.split}: dropped objects that are there twice, the second of each"
        )
        for name, count in self._unknown.items():
            print(
                f"{self.split}: dropped {count} objects of class {name!r}, not in {self.train}",
                file=sys.stderr,
            )


class Named:
    """Counts what is odd about a split's objects or images and is kept, and names the first few."""

    def __init__(self, most: int = 3) -> None:
        self._most = most
        self._first: list[str] = []
        self._count = 0

    def add(self, name: str) -> None:
        self._count += 1
        if len(self._first) < self._most:
            self._first.append(name)

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    @property
    def listed(self) -> str:
        """The first few, and whether there are more."""
        return ", ".join(self._first) + (", .." if self._count > len(self._first) else "")

    def report(self, what: str) -> None:
        """Say it on stderr, in one line, if there is any."""
        if self._count:
            print(f"{what}: {self._count}: {self.listed}", file=sys.stderr)
