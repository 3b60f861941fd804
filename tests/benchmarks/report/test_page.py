"""`make bench` on runs made by hand: the CSV, the figures and the page."""

from __future__ import annotations

import base64
import io
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from benchmarks import bench
from benchmarks.detectors import Run
from benchmarks.report import write
from benchmarks.report.machines import elsewhere
from benchmarks.report.page import Section, page
from tests.benchmarks.report.conftest import DOLLARS, HERE, IMAGES, SCRIPT, timed


class Reader(HTMLParser):
    """What a browser would see: elements, their attributes, the text; and that all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def report(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole command; only the clock is not asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "time_run", lambda run, *_: timed(run))
        patch.setattr(bench, "machine", lambda device: HERE)
        none = tmp_path_factory.mktemp("machines")
        patch.setattr(write, "elsewhere", lambda: elsewhere(none))
        bench.bench(["--runs", str(made), "--device", "cpu", "--rates"])
    return made / "report"


def test_the_table_has_a_row_a_run(report: Path) -> None:
    rows = pd.read_csv(report / "benchmark.csv").set_index("folder")
    assert list(rows.index) == [
        "cats & dogs-micro-tiny/fast-short",
        "cats & dogs-micro-tiny/rcnn",
        "other-micro-tiny/faster",
        "other-micro-tiny/torchvision-mask",
    ]
    rcnn, fast = rows.loc["cats & dogs-micro-tiny/rcnn"], rows.iloc[0]
    assert rcnn["map"] == pytest.approx(100) and rcnn["map_high"] == pytest.approx(100)
    assert 50 < fast["map"] < 100 and fast["map_low"] < fast["map"] <= fast["map_high"]
    assert (rcnn["seconds"], rcnn["train_seconds"], rcnn["train_disk_mib"]) == (8.0, 80.0, 3.0)
    assert rcnn["peak_memory_mib"] == 100 and rcnn["test_images"] == IMAGES
    assert (fast["tag"], fast["paper"], fast["backbone"]) == ("short", "fast", "tiny")
    assert rows["mask_coco_ap"].notna().tolist() == [False, False, False, True]
    assert (rows["part: decode"] == 0.00041237).all()  # a short part is not rounded away
    assert rows["part: proposals"].isna().tolist() == [False, False, True, True]


def test_every_figure_is_there_twice(report: Path) -> None:
    names = {"speed_map", "times", "parts", "disk", "precision_recall", "mistakes"}
    for slug, more in (("cats___dogs", {"recall"}), ("other", set())):
        for suffix in ("png", "svg"):
            assert {path.stem for path in (report / slug).glob(f"*.{suffix}")} - {
                f"image-{n}" for n in range(1, 5)
            } == names | more
    assert {path.name for path in report.glob("*.svg")} == {"speed_map.svg", "published.svg"}


def test_the_page_needs_nothing_else(report: Path) -> None:
    reader = Reader((report / "index.html").read_text())
    assert not reader.all("script") and not reader.all("link") and not reader.all("iframe")
    assert all(one["href"].startswith("#") for one in reader.all("a"))
    pictures = reader.all("img")
    # Six or seven figures and four images a data set, and the papers' own.
    assert len(pictures) == (7 + 4) + (6 + 4) + 1
    for picture in pictures:
        kind, _, data = picture["src"].partition(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert kind == f"data:image/{str(image.format).lower()}"
        assert picture["alt"]


def test_the_page_helps_to_choose(report: Path) -> None:
    text = Reader((report / "index.html").read_text()).text
    assert "Most accurate: R-CNN, mAP 100.0 [100.0, 100.0], 8 s an image." in text
    assert "Fastest: Fast R-CNN, short, mAP" in text
    assert "It is more accurate, significantly, than Fast R-CNN, short." in text
    # On the other data one image of six does not separate the two.
    assert "cannot be told from Faster R-CNN" in text
    for title in ("cats & dogs, 6 test images", "other, 6 test images", "As published"):
        assert title in text
    assert HERE["device"] in text


def test_the_devkits_rounding_stands_beside_ours(report: Path) -> None:
    rows = pd.read_csv(report / "benchmark.csv").set_index("folder")
    rcnn = rows.loc["cats & dogs-micro-tiny/rcnn"]
    assert rcnn["map_devkit"] == pytest.approx(100)
    text = Reader((report / "index.html").read_text()).text
    assert "mAP as the devkit rounds" in text and "100.00" in text
    assert "0.30000000000000004" in text


def test_each_run_has_its_command(report: Path, made: Path) -> None:
    text = Reader((report / "index.html").read_text()).text
    assert text.count(f"make bench RUNS={made} DEVICE=cpu ARGS=--rates") == 2  # of two data sets
    data = f"DATA='{made.parent / 'cats & dogs'}'"
    assert f"make rcnn {data} PRESET=micro" in text
    assert f"make fast {data} PRESET=micro TAG=short" in text
    assert f"make rival DATA={made.parent / 'other'} PRESET=micro ARGS='--kind mask'" in text


def test_text_from_data_stays_text() -> None:
    table = pd.DataFrame({SCRIPT: [DOLLARS, "a & b"], "n": ["1", SCRIPT]})
    section = Section(SCRIPT, [SCRIPT], [(SCRIPT, table)], [], [(SCRIPT, f"make {SCRIPT}")])
    text = page(SCRIPT, [SCRIPT], [section])
    assert "<script" not in text
    # Title twice, paragraph, link, heading, sentence, caption, two cells, label, command.
    assert Reader(text).text.count(SCRIPT) == 11


def test_classes_of_any_name_are_drawn(report: Path) -> None:
    svg = (report / "other" / "precision_recall.svg").read_text()
    assert "<script" not in svg
    assert svg.count("<title") == 0


def test_a_run_that_cannot_be_timed_is_left_out(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stages.errors import InputError

    counted: Counter[str] = Counter()

    def time_run(run: Run, *_: Any) -> dict[str, Any]:
        counted[run.name] += 1
        if run.name == "faster":
            raise BrokenProcessPool("its process ended with -9")
        raise InputError(f"{run.name}: weights.pt: missing")

    monkeypatch.setattr(bench, "time_run", time_run)
    with pytest.raises(InputError, match="no finished run that can be timed"):
        bench.bench(["--runs", str(made), "--device", "cpu", "--rates"])
    assert len(counted) == 4
    said = capsys.readouterr().err
    assert "left out: rcnn: weights.pt: missing" in said
    assert f"left out: {made / 'other-micro-tiny' / 'faster'}: its process ended with -9" in said
