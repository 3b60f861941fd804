"""Tables of variants: values by hand, and what may be said of two rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from stages.ablation import Claim, Variant, coco_boxes, coco_masks, compare, write_tables
from stages.data.records import Record
from stages.evaluation.detections_io import load_detections, save_detections, sizes_of
from stages.published.figures import Figure

BOX = [10.0, 10.0, 30.0, 30.0]
IMAGES = 40
FPN = Figure(33.6, "ResNet-50-FPN")


@dataclass(frozen=True)
class Data:
    test: list[Record]
    classes: tuple[str, ...] = ("thing",)
    category_ids: tuple[int, ...] = (5,)
    train: tuple[Record, ...] = ()
    name: str = "data"
    fingerprint: str = "data"


def record(n: int) -> Record:
    no = np.zeros(1, bool)
    boxes = np.array([BOX], np.float32)
    return Record(f"{n}", Path(f"{n}.jpg"), 50, 50, boxes, np.ones(1, np.int64), no, no)


@pytest.fixture
def data() -> Data:
    return Data([record(n) for n in range(IMAGES)])


def finding(path: Path, images: int) -> Path:
    """Detections that are right in the first so many images, and nothing elsewhere."""
    save_detections(
        path,
        {
            f"{n}": {
                "boxes": np.array([BOX]),
                "labels": np.array([1]),
                "scores": np.array([1.0 - n / 100]),
            }
            for n in range(images)
        },
        (5,),
    )
    return path


def test_values_and_what_may_be_said(data: Data, tmp_path: Path) -> None:
    variants = [
        Variant("all", finding(tmp_path / "all.json", IMAGES), Figure(54.2, "AlexNet")),
        Variant("half", finding(tmp_path / "half.json", IMAGES // 2), Figure(53.1, "AlexNet")),
        Variant("one less", finding(tmp_path / "less.json", IMAGES - 1)),
    ]
    claims = [Claim("all", "half"), Claim("half", "all"), Claim("all", "one less")]
    values, differences = compare(data, variants, claims, draws=200)
    assert values["area_map"].tolist() == pytest.approx([100, 50, 97.5])
    assert values["paper_map"].tolist()[:2] == [54.2, 53.1]
    # Eleven points: half of the objects found without a mistake is 6 of 11.
    assert values["map"].tolist()[:2] == pytest.approx([100, 600 / 11])
    assert (values["low"] <= values["map"]).all() and (values["map"] <= values["high"]).all()
    assert differences["verdict"].tolist() == [
        "as the paper",
        "against the paper",
        "not separated",
    ]
    assert differences["difference"][0] == pytest.approx(500 / 11)
    assert differences["paper_difference"][0] == pytest.approx(1.1)

    text = write_tables(tmp_path / "out", "Title", "A note.", values, differences)
    assert "| | mAP (VOC07) | 95 % interval | area | paper (AlexNet) |" in text
    assert "| all | 100.0 | 100.0 – 100.0 | 100.0 | 54.2 |" in text
    assert "| one less | 100.0 |" in text or "| one less | 90.9 |" in text
    assert "| all less half | +45.5 |" in text
    assert (tmp_path / "out" / "ablations.md").read_text() == text
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "ablations.md",
        "variants.csv",
        "claims.csv",
    }


def test_whose_figures_they_are(data: Data, tmp_path: Path) -> None:
    """The column says of which network most are, and a figure of another says so itself."""
    found = finding(tmp_path / "all.json", IMAGES)
    figures = {
        "a": Figure(57.1, "AlexNet"),
        "b": Figure(57.7, "VGG_M"),
        "c": None,
        "d": Figure(56.5, "AlexNet"),
    }
    variants = [Variant(name, found, figure) for name, figure in figures.items()]
    claims = [
        Claim("a", "d"),
        Claim("a", "b"),  # of two networks: nothing to say
        Claim("a", "c"),
        Claim("d", "a", Figure(5.5, "VGG16")),
    ]
    values, differences = compare(data, variants, claims, draws=20)
    assert values["paper_network"].tolist()[:2] == ["AlexNet", "VGG_M"]
    text = write_tables(tmp_path / "out", "Title", "A note.", values, differences)
    assert "| area | paper (AlexNet) |" in text
    for row, cell in (("a", "57.1"), ("b", "57.7 (VGG_M)"), ("c", "–"), ("d", "56.5")):
        assert f"| {row} | 100.0 | 100.0 – 100.0 | 100.0 | {cell} |" in text
    assert "| 95 % interval, paired | paper (AlexNet) | |" in text
    for pair, cell in (
        ("a less d", "+0.6"),
        ("a less b", "–"),
        ("a less c", "–"),
        ("d less a", "+5.5 (VGG16)"),
    ):
        assert f"| {pair} | +0.0 | +0.0 – +0.0 | {cell} | not separated |" in text


def test_no_figures_at_all(data: Data, tmp_path: Path) -> None:
    variants = [Variant("all", finding(tmp_path / "all.json", IMAGES))]
    text = write_tables(tmp_path / "out", "Title", "A note.", *compare(data, variants, [], draws=9))
    assert "| area | paper |" in text and "| 95 % interval, paired | paper | |" in text


# By COCO's measures --------------------------------------------------------------------------


def columns(left: int, right: int) -> bytes:
    """A mask of the rows of `BOX`, and of those columns."""
    mask = np.zeros((50, 50), np.uint8, order="F")
    mask[10:30, left:right] = 1
    counts: bytes = coco.encode(mask)["counts"]
    return counts


@pytest.fixture
def masked(data: Data) -> Data:
    """Each object fills its box."""
    filled = (columns(10, 30),)
    return replace(data, test=[replace(record, segmentations=filled) for record in data.test])


def found_in(data: Data, path: Path, right: float, mask: bytes) -> Path:
    """In each image a box from the object's left edge to `right`, with a mask."""
    box = [10.0, 10.0, right, 30.0]
    found: dict[str | int, dict[str, np.ndarray]] = {
        record.image_id: {
            "boxes": np.array([box]),
            "labels": np.array([1]),
            "scores": np.array([0.5]),
            "segmentation": np.array([mask]),
        }
        for record in data.test
    }
    save_detections(path, found, data.category_ids, sizes_of(data.test))
    return path


