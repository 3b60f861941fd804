"""Table 1: which anchor a proposal came from, and the means of their sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from faster_rcnn import anchor_table as module
from faster_rcnn.anchor_table import (
    anchor_table,
    measure_anchors,
    origins,
    shape_of,
    sides_by_anchor,
    write_anchor_table,
)
from faster_rcnn.anchors import base_anchors
from faster_rcnn.config import PRESETS, AnchorConfig, Config, ProposalConfig
from faster_rcnn.network import FasterRCNN, build_untrained
from stages.backbones.weights import Weights, build_backbone
from stages.boxes import clip, decode
from stages.data.load import load_data
from stages.published.figures import paper_beside
from stages.store import Artifact, Store

MICRO = PRESETS["micro"]
ALL = ProposalConfig(before=None, nms_iou=1.0, after=100_000, least_side=0.0)
PAPER = paper_beside("Faster R-CNN", "tiny")


def model_of(proposals: ProposalConfig, sizes: tuple[float, ...] = (16.0, 32.0)) -> FasterRCNN:
    """Whose RPN says the same at every position: anchor by anchor what its biases say."""
    torch.manual_seed(0)
    backbone = build_backbone("tiny", Weights(None, "random"))
    rpn = dataclasses.replace(MICRO.rpn, anchors=AnchorConfig(sizes))
    model = build_untrained(backbone, ("thing",), rpn, MICRO.scale, proposals=proposals).eval()
    for layer in (model.rpn.scores, model.rpn.offsets):
        torch.nn.init.zeros_(layer.weight)
    k = 3 * len(sizes)
    model.rpn.scores.bias = torch.nn.Parameter(torch.arange(float(k)))
    model.rpn.offsets.bias = torch.nn.Parameter(torch.zeros(4 * k))
    return model


IMAGE = torch.zeros(3, 96, 160, dtype=torch.uint8)


def means(anchors: np.ndarray, sides: np.ndarray, k: int) -> np.ndarray:
    return np.stack([sides[anchors == number].mean(axis=0) for number in range(k)])


def test_anchors_that_are_not_moved_keep_their_size_within_the_image() -> None:
    anchors, sides = sides_by_anchor(model_of(ALL), IMAGE)
    # At stride 16 there are 6 x 10 positions, and all of them propose.
    assert np.bincount(anchors).tolist() == [60] * 6
    base = base_anchors((16.0, 32.0), (0.5, 1.0, 2.0))
    for number in range(6):
        whole = (base[number, 2:] - base[number, :2]).numpy()
        own = sides[anchors == number]
        assert (own <= whole + 1e-3).all()
        assert (
            np.isclose(own, whole, atol=1e-3).all(axis=1).any()
        )  # those that the edge does not cut


def test_each_anchors_offsets_show_in_its_own_mean() -> None:
    """Anchor 4, 16 pixels tall and narrow, is made twice as wide, and anchor 1 half as high."""
    model = model_of(ALL)
    with torch.no_grad():
        offsets = model.rpn.offsets.bias.view(6, 4)
        offsets[4, 2] = np.log(2)
        offsets[1, 3] = np.log(0.5)
    own = means(*sides_by_anchor(model, IMAGE), 6)
    still = means(*sides_by_anchor(model_of(ALL), IMAGE), 6)
    for number in range(6):
        wide, high = own[number] / still[number]
        assert wide == pytest.approx(2, abs=0.15) if number == 4 else wide == pytest.approx(1)
        assert high == pytest.approx(0.5, abs=0.1) if number == 1 else high == pytest.approx(1)


def test_as_every_box_decoded_with_its_number() -> None:
    model = model_of(ALL, sizes=(16.0, 32.0, 64.0))
    torch.nn.init.normal_(model.rpn.offsets.weight, std=0.2)
    torch.nn.init.normal_(model.rpn.scores.weight, std=0.2)
    image = torch.randint(0, 255, (3, 96, 160), generator=torch.Generator().manual_seed(1))
    image = image.to(torch.uint8)
    anchors, sides = sides_by_anchor(model, image)
    with torch.inference_mode():
        batch, maps = model.look([image])
        _, offsets = model.rpn(maps)
        boxes = clip(decode(model.rpn.anchors(maps)[0], offsets[0]), *batch.sizes[0])
    kinds = (torch.arange(len(boxes)) % 9).numpy()
    expected = (boxes[:, 2:] - boxes[:, :2]).numpy()
    large = (expected >= 1e-3).all(axis=1)
    assert np.bincount(anchors).tolist() == np.bincount(kinds[large]).tolist()
    np.testing.assert_allclose(
        means(anchors, sides, 9), means(kinds[large], expected[large], 9), atol=1e-2
    )


def test_only_the_proposals_that_the_detector_sees_count() -> None:
    limits = ProposalConfig(before=None, nms_iou=0.7, after=7, least_side=4.0)
    anchors, sides = sides_by_anchor(model_of(limits), IMAGE)
    assert (len(anchors), sides.shape) == (7, (7, 2))
    assert set(anchors.tolist()) == {5}  # the anchor of the highest score
    # By their scores, whatever the run itself does.
    at_random = dataclasses.replace(limits, scores="none")
    assert sides_by_anchor(model_of(at_random), IMAGE)[0].tolist() == anchors.tolist()


def test_without_regression_they_are_the_anchors() -> None:
    model = model_of(dataclasses.replace(ALL, boxes="none"))
    torch.nn.init.ones_(model.rpn.offsets.bias)
    anchors, sides = sides_by_anchor(model, IMAGE)
    still = sides_by_anchor(model_of(ALL), IMAGE)
    np.testing.assert_allclose(means(anchors, sides, 6), means(*still, 6), atol=1e-3)


def test_the_origin_has_the_score_and_the_nearest_box() -> None:
    box = Tensor([0, 0, 10, 10])
    every = torch.stack([box, box + 1, box, box + 30])
    scores = Tensor([1, 2, 2, 3])
    found = origins(
        torch.stack([box, box + 1, box, box + 30.001]), Tensor([2, 2, 1, 3]), every, scores
    )
    assert found.tolist() == [2, 1, 0, 3]
    assert origins(torch.zeros(0, 4), torch.zeros(0), every, scores).tolist() == []


# The stage and the table ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("runs") / "store", workers=0)


def test_the_stage_adds_up_all_images(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of two images of four: of anchor 1 one proposal an image, of anchor 0 one of the last alone."""
    data = load_data(MICRO.data, store)
    seen: list[int] = []

    def given(_: FasterRCNN, image: Tensor) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(seen))
        number = seen[-1]
        anchors, sides = [1], [[10.0 * number, 5.0]]
        if number == 3:
            anchors, sides = [0, 1], [[7.0, 9.0], *sides]
        return np.array(anchors), np.array(sides, np.float32)

    monkeypatch.setattr(module, "load", lambda *_: model_of(ALL))
    monkeypatch.setattr(module, "sides_by_anchor", given)
    monkeypatch.setattr(module, "SHARD", 2)
    made = store.run(measure_anchors, data, Artifact(Path("model"), "a model"))
    assert {path.name for path in made.path.iterdir() if path.suffix == ".csv"} == {"anchors.csv"}
    assert not (made.path / "shards").exists()
    table = pd.read_csv(made.path / "anchors.csv")
    assert table["proposals"].tolist() == [1, 4, 0, 0, 0, 0]
    assert table.loc[:1, ["mean_width", "mean_height"]].values.tolist() == [[7, 9], [15, 5]]
    assert table.loc[2:, ["mean_width", "mean_height"]].isna().all(axis=None)


