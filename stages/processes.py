"""Work spread over processes that start from nothing: no torch, no threads, no state of `rand()`.

Free of torch, as the search's workers are.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import TypeVar

from stages.errors import InputError
from stages.interrupts import ctrl_c_waits, leave_ctrl_c_to_parent
from stages.memory import keep_freed_memory

S = TypeVar("S")
T = TypeVar("T")


def spread(
    work: Callable[[S], T], items: Sequence[S], workers: int, at_once: int = 1
) -> Iterator[T]:
    """`work` of each item, in order.

    Args:
        work: a function of a module's own, as it is named to the workers.
        workers: processes; 0: the work is done in this one.
        at_once: items handed over together, where each is little work.

    Raises:
        BrokenProcessPool: a worker was killed.
    """
    if workers == 0 or len(items) < 2:
        yield from map(work, items)
        return
    chunks = [items[start : start + at_once] for start in range(0, len(items), at_once)]
    # Spawned, not forked: the caller may hold threads and an accelerator. An executor, not a Pool:
    # when a worker is killed it says so, where a Pool waits for ever.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(chunks)), mp_context=spawn, initializer=_prepare)
    # All workers before the thread that watches them: of one killed while it starts the others one by
    # one, which it would do, some are never heard of (CPython's own way for forked ones).
    pool._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined]
    try:
        with ctrl_c_waits():  # and is blocked in the workers, which start now
            waiting = deque(pool.submit(_work_through, work, chunk) for chunk in chunks)
        while waiting:
            yield from waiting.popleft().result()
    finally:
        # Ended, not asked to end and waited for: one killed by now may have the others wait for a lock of
        # its. What still waits is cancelled by the executor's own thread: `Executor.map` does so from
        # this one, and what the other then finds cancelled, its workers gone too, it prints as an error.
        started = list(pool._processes.values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in started:  # `terminate_workers` of Python 3.14
            process.terminate()


def apart(work: Callable[[], T]) -> T:
    """What `work` returns in a process of its own, whose memory is no other work's.

    Args:
        work: a function of a module's own, or a `partial` of one.

    Raises:
        InputError: `work` did.
        BrokenProcessPool: the process was killed, or ended by another error, which it printed.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, its = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_send, args=(its, work))
    try:
        with ctrl_c_waits():
            process.start()
        its.close()  # the process has the last one, so the pipe ends with it
        found: T | InputError = ours.recv()
    except EOFError:
        process.join()
        raise BrokenProcessPool(f"its process ended with {process.exitcode}") from None
    finally:
        if process.is_alive():
            process.terminate()
            process.join()
    if isinstance(found, InputError):
        raise found
    return found


def lost_a_worker(error: BaseException) -> bool:
    """Whether it is what is seen of a worker process that died, ours or PyTorch's DataLoader's."""
    return isinstance(error, BrokenProcessPool) or (
        isinstance(error, RuntimeError) and "DataLoader worker" in str(error)
    )


def _work_through(work: Callable[[S], T], chunk: Sequence[S]) -> list[T]:
    return [work(item) for item in chunk]


def _send(to: Connection, work: Callable[[], T]) -> None:
    _prepare()
    try:
        found: T | InputError = work()
    except InputError as error:
        found = InputError(error.line)  # those that are more than a line cannot be sent
    to.send(found)


def _prepare() -> None:
    """Have this worker keep its memory, and end when its parent does, also a killed one.

    SIGTERM ends it, as the executor wants when another worker has died.
    """
    leave_ctrl_c_to_parent()
    keep_freed_memory()  # an eighth less time an image of selective search
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
