"""Signals wait for the end of a block, all of them, and are raised where they belong."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from checkpoint_kernel import held_signals
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


def test_a_handler_that_raises_while_they_are_put_back_costs_no_other_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler = lambda *_: None  # noqa: E731
    signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGUSR2, handler)
    put = held_signals._signal.signal

    def interrupted(number: int, new: Any) -> None:
        put(number, new)
        if new is signal.default_int_handler:
            send(signal.SIGINT)

    def block() -> None:
        with held_back():
            send(signal.SIGUSR2)
            monkeypatch.setattr(held_signals._signal, "signal", interrupted)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert signal.getsignal(signal.SIGUSR1) is handler
    assert signal.getsignal(signal.SIGUSR2) is handler
    assert not held_signals._blocks


def in_child(look: Callable[[], Any]) -> str:
    """The repr of what a forked child sees."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_fd, repr(look()).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with open(read_fd, "rb") as pipe:
        seen = pipe.read().decode()
    os.waitpid(pid, 0)
    return seen


def handlers_now() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)]


def in_child_of_another_thread(look: Callable[[], Any]) -> str:
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(in_child(look)))
    thread.start()
    thread.join()
    return seen[0]


def test_the_child_of_another_thread_has_the_users_handlers() -> None:
    """Nobody in it ends the blocks of the main thread: SIGTERM would do nothing to it."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    users = repr(handlers_now())
    with held_back(), held_back():
        assert repr(handlers_now()) != users
        assert in_child_of_another_thread(handlers_now) == users
    assert repr(handlers_now()) == users


def test_the_child_of_another_thread_holds_back_for_itself() -> None:
    def look() -> list[Any]:
        with held_back():
            os.kill(os.getpid(), signal.SIGUSR1)
        return ran

    ran: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: ran.append(int(number)))
    with held_back():
        assert in_child_of_another_thread(look) == repr([int(signal.SIGUSR1)])


def test_the_child_of_the_main_thread_holds_back_until_the_block_ends() -> None:
    with held_back():
        inside = in_child(handlers_now)
        now = repr(handlers_now())
    assert inside == now
    assert "note" in inside


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