def measured(folder: Path, rows: int) -> Path:
    """What the stage leaves: anchor n came n times, n + 100 wide and n + 200 high; the last never."""
    n = np.arange(rows)
    table = pd.DataFrame({"proposals": n, "mean_width": n + 100.0, "mean_height": n + 200.0})
    table.iloc[-1] = [0, np.nan, np.nan]
    table.astype({"proposals": int}).to_csv(folder / "anchors.csv", index=False)
    return folder


def test_rows_are_by_size_and_from_wide_to_high(tmp_path: Path) -> None:
    rpn = dataclasses.replace(MICRO.rpn, anchors=AnchorConfig((64.0, 16.0), (2.0, 0.5)))
    table = anchor_table(dataclasses.replace(MICRO, rpn=rpn), measured(tmp_path, 4), PAPER)
    assert table["anchor"].tolist() == ["16², 2:1", "16², 1:2", "64², 2:1", "64², 1:2"]
    # In the order of `base_anchors`: of ratio 2 sizes 64 and 16, and of ratio 0.5.
    assert table["proposals"].tolist() == [0, 1, 2, 0]
    assert table["mean_width"].tolist() == pytest.approx([np.nan, 101, 102, 100], nan_ok=True)
    wide, high = table["anchor_width"], table["anchor_height"]
    assert (wide * high).tolist() == pytest.approx([256, 256, 4096, 4096])
    assert (high / wide).tolist() == pytest.approx([0.5, 2, 0.5, 2])
    assert table["paper_width"].isna().all()


