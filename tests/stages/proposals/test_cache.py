"""The file of proposals: what was written is read, of that data set only, in any process."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages.data.records import Record
from stages.errors import DamagedError, InputError
from stages.proposals.cache import Proposals, write_proposals


def record(image_id: str | int, width: int = 100, height: int = 80) -> Record:
    none = np.zeros(0, bool)
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return Record(image_id, Path(f"{image_id}.jpg"), width, height, boxes, labels, none, none)


def boxes_of(n: int, seed: int = 0) -> np.ndarray:
    corners = np.random.default_rng(seed).integers(0, 40, (n, 4)).astype(np.float32)
    corners[:, 2:] += 40.5
    return corners


RECORDS = [record("a"), record("b", 64, 48), record(17), record("é ü/x"), record("last")]
BOXES = [boxes_of(5, 1), boxes_of(0), boxes_of(9000, 2), boxes_of(1, 3), boxes_of(3, 4)]


def written(
    path: Path, records: Sequence[Record] = RECORDS, boxes: Sequence[np.ndarray] = BOXES
) -> Path:
    write_proposals(path / "proposals.h5", records, boxes)
    return path / "proposals.h5"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    proposals = Proposals(written(tmp_path))
    for _ in range(2):
        for made, boxes in reversed(list(zip(RECORDS, BOXES, strict=True))):
            read = proposals.of(made)
            assert read.dtype == np.float32
            assert read.shape == boxes.shape
            assert np.array_equal(read, boxes)


@pytest.mark.parametrize("top", [0, 1, 4, 5, 6, 10**9, None])
def test_the_best_ranked(tmp_path: Path, top: int | None) -> None:
    proposals = Proposals(written(tmp_path))
    assert np.array_equal(proposals.of(RECORDS[0], top), BOXES[0][:top])
    assert np.array_equal(proposals.of(RECORDS[4], top), BOXES[4][:top])
    assert proposals.of(RECORDS[1], top).shape == (0, 4)


def test_no_proposal_in_any_image(tmp_path: Path) -> None:
    records = [record("a"), record("b")]
    proposals = Proposals(written(tmp_path, records, [boxes_of(0), boxes_of(0)]))
    assert [proposals.of(r).shape for r in records] == [(0, 4), (0, 4)]


def test_no_image(tmp_path: Path) -> None:
    proposals = Proposals(written(tmp_path, [], []))
    with pytest.raises(InputError, match="another data set"):
        proposals.of(record("a"))


@pytest.mark.parametrize(
    "other", [record("A"), record("a.jpg"), record("a", 80, 100), record("a", 101, 80), record(1)]
)
def test_another_data_sets_images_are_refused(tmp_path: Path, other: Record) -> None:
    path = written(tmp_path)
    with pytest.raises(InputError, match="another data set") as raised:
        Proposals(path).of(other)
    assert str(path) in str(raised.value)
    assert repr(other.image_id) in str(raised.value)


def test_the_same_proposals_are_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()


def test_a_flipped_bit_is_not_read_as_a_box(tmp_path: Path) -> None:
    """Large files are checked only here (fletcher32)."""
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    place = content.index(BOXES[2][5000].tobytes())
    content[place + 2] ^= 4
    path.write_bytes(content)
    proposals = Proposals(path)
    with pytest.raises((OSError, InputError)):
        proposals.of(RECORDS[2])


def test_a_flipped_bit_anywhere_is_damage_or_nothing(tmp_path: Path) -> None:
    """Nor as other images' boxes, an image's other name or size: there are no others' checksums."""
    records = [record(f"image-{n:03d}") for n in range(200)]
    boxes = [boxes_of(n % 7, n) for n in range(200)]
    path = written(tmp_path, records, boxes)
    whole, rng = path.read_bytes(), np.random.default_rng(5)
    damaged = 0
    for place in rng.choice(len(whole), 200, replace=False).tolist():
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            proposals = Proposals(path)
            assert all(
                np.array_equal(proposals.of(of_image), there)
                for of_image, there in zip(records, boxes, strict=True)
            )
        except DamagedError:
            damaged += 1
    assert damaged > 100  # of the rest nothing depends


