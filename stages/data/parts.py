"""What a stage reads of a data set, no more: its name then changes with that alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from stages.data.records import Record, TrainingData


class TrainingSplit:
    """`data` without its test split.

    Its fingerprint is of what a training reads: the classes, and each training image with its
    objects. So a label that is corrected in the test split trains nothing again, and a blank that is
    added to an annotation neither.

    Args:
        data: its records' `content` tells their files apart; else their names must.
    """

    def __init__(self, data: TrainingData) -> None:
        self._data = data
        self.name, self.classes = data.name, data.classes
        self.category_ids = data.category_ids

    @property
    def train(self) -> Sequence[Record]:
        return self._data.train

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.train, self.classes)


def fingerprint_of(records: Sequence[Record], classes: Sequence[str] = ()) -> str:
    """Sixteen hexadecimal digits that stand for images, their objects and the classes' names."""
    together = hashlib.sha256(json.dumps(list(classes)).encode())
    for record in records:
        together.update(_image(record))
        for array in (record.boxes, record.labels, record.difficult, record.iscrowd):
            together.update(np.ascontiguousarray(array).tobytes())
        together.update(b"-" if record.mask_ids is None else record.mask_ids.tobytes())
        for outline in record.segmentations or ():
            parts = (outline,) if isinstance(outline, bytes | None) else outline
            together.update(
                b"".join(b"-" if part is None else bytes(part) for part in parts) + b";"
            )
    return together.hexdigest()[:16]


class Images:
    """Images without their objects, for what looks at pixels alone."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    @cached_property
    def fingerprint(self) -> str:
        together = hashlib.sha256()
        for record in self.records:
            together.update(_image(record))
        return together.hexdigest()[:16]


def _image(record: Record) -> bytes:
    of_record = [record.image_id, record.path.name, record.content, record.width, record.height]
    return json.dumps(of_record).encode()
