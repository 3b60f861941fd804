"""A data set's files looked at once, and its oddities settled before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.faults import Faults
from stages.data.images import image_tensor, masks_of
from stages.data.layouts import Negatives
from stages.data.parts import TrainingSplit
from stages.data.prepared import Preparation, Prepared
from stages.data.records import Record
from stages.errors import InputError
from stages.store import Store

BOX = [4.0, 6.0, 20.0, 30.0]
PLAIN = Preparation("auto", "refuse", 0.2, 0)


@dataclass
class Written:
    """A data set as its files have it, made by hand."""

    train: list[Record]
    test: list[Record] = field(default_factory=list)
    one_split: bool = False
    wrong: Sequence[str] = ()
    name: str = "made"
    fingerprint: str = "made"
    classes: tuple[str, ...] = ("cat", "dog")
    category_ids: tuple[int, ...] = (1, 2)

    def read(self, faults: Faults) -> tuple[list[Record], list[Record]]:
        faults.lines += self.wrong
        return self.train, self.test


Make = Callable[..., Record]


@pytest.fixture
def make(tmp_path: Path, make_photograph: Callable[..., np.ndarray]) -> Make:
    """A function that writes an image and gives its record; of another size than it is, where asked."""

    def write(
        name: str,
        boxes: Sequence[Sequence[float]] = (BOX,),
        stored: tuple[int, int] = (48, 40),
        said: tuple[int, int] | None = None,
        orientation: int = 1,
        like: str | None = None,
    ) -> Record:
        path = tmp_path / f"{name}.jpg"
        image = Image.fromarray(make_photograph(like or name, *stored))
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif, quality=90)
        width, height = said or stored
        n = len(boxes)
        return Record(
            name,
            path,
            width,
            height,
            np.array(boxes, np.float32).reshape(-1, 4),
            np.arange(n) % 2 + 1,
            np.zeros(n, bool),
            np.zeros(n, bool),
        )

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def ids(records: Sequence[Record]) -> list[object]:
    return [record.image_id for record in records]


def fault_of(data: Prepared) -> str:
    with pytest.raises(InputError) as caught:
        _ = data.train
    return caught.value.line


# ------------------------------------------------------------------ what was read


def test_what_was_read_is_said(
    make: Make, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Prepared(Written([make("a", [BOX, BOX, BOX]), make("b")], [make("c")]), PLAIN, store)
    assert capsys.readouterr().err == ""  # nobody asked yet
    assert ids(data.train) == ["a", "b"] and ids(data.test) == ["c"]
    said = capsys.readouterr().err
    assert "made: training: 2 images, 4 objects: cat 3, dog 1\n" in said
    assert "made: test: 1 images, 1 objects: cat 1\n" in said
    _ = data.classes, data.train
    assert capsys.readouterr().err == ""  # once


def test_files_are_looked_at_once(make: Make, store: Store) -> None:
    written = Written([make("a")], [make("b")])
    assert ids(Prepared(written, PLAIN, store).train) == ["a"]
    (looked,) = store.root.glob("look_at_files-*")
    again = Store(store.root)
    assert ids(Prepared(written, PLAIN, again).train) == ["a"]
    assert [artifact.path for artifact in again.used] == [looked]
    make("a", like="other")
    _ = Prepared(written, PLAIN, again).train
    assert len(list(store.root.glob("look_at_files-*"))) == 2


def test_a_record_knows_its_file_by_its_content(make: Make, store: Store) -> None:
    written = Written([make("a"), make("b", like="a")], [make("c")])
    a, b = Prepared(written, PLAIN, store).train
    assert a.content == b.content != ""
    before = TrainingSplit(Prepared(written, PLAIN, store)).fingerprint
    (a.path).touch()  # copied elsewhere, say
    assert TrainingSplit(Prepared(written, PLAIN, store)).fingerprint == before
    make("a", like="other")
    assert TrainingSplit(Prepared(written, PLAIN, store)).fingerprint != before


def test_a_corrected_test_label_trains_nothing_again(make: Make, store: Store) -> None:
    train, test = [make("a")], make("c")
    before = Prepared(Written(train, [test]), PLAIN, store)
    corrected = dataclasses.replace(test, labels=np.array([2]))
    after = Prepared(Written(train, [corrected], fingerprint="edited"), PLAIN, store)
    assert after.fingerprint != before.fingerprint
    assert TrainingSplit(after).fingerprint == TrainingSplit(before).fingerprint


def test_the_options_are_in_the_name(make: Make, store: Store) -> None:
    written = Written([make("a")], [make("b")])
    options = [
        PLAIN,
        dataclasses.replace(PLAIN, negatives="skip"),
        dataclasses.replace(PLAIN, unreadable="leave-out"),
        dataclasses.replace(PLAIN, holdout=0.3),
        dataclasses.replace(PLAIN, holdout_seed=1),
        dataclasses.replace(PLAIN, most_pixels=100),
    ]
    assert len({Prepared(written, option, store).fingerprint for option in options}) == 6


# ------------------------------------------------------------------ files that are none


def test_an_unreadable_image_is_left_out_of_training(
    make: Make, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [make("a"), make("b"), make("c")]
    train[1].path.write_text("no picture")
    data = Prepared(Written(train, [make("d")]), PLAIN, store)
    assert ids(data.train) == ["a", "c"]
    said = capsys.readouterr().err
    assert f"left out of training, not readable: 1: {train[1].path}: not readable as an" in said


def test_in_the_test_split_it_is_refused_or_left_out(make: Make, store: Store) -> None:
    test = [make("a"), make("b"), make("c")]
    for record in test[:2]:
        record.path.write_text("no picture")
    written = Written([make("d")], test)
    assert fault_of(Prepared(written, PLAIN, store)).startswith("made: 2 faults")
    leave_out = dataclasses.replace(PLAIN, unreadable="leave-out")
    assert ids(Prepared(written, leave_out, store).test) == ["c"]


def test_nothing_readable_is_no_training(make: Make, store: Store) -> None:
    train = [make("a")]
    train[0].path.write_text("no picture")
    assert "nor is any other image of training" in fault_of(
        Prepared(Written(train, [make("b")]), PLAIN, store)
    )


def test_images_of_more_than_eight_bits_are_counted_with_their_range(
    make: Make, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [make(name) for name in "abcde"]
    for record, most in zip(train, (4095, 3000, 65535, 255, 2000), strict=False):
        values = np.linspace(0, most, record.width * record.height).astype(np.uint16)
        deep = Image.fromarray(values.reshape(record.height, record.width))
        deep.save(record.path, "PNG")
    data = Prepared(Written(train, [make("f")]), PLAIN, store)
    assert len(data.train) == 5
    # 16 bits of 16 need no word.
    assert (
        "4 images have more than 8 bits a value and are shown from black to white by the range of each: "
        "a.jpg 0 to 4095, b.jpg 0 to 4095, d.jpg 0 to 255, .." in capsys.readouterr().err
    )


def test_a_jpeg_without_its_end_is_read_and_counted(
    make: Make, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [make("a", stored=(160, 120)), make("b")]
    train[0].path.write_bytes(train[0].path.read_bytes()[:-40])
    data = Prepared(Written(train, [make("c")]), PLAIN, store)
    assert image_tensor(data.train[0]).shape == (3, 120, 160)
    assert "1 JPEGs lack their end and are read as far as they go: a.jpg" in capsys.readouterr().err


def test_all_faults_at_once(make: Make, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Of annotations, of sizes, of files: of both splits."""
    train, test = make("a", said=(48, 41)), make("b")
    test.path.write_text("no picture")
    written = Written([train, make("c")], [test], wrong=["x.xml: missing"])
    assert fault_of(Prepared(written, PLAIN, store)).startswith("made: 3 faults")
    said = capsys.readouterr().err
    assert "  x.xml: missing\n" in said
    assert "a.jpg: 48x40 pixels, but its annotation says 48x41\n" in said
    assert "b.jpg: not readable as an image" in said


