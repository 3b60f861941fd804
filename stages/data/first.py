"""The first images of a data set: to try something out, or to learn them by heart."""

from __future__ import annotations

from collections.abc import Sequence

from stages.data.records import Dataset, Record


class First:
    """`data`, of each of whose splits only the first images are there; its classes stay.

    Args:
        images: how many, at most.
    """

    def __init__(self, data: Dataset, images: int) -> None:
        self._data, self._images = data, images
        self.name = data.name
        self.fingerprint = f"{data.fingerprint}, first {images}"

    @property
    def classes(self) -> tuple[str, ...]:
        return self._data.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        return self._data.category_ids

    @property
    def train(self) -> Sequence[Record]:
        return self._data.train[: self._images]

    @property
    def test(self) -> Sequence[Record]:
        return self._data.test[: self._images]
