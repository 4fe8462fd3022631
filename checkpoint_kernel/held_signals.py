"""Signals held back for the milliseconds in which this process must not be left half done.

A Python signal handler may raise (Ctrl-C does, and so do timeouts by SIGALRM), and it runs
between any two bytecodes of the main thread. Blocking the signal in that thread does not
help: another thread of the kernel takes it, and the handler runs in the main thread all the
same. So the handlers themselves are replaced. Covers handlers written in Python.
"""

from __future__ import annotations

# signal.getsignal looks an enum up: 70 microseconds for all signals, against 3.
import _signal  # type: ignore[import-not-found]
import contextlib
import ctypes
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

_NUMBERS: Final = sorted(
    int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
)


@dataclass(frozen=True, eq=False)
class _Block:
    """What one `held_back` has replaced."""

    thread: int
    note: Callable[[int, types.FrameType | None], None]
    before: dict[int, Any] = field(default_factory=dict)  # signal -> its handler

    def put_back(self) -> None:
        try:
            for number, handler in self.before.items():
                # The block itself may have set another one (a kernel that ends does).
                if _signal.getsignal(number) is self.note:
                    _signal.signal(number, handler)
        except BaseException:  # of a handler that is back: the others are still to come
            self.put_back()
            raise


_blocks: Final[list[_Block]] = []  # that have not ended, the innermost last


@contextlib.contextmanager
def held_back(*, in_pending_call: bool = False) -> Iterator[None]:
    """Run no signal handler until the block has ended; then run those that are due, in order.

    What a handler raises is raised at the end of the block. Out of a pending call nothing can
    be raised: `in_pending_call` has them run when that call is over. In other threads than
    the main one no handler runs anyway. Blocks may be nested.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    due: list[int] = []

    def note(number: int, _frame: types.FrameType | None) -> None:
        due.append(number)

    block = _Block(threading.get_ident(), note)
    try:
        _blocks.append(block)  # before the first is replaced: another thread may fork at any moment
        for number in _NUMBERS:
            handler = _signal.getsignal(number)
            if callable(handler):
                block.before[number] = handler
                _signal.signal(number, note)
        yield
    finally:
        try:
            block.put_back()
        finally:
            _blocks.remove(block)
            if in_pending_call:
                for number in due:
                    trip_after_pending_call(number)
            else:
                _deliver(due, block.before)


def handlers() -> dict[int, Any]:
    """The handlers written in Python, by signal, as they are outside of all blocks."""
    found = {}
    for number in _NUMBERS:
        handler = _signal.getsignal(number)
        for block in reversed(_blocks):
            if handler is block.note:
                handler = block.before[number]
        if callable(handler):
            found[number] = handler
    return found


def _in_forked_child() -> None:
    """Another thread has forked: nobody in its child would end the blocks of the main thread.

    What a signal does there is up to the user's handlers. A child that the main thread forks
    inside a block ends the block by itself.
    """
    while _blocks and _blocks[-1].thread != threading.get_ident():
        _blocks.pop().put_back()


os.register_at_fork(after_in_child=_in_forked_child)


def _deliver(due: list[int], handlers: dict[int, Any]) -> None:
    """Call the handlers; one that raises does not cost the others their turn."""
    while due:
        number = due.pop(0)
        try:
            handlers[number](number, sys._getframe(2))
        finally:
            _deliver(due, handlers)


_trip: Final = ctypes.cast(ctypes.pythonapi.PyErr_SetInterruptEx, ctypes.c_void_p)


def trip_after_pending_call(number: int) -> None:
    """Inside a pending call: have a signal's handler run as soon as that call is over.

    The next call in the queue is C code alone, `PyErr_SetInterruptEx(number)`, and what the
    handler raises is raised in the code that the pending call has interrupted.
    """
    ctypes.pythonapi.Py_AddPendingCall(_trip, ctypes.c_void_p(number))