def test_a_mask_of_another_size_is_a_fault(make: Make, store: Store) -> None:
    record = make("a")
    mask = record.path.with_name("mask.png")
    Image.new("L", (40, 48)).save(mask)
    masked = dataclasses.replace(record, mask_path=mask, mask_ids=np.array([1]))
    assert "mask.png: 40x48 pixels, but a.jpg has 48x40" in fault_of(
        Prepared(Written([masked], [make("b")]), PLAIN, store)
    )


# ------------------------------------------------------------------ turned images


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labelled_as_stored_boxes_turn_with_the_image(
    make: Make, store: Store, orientation: int, capsys: pytest.CaptureFixture[str]
) -> None:
    sideways = make("a", stored=(48, 40), said=(48, 40), orientation=orientation)
    upside_down = make("b", stored=(48, 40), orientation=3)
    stored_mask = np.zeros((40, 48), np.uint8)
    stored_mask[6:30, 4:20] = 1
    mask = sideways.path.with_name("mask.png")
    Image.fromarray(stored_mask).save(mask)
    sideways = dataclasses.replace(sideways, mask_path=mask, mask_ids=np.array([1]))
    data = Prepared(Written([sideways, upside_down, make("c")], [make("d")]), PLAIN, store)
    turned, flipped, straight = data.train
    assert image_tensor(turned).shape == (3, 48, 40)
    assert (turned.width, turned.height) == (40, 48)
    x1, y1, x2, y2 = turned.boxes[0].astype(int).tolist()
    pixels = masks_of(turned)[0].numpy()
    assert pixels[y1:y2, x1:x2].all() and pixels.sum() == (x2 - x1) * (y2 - y1) == 16 * 24
    assert flipped.boxes.tolist() == [[28, 10, 44, 34]]  # its size could not tell; the others' did
    assert straight.boxes.tolist() == [BOX]
    assert "objects were marked on images as they are stored: 1 that EXIF turns" in (
        capsys.readouterr().err
    )


