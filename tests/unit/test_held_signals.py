"""Signals wait for the end of a block, all of them, and are raised where they belong."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from checkpoint_kernel.held_signals import held_back
from checkpoint_kernel.safe_point import MainThreadCall

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers of before, whatever a test has set."""
    numbers = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # another thread may be the one that takes it


def test_a_ctrl_c_inside_is_raised_at_the_end() -> None:
    reached = []

    def block() -> None:
        with held_back():
            send(signal.SIGINT)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached == ["the end"]


def test_blocks_may_be_nested() -> None:
    reached = []

    def blocks() -> None:
        with held_back():
            with held_back():
                send(signal.SIGINT)
            reached.append("after the inner one")

    with pytest.raises(KeyboardInterrupt):
        blocks()
    assert reached == ["after the inner one"]


def test_handlers_are_run_in_order_and_each_of_them() -> None:
    ran: list[int] = []

    def note(number: int, _frame: Any) -> None:
        ran.append(number)
        raise RuntimeError(number)

    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, note)

    def block() -> None:
        with held_back():
            send(signal.SIGUSR2)
            send(signal.SIGUSR1)
            assert ran == []

    with pytest.raises(RuntimeError):
        block()
    assert ran == [signal.SIGUSR2, signal.SIGUSR1]


def test_the_handlers_are_those_of_before() -> None:
    handler = lambda *_: None  # noqa: E731
    signal.signal(signal.SIGUSR1, handler)
    with held_back():
        assert signal.getsignal(signal.SIGUSR1) is not handler
    assert signal.getsignal(signal.SIGUSR1) is handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_set_inside_stays() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    with held_back():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held_back():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        send(signal.SIGINT)


def test_in_another_thread_nothing_is_touched() -> None:
    seen: list[Any] = []

    def work() -> None:
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_a_ctrl_c_during_a_pending_call_is_raised_in_the_code_it_interrupted(
    capfd: pytest.CaptureFixture[str],
) -> None:
    call = MainThreadCall(lambda _: send(signal.SIGINT))

    def spin() -> None:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            str(deadline)

    for _ in range(10):
        timer = threading.Timer(0.02, call.request)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            spin()
        timer.join()
    assert call.error is None
    assert capfd.readouterr() == ("", "")  # "Exception ignored on calling ctypes callback"