def test_the_papers_are_beside_its_own_anchors_at_its_own_scale(tmp_path: Path) -> None:
    config = Config()
    table = anchor_table(config, measured(tmp_path, 9), PAPER)
    by_name = table.set_index("anchor")
    assert by_name.loc["128², 2:1", ["paper_width", "paper_height"]].tolist() == [188, 111]
    assert by_name.loc["512², 1:2", ["paper_width", "paper_height"]].tolist() == [355, 715]
    assert table[["paper_width", "paper_height"]].notna().all(axis=None)
    # VGG16's run has ZF's beside it, too: the paper has no other.
    theirs = anchor_table(config, tmp_path, paper_beside("Faster R-CNN", "vgg16"))
    assert theirs.equals(table)
    smaller = dataclasses.replace(config, scale=dataclasses.replace(config.scale, test=(384,)))
    assert anchor_table(smaller, tmp_path, PAPER)["paper_width"].isna().all()


def test_the_table_says_what_it_is_of(tmp_path: Path) -> None:
    config = Config()
    table = anchor_table(config, measured(tmp_path, 9), PAPER)
    text = write_anchor_table(tmp_path / "out", "voc-paper-vgg16", config, table)
    assert text == (tmp_path / "out" / "anchors.md").read_text()
    assert "the 300 best of an image after NMS at 0.7" in text
    assert "a shorter side of 600 (at most 1000 long)" in text
    assert "| anchor | its width × height | proposals | mean | paper (ZF) |" in text
    lines = text.splitlines()
    # The first of its ratio and size; the last came from nowhere.
    assert "| 128², 2:1 | 181 × 91 | 0 | 100 × 200 | 188 × 111 |" in lines
    assert "| 512², 1:2 | 362 × 724 | 0 | – | 355 × 715 |" in lines
    widths = {line.count("|") for line in lines if line.startswith("|")}
    assert widths == {6}
    assert pd.read_csv(tmp_path / "out" / "anchors.csv")["anchor"].tolist() == list(table["anchor"])


def test_a_table_without_the_papers_has_no_column_of_them(tmp_path: Path) -> None:
    text = write_anchor_table(
        tmp_path, "name", MICRO, anchor_table(MICRO, measured(tmp_path, 9), PAPER)
    )
    assert "paper (" not in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {5}


@pytest.mark.parametrize(
    ("ratio", "said"), [(0.5, "2:1"), (1.0, "1:1"), (2.0, "1:2"), (1 / 3, "3:1"), (1.5, "1:1.5")]
)
def test_ratios_in_the_papers_words(ratio: float, said: str) -> None:
    assert shape_of(ratio) == said
