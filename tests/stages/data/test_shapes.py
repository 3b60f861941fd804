"""The drawn data set: the same for the same seed, and true to what it says of itself."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from stages.data.drawing import rasterise
from stages.data.outlines import DISTRACTORS, OUTLINES, pose
from stages.data.shapes import (
    CLASSES,
    HIDDEN,
    LEAST_AREA,
    LEAST_SIDE,
    Scene,
    ShapesConfig,
    arrange,
    draw_objects,
    draw_scene,
    draw_shapes,
    extent,
    voc_palette,
)
from stages.errors import InputError
from stages.store import Job

CONFIG = ShapesConfig(train=5, test=3, width=128, height=96, seed=3)


def scene(n: int, split: int = 0, config: ShapesConfig = CONFIG) -> Scene:
    return draw_scene(np.random.default_rng([config.seed, split, n]), config)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    draw_shapes(Job(folder), CONFIG)
    return folder


def test_classes_are_sorted() -> None:
    assert list(CLASSES) == sorted(CLASSES)
    assert len(CLASSES) == 10


def test_a_scene_is_a_function_of_its_seed() -> None:
    first, again, other = scene(0), scene(0), scene(1)
    for name in ("image", "labels", "boxes", "index", "hidden"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.image, scene(0, split=1).image)


def test_a_scene_has_the_promised_form() -> None:
    for n in range(10):
        s = scene(n)
        count = len(s.labels)
        assert s.image.shape == (96, 128, 3)
        assert s.image.dtype == s.index.dtype == np.uint8
        assert s.boxes.shape == (count, 4)
        assert s.boxes.dtype == np.float32
        assert s.labels.dtype == np.int64
        assert 1 <= count <= CONFIG.objects
        assert s.labels.min() >= 1
        assert s.labels.max() <= len(CLASSES)
        assert set(np.unique(s.index)) - {0} == set(range(1, count + 1))


def test_a_box_is_the_extent_of_the_visible_mask() -> None:
    for n in range(20):
        s = scene(n)
        for i, (x1, y1, x2, y2) in enumerate(s.boxes, 1):
            rows, columns = np.nonzero(s.index == i)
            assert (x1, y1) == (columns.min(), rows.min())
            assert (x2, y2) == (columns.max() + 1, rows.max() + 1)
            assert min(x2 - x1, y2 - y1) >= LEAST_SIDE
            assert len(rows) >= LEAST_AREA


def test_no_object_is_hidden_too_far() -> None:
    seen_truncated = seen_occluded = False
    margin = 200
    for n in range(30):
        s = scene(n)
        pile = arrange(np.random.default_rng([CONFIG.seed, 0, n]), CONFIG)
        # Lay the whole shapes again, one over another, on a canvas that cuts none of them.
        wide = np.zeros((96 + 2 * margin, 128 + 2 * margin), int)
        whole = []
        for label, stencil in pile.things:
            rows, columns = np.nonzero(stencil.coverage >= 0.5)
            whole += [len(rows)] if label else []
            place = (rows + stencil.top + margin, columns + stencil.left + margin)
            wide[place] = len(whole) if label else 0
        index = wide[margin:-margin, margin:-margin]
        assert np.array_equal(index, s.index)
        hidden = 1 - np.bincount(index.ravel(), minlength=len(whole) + 1)[1:] / whole
        assert hidden.max() <= HIDDEN + 1e-9
        assert np.allclose(hidden, s.hidden, atol=1e-6)
        assert np.array_equal(s.truncated | s.occluded, hidden > 0)
        seen_truncated |= bool(s.truncated.any())
        seen_occluded |= bool(s.occluded.any())
    assert seen_truncated
    assert seen_occluded


def test_all_classes_and_sizes_occur() -> None:
    config = ShapesConfig(train=0, test=0, seed=1)
    piles = [arrange(np.random.default_rng([1, 0, n]), config) for n in range(40)]
    assert {label for pile in piles for label in pile.labels} == set(range(1, len(CLASSES) + 1))
    assert {len(pile.labels) for pile in piles} == set(range(1, 9))
    sizes = [max(s.coverage.shape) for pile in piles for label, s in pile.things if label]
    assert min(sizes) < 20
    assert 90 < max(sizes) <= 112


@pytest.mark.parametrize("name", CLASSES)
def test_an_outline_is_as_long_as_asked(name: str) -> None:
    rng = np.random.default_rng(0)
    for size in (16.0, 40.0, 100.0):
        solid = rasterise(pose(rng, OUTLINES[name](rng), size)).solid
        x1, y1, x2, y2 = extent(solid)
        # A tip thinner than a pixel covers less than half of it.
        assert 0.85 * size - 2 <= max(x2 - x1, y2 - y1) <= size + 2


@pytest.mark.parametrize("make", DISTRACTORS)
def test_a_distractor_covers_something(make) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert rasterise(pose(rng, make(rng), 30.0), 1.0).coverage.max() > 0.5


def test_the_smallest_scene_still_holds_an_object() -> None:
    config = ShapesConfig(train=0, test=0, width=32, height=32, smallest=2, largest=20)
    assert all(len(scene(n, config=config).labels) >= 1 for n in range(30))


@pytest.mark.parametrize(
    "wrong", [{"train": -1}, {"objects": 0}, {"objects": 300}, {"width": 8}, {"smallest": 200.0}]
)
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="shapes"):
        ShapesConfig(**{"train": 1, "test": 1, **wrong})


def test_voc_files_say_what_was_drawn(drawn: Path) -> None:
    lists = {
        name: (drawn / "ImageSets" / "Main" / f"{name}.txt").read_text().split()
        for name in ("trainval", "test")
    }
    assert lists["trainval"] == [f"train_{n:05d}" for n in range(5)]
    assert lists["test"] == [f"test_{n:05d}" for n in range(3)]
    for split, ids in enumerate(lists.values()):
        for n, name in enumerate(ids):
            s = scene(n, split)
            root = ElementTree.parse(drawn / "Annotations" / f"{name}.xml").getroot()
            assert root.findtext("filename") == f"{name}.jpg"
            assert root.findtext("size/width") == "128"
            assert root.findtext("size/height") == "96"
            objects = root.findall("object")
            assert [o.findtext("name") for o in objects] == [CLASSES[i - 1] for i in s.labels]
            assert {o.findtext("difficult") for o in objects} == {"0"}
            sides = [
                [int(o.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
                for o in objects
            ]
            assert np.array_equal(np.array(sides) - [1, 1, 0, 0], s.boxes)
            with Image.open(drawn / "SegmentationObject" / f"{name}.png") as masks:
                assert masks.mode == "P"
                assert np.array_equal(np.asarray(masks), s.index)
            with Image.open(drawn / "JPEGImages" / f"{name}.jpg") as photo:
                assert np.abs(np.asarray(photo, int) - s.image).mean() < 12


def test_the_palette_is_vocs() -> None:
    palette = np.array(voc_palette()).reshape(256, 3)
    assert palette[[0, 1, 2, 3, 8, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [64, 0, 0],
        [224, 224, 192],
    ]


def test_the_number_of_workers_changes_nothing(drawn: Path, tmp_path: Path) -> None:
    draw_shapes(Job(tmp_path, workers=2), CONFIG)
    assert files(tmp_path) == files(drawn)


def test_resumed_is_as_uninterrupted(drawn: Path, tmp_path: Path) -> None:
    draw_shapes(Job(tmp_path), CONFIG)
    kept = tmp_path / "JPEGImages" / "train_00001.jpg"
    kept.write_bytes(b"not drawn again")
    (tmp_path / "Annotations" / "train_00003.xml").unlink()
    (tmp_path / "Annotations" / "train_00003.xml.partial").write_bytes(b"<annot")
    (tmp_path / "ImageSets" / "Main" / "test.txt").unlink()
    draw_shapes(Job(tmp_path), CONFIG)
    expected = files(drawn)
    expected["JPEGImages/train_00001.jpg"] = b"not drawn again"
    assert files(tmp_path) == expected


def test_objects_do_not_depend_on_the_call() -> None:
    crops, labels = draw_objects(seed=0, first=0, count=10)
    some, some_labels = draw_objects(seed=0, first=5, count=3)
    assert np.array_equal(crops[5:8], some)
    assert np.array_equal(labels[5:8], some_labels)
    assert not np.array_equal(crops, draw_objects(seed=1, first=0, count=10)[0])


def test_objects_are_of_every_class_and_of_none() -> None:
    crops, labels = draw_objects(seed=0, first=0, count=300, side=32)
    assert crops.shape == (300, 32, 32, 3)
    assert crops.dtype == np.uint8
    assert labels.dtype == np.int64
    share = np.bincount(labels, minlength=len(CLASSES) + 1) / 300
    assert len(share) == len(CLASSES) + 1
    assert share.min() > 0.04
    assert share.max() < 0.16
