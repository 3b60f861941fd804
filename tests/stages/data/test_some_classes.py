"""A data set of some of its classes, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.data.records import Record
from stages.data.some_classes import SomeClasses


class Three:
    name, fingerprint = "three", "abc"
    classes, category_ids = ("cat", "gargoyle", "dog"), (5, 7, 9)

    def __init__(self, *records: Record) -> None:
        self.train = self.test = records


def record(labels: list[int], **more: object) -> Record:
    n = len(labels)
    return Record(
        image_id="a",
        path=Path("a.png"),
        width=9,
        height=9,
        boxes=np.arange(4 * n, dtype=np.float32).reshape(n, 4),
        labels=np.array(labels, np.int64),
        difficult=np.arange(n) == 0,
        iscrowd=np.arange(n) == 1,
        **more,  # type: ignore[arg-type]
    )


def test_the_others_objects_are_not_there() -> None:
    outlines = tuple(bytes([i]) for i in range(4))
    data = Three(
        record([3, 2, 1, 3], segmentations=outlines),
        record([2, 3], mask_path=Path("m.png"), mask_ids=np.array([4, 8])),
        record([2]),
    )
    some = SomeClasses(data, ("dog", "cat"))
    assert (some.classes, some.category_ids) == (("cat", "dog"), (5, 9))
    one, two, none = some.test
    assert one.labels.tolist() == [2, 1, 2]
    assert one.boxes[:, 0].tolist() == [0, 8, 12]
    assert one.difficult.tolist() == [True, False, False]
    assert not one.iscrowd.any()
    assert one.segmentations == (outlines[0], outlines[2], outlines[3])
    assert two.labels.tolist() == [2]
    assert two.mask_ids is not None
    assert two.mask_ids.tolist() == [8]
    assert (len(none.labels), none.boxes.shape, none.has_masks) == (0, (0, 4), False)
    assert [len(r.labels) for r in some.train] == [3, 1, 0]


def test_it_is_other_data_for_the_store() -> None:
    data = Three(record([1]))
    prints = {SomeClasses(data, names).fingerprint for names in (("cat",), ("dog",))}
    assert len(prints | {data.fingerprint}) == 3
