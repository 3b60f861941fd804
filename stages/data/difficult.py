"""Difficult objects, which some papers train on and others do not (VOC's flag: hard to recognise)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

from stages.data.parts import TrainingSplit
from stages.data.records import Record, TrainingData


class WithoutDifficult:
    """`data`'s training split, in which difficult objects are as crowds: no objects.

    What lies on one is background to a sampling that takes RoIs or anchors which meet no object (the
    RPN's, joint training's; so do the released codes), and nothing to one that does not.
    """

    def __init__(self, data: TrainingData) -> None:
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


def training_split(data: TrainingData, difficult: bool) -> TrainingSplit:
    """What a training sees of `data`: its training split alone, difficult objects in it or not."""
    return TrainingSplit(data if difficult else WithoutDifficult(data))
