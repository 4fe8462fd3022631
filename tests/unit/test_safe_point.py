"""Clean moments and others, by real calls; and reaching the main thread from another."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import pytest

from checkpoint_kernel import safe_point
from checkpoint_kernel.safe_point import LineWatch, MainThreadCall, Position

pytestmark = pytest.mark.unit

CELL = "<cell 1>"


def run(cell: str) -> dict[str, Any]:
    """Run a cell in which `look()` examines the stack at its caller."""
    main: dict[str, Any] = {}
    seen: list[Position] = []

    def look(*_: object) -> int:
        seen.append(safe_point.examine(sys._getframe(1), main, CELL))
        return 0

    main |= {"look": look, "seen": seen}
    exec(compile(cell, CELL, "exec"), main)
    return main


def test_this_interpreter_can_be_read() -> None:
    assert safe_point.READS_FRAMES


@pytest.mark.parametrize(
    "cell",
    [
        "look()",
        "def f(): look()\nf()",
        "def g(): look()\ndef f(): g()\nfor _ in range(2): f()",
        "class C:\n    def m(self): look()\nC().m()",
    ],
)
def test_python_calls_are_clean(cell: str) -> None:
    assert all(position.clean for position in run(cell)["seen"])


@pytest.mark.parametrize(
    "cell",
    [
        "rows = [2, 1]\ndef key(x):\n    look()\n    return x\nrows.sort(key=key)",
        "def f(x):\n    look()\nlist(map(f, [1]))",
        "def inner(): look()\ndef f(x): inner()\nmax([1], key=lambda x: f(x) or 0)",
        "class C:\n    def __len__(self):\n        look()\n        return 0\nlen(C())",
    ],
)
def test_moments_inside_a_c_call_are_not_clean(cell: str) -> None:
    positions = run(cell)["seen"]
    assert positions
    assert not any(position.clean for position in positions)


def test_the_objects_that_the_call_was_given_are_known() -> None:
    main = run(
        "rows = [2, 1]\nother = []\ndef key(x):\n    look()\n    return x\nrows.sort(key=key)"
    )
    assert any(obj is main["rows"] for obj in main["seen"][0].in_call)
    assert not any(obj is main["other"] for obj in main["seen"][0].in_call)


def test_the_line_is_that_of_the_cell() -> None:
    assert run("x = 1\ndef f():\n    look()\n\nf()")["seen"][0].line == 5


def test_a_call_from_another_thread_runs_in_the_main_thread_between_bytecodes() -> None:
    ran: list[Any] = []
    call = MainThreadCall(lambda frame: ran.append((threading.current_thread(), frame)))
    threading.Thread(target=call.request).start()
    deadline = time.monotonic() + 5
    while not ran and time.monotonic() < deadline:
        pass
    thread, frame = ran[0]
    assert thread is threading.main_thread()
    assert frame is not None


def test_what_the_call_raises_does_not_reach_the_running_code() -> None:
    def fail(_: object) -> None:
        raise ValueError("ours")

    call = MainThreadCall(fail)
    call.request()
    deadline = time.monotonic() + 5
    while call.error is None and time.monotonic() < deadline:
        pass
    assert isinstance(call.error, ValueError)


def test_the_next_line_outside_the_call_is_a_clean_moment() -> None:
    main: dict[str, Any] = {}
    reached: list[Position] = []
    watch = LineWatch(lambda frame: reached.append(safe_point.examine(frame, main, CELL)))

    def arm(value: int) -> int:
        position = safe_point.examine(sys._getframe(), main, CELL)
        watch.arm(position.outside_calls)
        return value

    main["arm"] = arm
    before = sys.gettrace()
    sys.settrace(None)  # coverage has it where the suite is measured
    try:
        exec(
            compile("def loop():\n    [2, 1].sort(key=arm)\n    x = 1\nloop()", CELL, "exec"), main
        )
        assert sys.gettrace() is None
    finally:
        sys.settrace(before)
    assert [position.clean for position in reached] == [True]
    assert not watch.armed


def test_nothing_is_watched_while_a_debugger_traces() -> None:
    watch = LineWatch(lambda frame: pytest.fail("watched"))
    before = sys.gettrace()
    tracer = lambda *_: None  # noqa: E731
    sys.settrace(tracer)
    try:
        watch.arm((sys._getframe(),))
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
    assert not watch.armed
