"""The papers' figures: what is in the file, and which of them stand beside a run's."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest

from stages.backbones.config import Name
from stages.published.figures import (
    EXPERIMENTS,
    SAME,
    Figure,
    Paper,
    PaperName,
    paper_beside,
    results,
)

NAMES: tuple[Name, ...] = get_args(Name)


def test_every_result_is_there_once_and_has_its_source() -> None:
    keys = [(r.paper, r.system, r.backbone, r.train, r.test, r.metric) for r in results()]
    assert [key for key, times in Counter(keys).items() if times > 1] == []
    assert all(r.paper and r.system and r.metric and r.unit and r.source for r in results())
    # One image set an accuracy and a paper: of which set it is need not be asked.
    of_tables = [
        (r.paper, r.system, r.backbone, r.metric)
        for r in results()
        if r.paper in EXPERIMENTS and r.train in EXPERIMENTS[r.paper].train and r.test  # type: ignore[index]
    ]
    assert max(Counter(of_tables).values()) == 1


def test_values_are_what_their_units_allow() -> None:
    for row in results():
        if row.unit == "%" and row.metric.endswith(("AP", "AP50")):
            assert 10 < row.value < 100, row
        assert row.value > 0, row
    units = {row.metric: row.unit for row in results()}
    assert all(units[row.metric] == row.unit for row in results())
    assert units["test_time"] == "s/image" and units["train_time"] == "h"


def test_a_device_is_of_a_time() -> None:
    times = ("time", "speed", "speedup", "share", "proposals")
    assert all(row.metric.endswith(times) for row in results() if row.device)


@pytest.mark.parametrize("paper", get_args(PaperName))
@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_a_network_of_the_papers_is_beside_that_one(
    paper: PaperName, name: Name
) -> None:
    beside = paper_beside(paper, name)
    # A network that the paper has, in its own words, and has figures of.
    metric = EXPERIMENTS[paper].metric
    theirs = {row.backbone for row in results() if (row.paper, row.metric) == (paper, metric)}
    assert beside.network in theirs
    same = {network for network in theirs if SAME.get(network) == name}
    if same:
        assert beside.network in same
        assert beside.whose() == f"{beside.network}, the network here"
    else:
        assert beside.whose() == f"{beside.network}, which stands in for {name}"


@pytest.mark.parametrize(
    ("paper", "name", "network"),
    [
        ("R-CNN", "alexnet", "AlexNet"),
        ("R-CNN", "tiny", "AlexNet"),
        ("R-CNN", "squeezenet1_1", "AlexNet"),
        ("R-CNN", "vgg16", "VGG16"),
        ("R-CNN", "mobilenet_v2", "VGG16"),
        ("SPPnet", "alexnet", "ZF-5"),
        ("Fast R-CNN", "resnet50", "VGG16"),
        ("Faster R-CNN", "alexnet", "ZF"),
        ("Mask R-CNN", "resnet50", "ResNet-50-FPN"),
        ("Mask R-CNN", "tiny", "ResNet-50-FPN"),
    ],
)
def test_which_network_stands_in(paper: PaperName, name: Name, network: str) -> None:
    assert paper_beside(paper, name).network == network


# What was beside every network's rows before there was a file.
@pytest.mark.parametrize(
    ("paper", "system", "network", "value"),
    [
        ("Fast R-CNN", "full", "AlexNet", 57.1),
        ("Fast R-CNN", "full", "VGG16", 66.9),  # not 70.0, which is of more images
        ("Fast R-CNN", "multi-task in training without regression at test", "AlexNet", 53.3),
        ("Fast R-CNN", "truncated SVD", "AlexNet", 56.5),
        ("Fast R-CNN", "SVM instead of softmax", "AlexNet", 56.3),
        ("Fast R-CNN", "lambda = 0", "AlexNet", 52.2),
        ("Fast R-CNN", "stage-wise training", "AlexNet", 54.6),
        ("Fast R-CNN", "5 scales", "AlexNet", 58.4),
        ("Fast R-CNN", "5 scales", "VGG16", None),
        ("Faster R-CNN", "4-step shared", "ZF", 59.9),
        ("Faster R-CNN", "4-step shared", "VGG16", 69.9),
        ("Faster R-CNN", "SS-trained detector with 100 RPN proposals", "ZF", 55.1),
        ("Faster R-CNN", "SS-trained detector with 300 RPN proposals", "ZF", 56.8),
        ("Faster R-CNN", "SS-trained detector with 1000 RPN proposals", "ZF", 56.3),
        ("Faster R-CNN", "SS-trained detector with 6000 RPN proposals without NMS", "ZF", 55.2),
        ("Faster R-CNN", "RPN without cls 100 proposals", "ZF", 44.6),
        ("Faster R-CNN", "RPN without cls 300 proposals", "ZF", 51.4),
        ("Faster R-CNN", "RPN without cls 1000 proposals", "ZF", 55.8),
        ("Faster R-CNN", "RPN without reg 300 proposals", "ZF", 52.1),
        ("Faster R-CNN", "RPN without reg 1000 proposals", "ZF", 51.3),
        ("Faster R-CNN", "4-step unshared", "ZF", 58.7),
        ("Faster R-CNN", "selective search instead of RPN", "ZF", 58.7),
        ("Faster R-CNN", "one stage (dense boxes)", "ZF", 53.8),
        ("Faster R-CNN", "anchors 1 scale (256) 1 ratio", "VGG16", 66.7),
        ("Faster R-CNN", "anchors 1 scale (256) 3 ratios", "VGG16", 67.9),
        ("Faster R-CNN", "anchors 3 scales 1 ratio", "VGG16", 69.8),
        ("Faster R-CNN", "lambda = 0.1", "VGG16", 67.2),
        ("Faster R-CNN", "lambda = 1", "VGG16", 68.9),
        ("Faster R-CNN", "lambda = 10", "VGG16", 69.9),
        ("Faster R-CNN", "lambda = 100", "VGG16", 69.1),
        ("Faster R-CNN", "lambda = 100", "ZF", None),
    ],
)
def test_the_values_that_were_in_the_code(
    paper: PaperName, system: str, network: str, value: float | None
) -> None:
    found = Paper(paper, "tiny", network).of(system)
    assert found == (None if value is None else Figure(value, network))


def test_a_row_that_is_not_there_is_not_a_dash() -> None:
    fast = paper_beside("Fast R-CNN", "vgg16")
    with pytest.raises(KeyError, match="lambda = O"):
        fast.of("lambda = O")
    with pytest.raises(KeyError, match="lambda = O"):
        fast.difference("full", "lambda = O")
    with pytest.raises(KeyError, match="full"):
        fast.of("full", metric="box AP")


def test_a_difference_is_of_one_network() -> None:
    of_vgg16, of_tiny = (paper_beside("Fast R-CNN", name) for name in ("vgg16", "tiny"))
    assert of_vgg16.difference("full", "lambda = 0").value == pytest.approx(66.9 - 62.6)
    assert of_tiny.difference("full", "lambda = 0").value == pytest.approx(57.1 - 52.2)
    # Table 5 is VGG16's alone, and says so.
    rows = "fine-tune conv3_1 and up", "fine-tune fc6 and up"
    assert of_tiny.of(rows[0]) is None
    theirs = of_tiny.difference(*rows)
    assert (theirs.value, theirs.network) == (pytest.approx(5.5), "VGG16")
    with pytest.raises(KeyError, match="of no network both"):
        of_tiny.difference(*rows, network="AlexNet")
    with pytest.raises(KeyError, match="of no network both"):
        of_tiny.difference("45k dense boxes alone", rows[0])


def test_figures_of_two_networks_tell_both() -> None:
    mask = paper_beside("Mask R-CNN", "resnet50")
    fpn, c4 = mask.of("full"), mask.of("full", "ResNet-50-C4")
    assert fpn is not None and c4 is not None
    less = fpn.less(c4)
    assert (less.value, less.network) == (pytest.approx(3.3), "ResNet-50-FPN less ResNet-50-C4")