def test_labelled_as_shown_nothing_turns(make: Make, store: Store) -> None:
    shown = make("a", stored=(48, 40), said=(40, 48), orientation=6)
    data = Prepared(Written([shown], [make("b")]), PLAIN, store)
    assert data.train[0].boxes.tolist() == [BOX]
    assert (data.train[0].width, data.train[0].height) == (40, 48)


def test_both_ways_in_one_data_set_are_refused_with_both_files(make: Make, store: Store) -> None:
    shown = make("a", stored=(48, 40), said=(40, 48), orientation=6)
    stored = make("b", stored=(48, 40), said=(48, 40), orientation=6)
    written = Written([shown], [stored])
    with pytest.raises(InputError):
        _ = Prepared(written, PLAIN, store).train
    faults = Faults("made")
    with faults.caught():
        _ = Prepared(written, PLAIN, store).test
    assert len(faults.lines) == 1


# ------------------------------------------------------------------ images without objects


@pytest.mark.parametrize(
    ("negatives", "kept", "what"),
    [
        ("auto", ["b"], "are left out (--data.negatives use has them teach what is background)"),
        (
            "use",
            ["a", "b", "c"],
            "teach what is background (--data.negatives skip leaves them out)",
        ),
        ("skip", ["b"], "are left out (--data.negatives use has them teach what is background)"),
    ],
)
def test_images_without_objects(
    make: Make,
    store: Store,
    negatives: Negatives,
    kept: list[str],
    what: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = Written([make("a", []), make("b"), make("c", [])], [make("d", []), make("e")])
    data = Prepared(written, dataclasses.replace(PLAIN, negatives=negatives), store)
    assert ids(data.train) == kept
    assert ids(data.test) == ["d", "e"]  # a false alarm there counts
    assert f"made: warning: 2 of 3 training images have no object and {what}\n" in (
        capsys.readouterr().err
    )


# ------------------------------------------------------------------ one split, and twins


def test_of_one_split_a_part_is_held_out(
    make: Make, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [make(f"{n:02d}") for n in range(20)]
    data = Prepared(Written(records, records, one_split=True), PLAIN, store)
    assert len(data.test) == 4
    assert sorted(ids([*data.train, *data.test])) == ids(records)
    assert "4 of its 20 images are held out to test on" in capsys.readouterr().err
    again = Prepared(Written(records, records, one_split=True), PLAIN, store)
    assert ids(again.test) == ids(data.test)
    other = dataclasses.replace(PLAIN, holdout_seed=1)
    assert ids(Prepared(Written(records, records, one_split=True), other, store).test) != (
        ids(data.test)
    )


def test_twins_are_held_out_together(make: Make, store: Store) -> None:
    records = [make(f"{n:02d}", like=f"{n // 4}", stored=(96, 80)) for n in range(20)]
    half = dataclasses.replace(PLAIN, holdout=0.4)
    data = Prepared(Written(records, records, one_split=True), half, store)
    held = {int(str(name)) // 4 for name in ids(data.test)}
    assert len(data.test) == 8 and len(held) == 2


def test_a_test_image_that_is_in_training_too_is_said(
    make: Make, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    big = (96, 80)
    train = [make("a", stored=big), make("b", stored=big)]
    test = [make("c", stored=big, like="b"), make("d", stored=big)]
    _ = Prepared(Written(train, test), PLAIN, store).test
    said = capsys.readouterr().err
    assert "warning: 1 test images are, the same or nearly, in training too: b.jpg = c.jpg" in said
