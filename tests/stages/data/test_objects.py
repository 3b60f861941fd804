"""Which objects of an image stay."""

from __future__ import annotations

import numpy as np
import pytest

from stages.data.objects import Sieve

A, B, FLAT = [1.0, 2.0, 9.0, 9.0], [1.0, 2.0, 9.0, 9.5], [3.0, 3.0, 3.0, 9.0]


def sieved(
    labels: list[int], boxes: list[list[float]], crowd: list[bool] | None = None
) -> tuple[list[int], Sieve]:
    sieve = Sieve("list.txt", "train")
    names = ["" if label == 0 else ["cat", "dog"][label - 1] for label in labels]
    iscrowd = None if crowd is None else np.array(crowd)
    return sieve.keep(names, np.array(labels), np.array(boxes), "a.jpg", iscrowd).tolist(), sieve


def test_an_object_that_is_there_twice_stays_once(capsys: pytest.CaptureFixture[str]) -> None:
    kept, sieve = sieved([1, 1, 1, 2, 1], [A, B, A, A, A])
    assert kept == [0, 1, 3]  # another box, or another class, is another object
    sieve.report()
    assert capsys.readouterr().err == (
        "list.txt: dropped objects that are there twice, the second of each: 2: "
        "'cat' of a.jpg, 'cat' of a.jpg\n"
    )


def test_crowds_may_share_a_box(capsys: pytest.CaptureFixture[str]) -> None:
    kept, sieve = sieved([1, 1, 1], [A, A, A], [True, False, True])
    assert kept == [0, 1, 2]
    sieve.report()
    assert capsys.readouterr().err == ""


def test_what_has_no_area_or_no_known_class_goes(capsys: pytest.CaptureFixture[str]) -> None:
    kept, sieve = sieved([1, 0, 2], [FLAT, A, A])
    assert kept == [2]
    sieve.report()
    assert "dropped 1 boxes without area" in capsys.readouterr().err