def plain(path: Path, names: Any) -> Path:
    """As anybody with h5py would write it."""
    with h5py.File(path, "w") as file:
        file["boxes"] = np.concatenate(BOXES)
        file["offsets"] = np.cumsum([0, *map(len, BOXES)])
        file["sizes"] = np.array([(made.width, made.height) for made in RECORDS])
        file["image_ids"] = names
    return path


def test_made_elsewhere_without_checksums_it_is_read(tmp_path: Path) -> None:
    names = np.array([str(made.image_id).encode() for made in RECORDS])
    proposals = Proposals(plain(tmp_path / "proposals.h5", names))
    for made, boxes in zip(RECORDS, BOXES, strict=True):
        assert np.array_equal(proposals.of(made), boxes)


def test_names_of_any_length_are_refused(tmp_path: Path) -> None:
    """HDF5 itself hangs on a damaged heap of them."""
    path = plain(tmp_path / "proposals.h5", [str(made.image_id) for made in RECORDS])
    with pytest.raises(InputError, match="image_ids is text of any length; it must be of one"):
        Proposals(path)


@pytest.mark.parametrize("content", [None, b"", b"no HDF5", b"\x89HDF\r\n\x1a\n"])
def test_no_file_of_proposals(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "proposals.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        Proposals(path)
    assert str(raised.value).startswith(f"{path}: not a file of proposals")
    assert "\n" not in str(raised.value)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["features"] = np.zeros(3)
    with pytest.raises(InputError, match="not a file of proposals"):
        Proposals(tmp_path / "features.h5")


def wrong(name: str, value: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file[name]
            if value is not None:
                file[name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        wrong("boxes", np.zeros((9009, 5), np.float32)),
        wrong("boxes", np.zeros((9009, 4), np.int64)),
        wrong("boxes", np.zeros((9008, 4), np.float32)),
        wrong("offsets", np.array([0, 5, 5, 9005, 9006])),
        wrong("offsets", np.array([0, 5, 5, 9005, 9006, 9010])),
        wrong("offsets", np.array([0, 5, 4, 9005, 9006, 9009])),
        wrong("offsets", np.array([0, 5, 5, 9005, 9006, 9009.0])),
        wrong("sizes", np.zeros((5, 3), np.int64)),
        wrong("image_ids", ["a"]),
        wrong("image_ids", np.zeros(5)),
        wrong("image_ids", h5py.ExternalLink("/etc/hostname", "/x")),
        lambda path: path.chmod(0o644) or path.unlink() or path.mkdir(),
    ],
)
def test_a_file_that_contradicts_itself(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = written(tmp_path)
    change(path)
    with pytest.raises(DamagedError) as raised:
        Proposals(path)
    assert str(raised.value).startswith(f"{path}: not a file of proposals: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "box",
    [(0, 0, np.nan, 5), (0, 0, 1e30, 5), (-5, 0, 5, 5), (5, 0, 0, 5), (0, 9, 5, 5), (0, 0, 5, 83)],
)
def test_proposals_that_are_no_boxes_of_their_image(tmp_path: Path, box: Any) -> None:
    boxes = [np.array([[0, 0, 101, 81], box], np.float32), *BOXES[1:]]
    proposals = Proposals(written(tmp_path, boxes=boxes))
    assert len(proposals.of(RECORDS[0], 1)) == 1  # a pixel over the edge is rounding
    with pytest.raises(DamagedError, match="no boxes of 'a'"):
        proposals.of(RECORDS[0])
    assert len(proposals.of(RECORDS[2])) == 9000


@pytest.mark.parametrize("read_before", [False, True])
def test_it_can_be_pickled(tmp_path: Path, read_before: bool) -> None:
    proposals = Proposals(written(tmp_path))
    if read_before:  # the file is open
        proposals.of(RECORDS[0])
    again = pickle.loads(pickle.dumps(proposals))
    assert np.array_equal(again.of(RECORDS[2]), BOXES[2])
    assert np.array_equal(proposals.of(RECORDS[2]), BOXES[2])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_crosses_into_another_process(tmp_path: Path, method: str) -> None:
    proposals = Proposals(written(tmp_path))
    proposals.of(RECORDS[0])  # the file is open
    with multiprocessing.get_context(method).Pool(1) as pool:
        there = pool.apply(proposals.of, (RECORDS[2], 100))
    assert np.array_equal(there, BOXES[2][:100])
    assert np.array_equal(proposals.of(RECORDS[4]), BOXES[4])
