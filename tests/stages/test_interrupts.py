"""Ctrl-C and SIGTERM, sent to this very process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from stages.interrupts import TerminatedError, held, leave_to_parent, listen


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run with it ignored
    listen()
    yield
    sys.unraisablehook = sys.__unraisablehook__
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_sigterm_is_told_of_as_ctrl_c_is() -> None:
    with pytest.raises(TerminatedError):
        send(signal.SIGTERM)
    assert issubclass(TerminatedError, KeyboardInterrupt)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminatedError)]
)
class TestHeld:
    def test_it_waits_until_there_is_way(self, number: int, error: type[BaseException]) -> None:
        said = []
        with pytest.raises(KeyboardInterrupt) as caught, held() as hold:
            assert not hold.asked
            send(number)
            assert hold.asked
            said.append("after it")
            hold.give_way()
        assert caught.type is error
        assert said == ["after it"]

    def test_it_waits_for_the_end(self, number: int, error: type[BaseException]) -> None:
        said = []
        with pytest.raises(KeyboardInterrupt) as caught:
            with held():
                send(number)
                said.append("the end")
            said.append("behind it")
        assert caught.type is error
        assert said == ["the end"]

    def test_a_second_one_does_not_wait(self, number: int, error: type[BaseException]) -> None:
        with pytest.raises(error), held():
            send(signal.SIGINT)
            send(number)
            pytest.fail("went on")

    def test_afterwards_nothing_waits(self, number: int, error: type[BaseException]) -> None:
        with held():
            pass
        with pytest.raises(error):
            send(number)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminatedError)]
)
def test_it_is_not_lost_in_a_finaliser(number: int, error: type[BaseException]) -> None:
    class Ending:
        def __del__(self) -> None:
            send(number)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        Ending()
        while time.monotonic() < began + 10:
            time.sleep(0.01)
    assert caught.type is error
    assert time.monotonic() < began + 5


def test_other_faults_of_finalisers_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    class Ending:
        def __del__(self) -> None:
            raise ZeroDivisionError

    Ending()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_what_went_wrong_in_the_block_is_told_not_the_interruption() -> None:
    with pytest.raises(ZeroDivisionError), held():
        send(signal.SIGINT)
        raise ZeroDivisionError


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held() as hold:
        send(signal.SIGINT)
        assert not hold.asked
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_in_another_thread_nothing_is_touched() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with held() as hold:
            seen.append((signal.getsignal(signal.SIGINT), hold.asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


def test_a_worker_leaves_them_to_its_parent() -> None:
    leave_to_parent()
    send(signal.SIGINT)
    send(signal.SIGTERM)
