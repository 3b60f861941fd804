"""Selective search: the same boxes from the same pixels, whoever asks, and nothing it must not load."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.data.records import Record
from stages.data.voc import VOCFolder
from stages.errors import InputError
from stages.proposals.selective_search import SelectiveSearchConfig, search, search_record

ROOT = Path(__file__).parents[3]
CONFIG = SelectiveSearchConfig(min_side=8)


@pytest.fixture
def image(make_photograph: Callable[..., np.ndarray]) -> np.ndarray:
    return make_photograph("made", 96, 72)


def digest(boxes: np.ndarray) -> str:
    return hashlib.sha256(boxes.tobytes()).hexdigest()


@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_boxes(image: np.ndarray, mode: str) -> None:
    boxes = search(image, SelectiveSearchConfig(mode, min_side=8))
    assert boxes.dtype == np.float32
    assert boxes.shape == (len(boxes), 4)
    assert len(boxes) > 10
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (sides >= 8).all()
    assert (boxes >= 0).all()
    assert (boxes <= [96, 72, 96, 72]).all()
    assert (boxes == boxes.round()).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert boxes[:, 2].max() == 96  # nothing is lost at the far edges
    assert boxes[:, 3].max() == 72


def test_quality_finds_more(image: np.ndarray) -> None:
    fast, quality = (search(image, SelectiveSearchConfig(mode, 8)) for mode in ("fast", "quality"))
    assert len(quality) > len(fast)


def test_a_thing_is_found_where_it_is() -> None:
    image = np.full((60, 80, 3), 30, np.uint8)
    image[20:45, 30:70] = (220, 40, 60)
    boxes = search(image, CONFIG)
    assert np.abs(boxes - [30, 20, 70, 45]).max(axis=1).min() <= 2


def test_colours_are_taken_in_their_order(image: np.ndarray) -> None:
    """OpenCV counts blue first; selective search is not symmetric in red and blue."""
    import cv2

    searcher = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    searcher.setBaseImage(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    searcher.switchToSelectiveSearchFast()
    direct = {tuple(map(int, (x, y, x + w, y + h))) for x, y, w, h in searcher.process()}
    found = {tuple(map(int, box)) for box in search(image, SelectiveSearchConfig(min_side=1))}
    assert found == direct


def test_short_sides_are_dropped_and_nothing_else(image: np.ndarray) -> None:
    every = search(image, SelectiveSearchConfig(min_side=1))
    sides = (every[:, 2:] - every[:, :2]).min(axis=1)
    assert sides.min() < 20 <= sides.max()
    for least in (8, 20, int(sides.max())):
        kept = search(image, SelectiveSearchConfig(min_side=least))
        assert (kept == every[sides >= least]).all()
    assert search(image, SelectiveSearchConfig(min_side=97)).shape == (0, 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (19, 60)])
@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_images_with_nothing_to_propose(mode: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert search(noise, SelectiveSearchConfig(mode)).shape == (0, 4)  # min_side is 20


def test_one_colour_is_one_box() -> None:
    assert search(np.full((40, 50, 3), 7, np.uint8), CONFIG).tolist() == [[0, 0, 50, 40]]


def test_the_image_is_left_as_it_was(image: np.ndarray) -> None:
    before = image.copy()
    image.flags.writeable = False
    search(image, CONFIG)
    assert (image == before).all()


def test_memory_order_does_not_matter(image: np.ndarray) -> None:
    boxes = search(image, CONFIG)
    planes_first = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    within_larger = np.zeros((100, 200, 3), np.uint8)
    within_larger[:72, :96] = image
    for same in (planes_first, within_larger[:72, :96], np.asfortranarray(image)):
        assert (search(same, CONFIG) == boxes).all()


def test_another_seed_is_another_ranking_of_the_same_boxes(image: np.ndarray) -> None:
    first, second = (search(image, SelectiveSearchConfig(min_side=8, seed=s)) for s in (0, 1))
    assert (np.unique(first, axis=0) == np.unique(second, axis=0)).all()
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("seed", [-1, 2**31, 2**40])
def test_any_seed_will_do(image: np.ndarray, seed: int) -> None:
    config = SelectiveSearchConfig(min_side=8, seed=seed)
    assert (search(image, config) == search(image, config)).all()


# ------------------------------------------------------------------ the same boxes


def test_twice_and_in_another_order(make_photograph: Callable[..., np.ndarray]) -> None:
    images = [make_photograph(name, 64, 48) for name in "abc"]
    forward = [search(image, CONFIG) for image in images]
    backward = [search(image, CONFIG) for image in reversed(images)][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(forward[0], forward[1])


PROGRAM = """
import hashlib, io, sys
import numpy as np
from stages.proposals.selective_search import SelectiveSearchConfig, search
assert not {"torch", "torchvision", "cv2"} & set(sys.modules)
image = np.load(io.BytesIO(sys.stdin.buffer.read()))
boxes = search(image, SelectiveSearchConfig(min_side=8))
assert "cv2" in sys.modules and not {"torch", "torchvision"} & set(sys.modules)
print(hashlib.sha256(boxes.tobytes()).hexdigest())
"""


def test_another_process_finds_the_same_and_loads_no_torch(
    image: np.ndarray, tmp_path: Path
) -> None:
    """Also: OpenCV is loaded only when something is searched."""
    np.save(tmp_path / "image.npy", image)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        input=(tmp_path / "image.npy").read_bytes(),
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip() == digest(search(image, CONFIG))


def test_the_command_loads_no_torch_in_a_worker() -> None:
    """A spawned worker imports the main module again, under another name."""
    program = (
        "import runpy, sys\n"
        "runpy.run_module('rcnn_v1.__main__', run_name='__mp_main__')\n"
        "import stages.proposals.selective_search, stages.data.records\n"
        "assert not {'torch', 'torchvision', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------ records


def test_a_record_is_searched_by_its_pixels(make_voc: Callable[..., Path]) -> None:
    root = make_voc({"a": [("cat", 1, 1, 9, 9)], "b": []})
    data = VOCFolder(root, "made")
    boxes = search_record((data.train[0], CONFIG))
    assert len(boxes) > 0
    (root / "JPEGImages" / "b.jpg").write_bytes((root / "JPEGImages" / "a.jpg").read_bytes())
    assert np.array_equal(search_record((data.test[0], CONFIG)), boxes)  # another name


def test_an_unreadable_record_is_named(make_voc: Callable[..., Path]) -> None:
    record: Record = VOCFolder(make_voc({"a": [("cat", 1, 1, 9, 9)], "b": []}), "made").train[0]
    record.path.write_text("no image")
    with pytest.raises(InputError, match=r"a\.jpg"):
        search_record((record, CONFIG))
