"""Which of VOC's and COCO's classes are similar."""

from __future__ import annotations

from itertools import combinations

import pytest

from stages.evaluation.similar import COCO, VOC, similar_classes

TWENTY = sorted({name for group in VOC for name in group})
EIGHTY = sorted({name for group in COCO for name in group})


def test_there_are_twenty_and_eighty() -> None:
    assert len(TWENTY) == 20 and len(EIGHTY) == 80
    # No class of COCO's is in two of its groups.
    assert sum(map(len, COCO)) == 80


@pytest.mark.parametrize(
    ("classes", "one", "other", "similar"),
    [
        (TWENTY, "cat", "person", True),
        (TWENTY, "aeroplane", "bird", True),
        (TWENTY, "bird", "bus", False),
        (TWENTY, "bottle", "tvmonitor", False),
        (TWENTY[::-1], "sofa", "chair", True),
        (EIGHTY, "cat", "person", False),
        (EIGHTY, "airplane", "boat", True),
        (EIGHTY, "airplane", "bird", False),
    ],
)
def test_two_classes(classes: list[str], one: str, other: str, similar: bool) -> None:
    pairs = {
        frozenset(classes[label - 1] for label in pair)
        for group in similar_classes(classes)
        for pair in combinations(group, 2)
    }
    assert (frozenset((one, other)) in pairs) == similar


@pytest.mark.parametrize("classes", [[], ["cat", "dog"], [*TWENTY, "table"], TWENTY[1:]])
def test_of_other_classes_none_are(classes: list[str]) -> None:
    assert similar_classes(classes) == ()
