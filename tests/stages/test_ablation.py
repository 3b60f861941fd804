"""Tables of variants: values by hand, and what may be said of two rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stages.ablation import Claim, Variant, compare, write_tables
from stages.data.records import Record
from stages.evaluation.detections_io import save_detections

BOX = [10.0, 10.0, 30.0, 30.0]
IMAGES = 40


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
        Variant("all", finding(tmp_path / "all.json", IMAGES), 54.2),
        Variant("half", finding(tmp_path / "half.json", IMAGES // 2), 53.1),
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
    assert "| all | 100.0 | 100.0 – 100.0 | 100.0 | 54.2 |" in text
    assert "| one less | 100.0 |" in text or "| one less | 90.9 |" in text
    assert "| all less half | +45.5 |" in text
    assert (tmp_path / "out" / "ablations.md").read_text() == text
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "ablations.md",
        "variants.csv",
        "claims.csv",
    }
