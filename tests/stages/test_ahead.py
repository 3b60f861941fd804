"""Work done ahead: all of it, once, in order, not too far ahead; and what goes wrong in it is said."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from stages.ahead import ahead


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_each_once_in_order(workers: int, count: int) -> None:
    made: list[int] = []

    def make(item: int) -> int:
        time.sleep(0.002 * (item % 3 == 0))  # some take longer than those after them
        made.append(item)
        return item * item

    assert list(ahead(make, range(count), workers)) == [n * n for n in range(count)]
    assert sorted(made) == list(range(count))


def test_without_workers_each_is_made_when_asked_for() -> None:
    made: list[int] = []
    results = ahead(made.append, range(9), 0)
    assert made == []
    for n in range(3):
        next(results)
        assert made == list(range(n + 1))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_with_workers_some_are_made_ahead_but_not_all(workers: int) -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for n in itertools.count():
            asked.append(n)
            yield n

    results = ahead(lambda item: item, items(), workers)
    for n in range(5):
        assert next(results) == n
        # As many as the threads work on, and as many again wait to be used.
        assert len(asked) == n + 1 + 2 * workers
    results.close()  # type: ignore[attr-defined]


def test_several_are_made_at_once() -> None:
    together = threading.Barrier(3, timeout=20)
    # Were there fewer than three at a time, the barrier would break.
    list(ahead(lambda item: together.wait(), range(9), 3))


def test_the_user_is_in_the_thread_that_asked() -> None:
    names = set(ahead(lambda item: threading.current_thread().name, range(6), 2))
    assert threading.current_thread().name not in names
    assert set(ahead(lambda item: threading.current_thread().name, range(6), 0)) == {
        threading.current_thread().name
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_what_goes_wrong_is_said_at_its_place(workers: int) -> None:
    def make(item: int) -> int:
        if item == 4:
            raise ZeroDivisionError("four")
        return item

    results = ahead(make, range(20), workers)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ZeroDivisionError, match="four"):
        next(results)


def test_one_that_is_left_early_leaves_no_thread() -> None:
    before = threading.active_count()
    results = ahead(lambda item: item, range(1000), 3)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