@pytest.mark.parametrize(
    ("right", "to", "boxes", "masks"),
    [
        # How many of the ten overlaps from 0.5 to 0.95 are reached, at half of it, at three quarters.
        (30.0, 30, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        (30.0, 23, (1.0, 1.0, 1.0), (0.4, 1.0, 0.0)),  # 13 of 20 columns: 0.5 to 0.65
        (25.8, 30, (0.6, 1.0, 1.0), (1.0, 1.0, 1.0)),  # 15.8 of 20: 0.5 to 0.75
        (19.0, 10, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),  # 9 of 20; a mask of nothing
    ],
)
def test_cocos_measures_by_hand(
    masked: Data, tmp_path: Path, right: float, to: int, boxes: tuple, masks: tuple
) -> None:
    path = found_in(masked, tmp_path / "found.json", right, columns(10, to))
    found = load_detections(path, masked.category_ids, sizes_of(masked.test))
    for measure, expected in ((coco_boxes, boxes), (coco_masks, masks)):
        worth = measure(masked, found, 20)
        values = (worth.value, worth.more["ap50"], worth.more["ap75"])
        assert values == pytest.approx(expected)
        assert worth.samples == pytest.approx(np.full(20, expected[0]))  # every image is alike
        assert worth.more.keys() == {"ap50", "ap75"}


def test_a_table_of_masks(masked: Data, tmp_path: Path) -> None:
    variants = [
        Variant("whole", found_in(masked, tmp_path / "a.json", 30.0, columns(10, 30)), FPN),
        Variant("less", found_in(masked, tmp_path / "b.json", 30.0, columns(10, 23))),
    ]
    claims = [Claim("whole", "less", Figure(3.4, "ResNet-50-C4"))]
    values, differences = compare(masked, variants, claims, 20, coco_masks)
    text = write_tables(tmp_path / "out", "Title", "A note.", values, differences)
    assert "| | AP (COCO) | 95 % interval | AP50 | AP75 | paper (ResNet-50-FPN) |" in text
    assert "| whole | 100.0 | 100.0 – 100.0 | 100.0 | 100.0 | 33.6 |" in text
    assert "| less | 40.0 | 40.0 – 40.0 | 100.0 | 0.0 | – |" in text
    assert "| | difference | 95 % interval, paired | paper (ResNet-50-C4) | |" in text
    assert "| whole less less | +60.0 | +60.0 – +60.0 | +3.4 | as the paper |" in text
    # Of their boxes nothing is to be said.
    _, differences = compare(masked, variants, claims, 20, coco_boxes)
    assert differences["verdict"].tolist() == ["not separated"]
