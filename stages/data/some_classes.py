"""A data set of some of its classes: the objects of the others are not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from stages.data.records import Dataset, Record


class SomeClasses:
    """`data` with `classes` alone, in the data's order; every image stays.

    Args:
        classes: one or more of the data's.
    """

    def __init__(self, data: Dataset, classes: Sequence[str]) -> None:
        self._data = data
        labels = [label for label, name in enumerate(data.classes, start=1) if name in classes]
        self.name = data.name
        self.classes = tuple(data.classes[label - 1] for label in labels)
        self.category_ids = tuple(data.category_ids[label - 1] for label in labels)
        self.fingerprint = f"{data.fingerprint}, of its classes {', '.join(self.classes)}"
        self._label_of = np.zeros(len(data.classes) + 1, np.int64)  # 0: not there
        self._label_of[labels] = np.arange(1, len(labels) + 1)

    @cached_property
    def train(self) -> Sequence[Record]:
        return [self._part(record) for record in self._data.train]

    @cached_property
    def test(self) -> Sequence[Record]:
        return [self._part(record) for record in self._data.test]

    def _part(self, record: Record) -> Record:
        labels = self._label_of[record.labels]
        keep = np.flatnonzero(labels)
        return dataclasses.replace(record.only(keep), labels=labels[keep])
