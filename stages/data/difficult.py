"""A data set whose difficult objects do not train (VOC's flag: hard to recognise)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

from stages.data.records import Dataset, Record


class WithoutDifficult:
    """`data`, in whose training split difficult objects are as crowds: no objects.

    What lies on one is background to a sampling that takes RoIs or anchors which meet no object (the
    RPN's, joint training's; so do the released codes), and nothing to one that does not.

    Args:
        data: its test split stays as it is.
    """

    def __init__(self, data: Dataset) -> None:
        self._data = data
        self.name, self.classes = data.name, data.classes
        self.category_ids = data.category_ids
        self.fingerprint = f"{data.fingerprint}, without difficult objects"

    @cached_property
    def train(self) -> Sequence[Record]:
        return [
            dataclasses.replace(record, iscrowd=record.iscrowd | record.difficult)
            for record in self._data.train
        ]

    @property
    def test(self) -> Sequence[Record]:
        return self._data.test
