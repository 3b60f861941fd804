"""The published numbers agree with each other and with the papers' tables elsewhere in the project."""

from __future__ import annotations

import pytest

from benchmarks.papers import TABLE_4
from benchmarks.published import published, the_one
from stages.published.figures import results


def test_every_number_has_its_source() -> None:
    table = published()
    assert (table.source != "").all() and table.value.between(10, 100).all()
    assert not table.duplicated(["paper", "system", "backbone", "train", "metric"]).any()
    assert len(table) == 32
    timed = table.seconds.notna()
    assert (table.seconds[timed] > 0).all()
    assert set(table.proposals_timed[timed]) == {"yes", "no"}
    assert set(table.proposals_timed[~timed]) == {""}
    # A device tells nothing without a speed.
    assert (table.device[~timed] == "").all()


@pytest.mark.parametrize(
    ("system", "network", "paper", "name"),
    [
        ("R-CNN", "vgg16", "R-CNN", "box regression"),
        ("R-CNN", "alexnet", "R-CNN", "box regression"),
        ("SPPnet, 5 scales", "vgg16", "SPPnet", "5 scales"),
        ("Fast R-CNN", "vgg16", "Fast R-CNN", "1 scale"),
        ("Fast R-CNN + SVD", "vgg16", "Fast R-CNN", "truncated SVD"),
    ],
)
def test_seconds_are_table_4s(system: str, network: str, paper: str, name: str) -> None:
    table = published()
    (row,) = table[
        (table.paper == paper) & (table.system == name) & (table.backbone.str.lower() == network)
    ].to_dict("records")
    assert row["seconds"] == TABLE_4[network, system].test
    assert row["proposals_timed"] == "no" and row["device"] == "K40"


def test_a_number_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="0 results"):
        the_one(results(), paper="Fast R-CNN", system="fuul")
    with pytest.raises(KeyError, match="results"):
        the_one(results(), paper="Fast R-CNN", system="full")


def test_images_a_second_become_seconds() -> None:
    table = published().set_index(["paper", "system"])
    assert table.loc[("YOLOv2", "544 px"), "seconds"] == pytest.approx(1 / 40)
