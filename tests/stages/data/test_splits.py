"""Which splits are taken when nobody says, and what is said when that cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.data.coco import kinds_of
from stages.data.splits import choose_splits, spelt, usual_kind
from stages.errors import InputError

WHERE = Path("somewhere")


def choose(names: str, train: str = "auto", test: str = "auto") -> tuple[str, str]:
    splits = dict.fromkeys(names.split())
    usual = kinds_of(splits)
    return choose_splits(WHERE, splits, usual, train, test)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("train val test", ("train", "test")),
        ("train val", ("train", "val")),
        ("trainval train val test", ("trainval", "test")),
        ("trainval train val", ("train", "val")),  # trainval holds the images of val
        ("trainval val", ("trainval", "val")),
        ("train2017 val2017 captions_train2017 person_keypoints_val2017", ("train2017", "val2017")),
        ("training_set Train_2020 valid", ("Train_2020", "valid")),
    ],
)
def test_usual_names(names: str, expected: tuple[str, str]) -> None:
    assert choose(names) == expected


def test_names_as_asked_for() -> None:
    assert choose("train val few", "few") == ("few", "val")
    assert choose("a b", "b", "a") == ("b", "a")
    assert choose("trainval train val", "trainval", "auto") == ("trainval", "val")


@pytest.mark.parametrize(
    ("names", "asked", "fault"),
    [
        (
            "train few",
            (),
            "somewhere: has train, few; none of them is the usual one to test on; choose with",
        ),
        ("val few", (), "has val, few; none of them is the usual one to train on"),
        ("train", ("auto", "val"), "has train; there is no split 'val' to test on"),
        ("", (), "has no split"),
        ("a b", (), "has a, b; none"),
        ("train2014 train2017 val", (), "train2014 and train2017 could both be it; choose"),
        ("train val", ("few",), "there is no split 'few' to train on"),
        ("train val", ("auto", "few"), "there is no split 'few' to test on"),
        ("train val", ("val",), "val would be both"),
        ("train val", ("auto", "train"), "train would be both"),
    ],
)
def test_what_cannot_be_told(names: str, asked: tuple[str, ...], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        choose(names, *asked)


@pytest.mark.parametrize("name", ["train", "val", "default", "Train"])
def test_the_only_split_is_both(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert choose(name) == (name, name)
    assert capsys.readouterr().err == ""  # nobody tests on it: a part is held out


def test_one_split_for_both_is_the_users_own_doing(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose("train", "train", "train") == ("train", "train")
    (warning,) = capsys.readouterr().err.splitlines()
    assert "same images" in warning


def test_kinds_by_the_whole_name_in_any_case() -> None:
    kinds = {
        "trainval": "trainval",
        "Train": "train",
        "train2017": "train",
        "VALID": "val",
        "Validation": "val",
        "val_2": "val",
        "test-1": "test",
    }
    assert {name: usual_kind(name) for name in kinds} == kinds
    assert not any(map(usual_kind, ["cat_train", "training", "default", "my test", "", "test1a"]))


def test_names_as_they_are_spelt() -> None:
    assert spelt("train", ["Train", "Test"]) == "Train"
    assert spelt("train", ["Train", "train"]) == "train"
    assert spelt("TRAIN", ["Train", "train"]) == "TRAIN"  # either could be meant
    assert spelt("few", ["Train"]) == "few"
    assert spelt("auto", ["AUTO"]) == "auto"
