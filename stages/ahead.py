"""Work done ahead of its use, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def ahead(make: Callable[[S], T], items: Iterable[S], workers: int) -> Iterator[T]:
    """`make` of each item, in order, while what was made before is being used.

    Threads, not processes, for work that releases Python's lock, as decoding does: forking a
    process that holds a network made the network's own pass a quarter slower (the kernel
    splits its large pages to copy them on write).

    Args:
        workers: threads (0: none, each item is made when it is asked for).
    """
    if workers == 0:
        yield from map(make, items)
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
