"""Where the main thread stands: is this a moment at which the namespace can be saved?

Between two bytecodes is not enough: inside `rows.sort(key=f)` the list is empty while `f`
runs. A moment is clean when no C call lies between the cell's frame and the innermost one.
CPython keeps that fact in its interpreter frames, which Python code cannot see; their
layout is read here by offset, after a self-test that must recognise one case of each kind.
Where the self-test fails, only the cell's own frame counts as clean.
"""

from __future__ import annotations

import ctypes
import dis
import inspect
import signal
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .held_signals import held_back, trip_after_pending_call

_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)
_FRAME_FIELD: Final = object.__basicsize__ + _POINTER  # PyFrameObject.f_frame, after f_back


def _byte(address: int) -> int:
    return ctypes.c_ubyte.from_address(address).value


def _pointer(address: int) -> int:
    return ctypes.c_void_p.from_address(address).value or 0


def _entered_from_c_3_11(frame: types.FrameType) -> bool:
    # Include/internal/pycore_frame.h of 3.11: eight pointers, int stacktop, bool is_entry.
    interpreter_frame = _pointer(id(frame) + _FRAME_FIELD)
    return _byte(interpreter_frame + 8 * _POINTER + 4) != 0


def _entered_from_c_3_12(frame: types.FrameType) -> bool:
    # From 3.12 on a frame that C code entered has a previous frame owned by the C stack
    # (3.14: by the interpreter). `owner` follows the instruction pointer, an int (3.14: a
    # pointer) for the stack, and the 16-bit return offset.
    stack_bytes = _POINTER if sys.version_info >= (3, 14) else 4
    interpreter_frame = _pointer(id(frame) + _FRAME_FIELD)
    previous = _pointer(interpreter_frame + _POINTER)
    return previous != 0 and _byte(previous + 8 * _POINTER + stack_bytes + 2) == 3


_entered_from_c = _entered_from_c_3_11 if sys.version_info < (3, 12) else _entered_from_c_3_12


def _self_test() -> bool:
    """One call from Python and one through C, told apart?"""

    def probe(_: object = None) -> bool:
        return _entered_from_c(sys._getframe())

    def through_python() -> bool:
        return probe()

    seen: list[bool] = []

    def key(_: object) -> int:
        seen.append(probe_here())
        return 0

    def probe_here() -> bool:
        frame = sys._getframe(1)
        return _entered_from_c(frame)

    try:
        direct = through_python()
        [0].sort(key=key)
    except Exception:
        return False
    return direct is False and seen == [True]


if sys.implementation.name == "cpython" and (3, 11) <= sys.version_info[:2] <= (3, 14):
    READS_FRAMES: bool = _self_test()
else:
    READS_FRAMES = False


@dataclass(frozen=True)
class Position:
    """Where the main thread stands in a cell."""

    clean: bool  # no C call is under way that could be changing something
    users: bool  # clean, and in code of the user's: no library is half way through something
    line: int | None  # in the cell, from 1
    frames: tuple[types.FrameType, ...]  # the user's functions, outermost first, cell excluded
    callers: tuple[types.FrameType, ...]  # frames whose C call is under way, innermost first
    outside_calls: tuple[types.FrameType, ...] = ()  # the user's frames below the first C call

    @property
    def in_call(self) -> tuple[Any, ...]:
        """Objects that a C call under way was given.

        Found when asked, by the snapshot process: looking at a function's locals in the kernel
        would keep them alive until the function ends (before 3.13).
        """
        return tuple(obj for caller in self.callers for obj in _named_on_line(caller))


IDLE: Final = Position(True, True, None, (), ())


def examine(
    innermost: types.FrameType | None,
    main: dict[str, Any],
    cell_file: str | None,
    in_c: bool = False,
) -> Position:
    """Judge the stack that ends in `innermost`.

    `in_c` says that the main thread is inside a C call made by the innermost frame (the
    caller looks from another thread).
    """
    stack: list[types.FrameType] = []
    frame = innermost
    line: int | None = None
    while frame is not None:
        stack.append(frame)
        if frame.f_globals is main and frame.f_code.co_filename == cell_file:
            line = frame.f_lineno  # the outermost one wins: the cell itself, not its functions
        frame = frame.f_back
    # Innermost first. `%%time` and others run a cell's statements by exec(), a C call that
    # changes nothing itself: what counts is the statements' own frame.
    cell = next((f for f in stack if f.f_globals is main and _holds_statements(f)), None)
    if cell is None:
        return Position(not in_c, not in_c, line, (), ())
    inner = stack[: stack.index(cell)]
    callers = [
        caller
        for callee, caller in zip(inner, [*inner, cell][1:], strict=True)
        if not READS_FRAMES or _entered_from_c(callee)
    ]
    if in_c and innermost is not None:
        callers.insert(0, innermost)
    outermost_first = [cell, *reversed(inner)]
    calling = outermost_first.index(callers[-1]) + 1 if callers else len(outermost_first)
    return Position(
        clean=not callers,
        users=not callers and outermost_first[-1].f_globals is main,
        line=line,
        frames=tuple(f for f in reversed(inner) if f.f_globals is main),
        callers=tuple(callers),
        outside_calls=tuple(f for f in outermost_first[:calling] if f.f_globals is main),
    )


def _holds_statements(frame: types.FrameType) -> bool:
    """A cell, a class body or what exec() runs, but no function."""
    return not frame.f_code.co_flags & inspect.CO_NEWLOCALS


def _named_on_line(frame: types.FrameType) -> list[Any]:
    """The objects that the line being executed names: what its call can reach directly."""
    here = frame.f_lineno
    names: set[str] = set()
    line: int | None = None
    for instruction in dis.get_instructions(frame.f_code):
        positions = instruction.positions
        line = positions.lineno if positions else line
        if line == here and isinstance(instruction.argval, str):
            names.add(instruction.argval)
        elif line == here and isinstance(instruction.argval, tuple):
            names.update(name for name in instruction.argval if isinstance(name, str))
    scopes = (frame.f_locals, frame.f_globals)
    return [scope[name] for name in names for scope in scopes if name in scope]


def values_of(frame: types.FrameType) -> list[Any]:
    """What the locals of a frame of this thread hold, cells as such; [] where that cannot be read.

    Before 3.13 `frame.f_locals` would keep them alive until the function ends.
    """
    if sys.version_info >= (3, 13):
        return list(frame.f_locals.values())
    if not READS_FRAMES:
        return []
    code = frame.f_code
    own_cells = [name for name in code.co_cellvars if name not in code.co_varnames]
    count = code.co_nlocals + len(own_cells) + len(code.co_freevars)
    # `localsplus` follows eight pointers, an int, and three bytes or less (as in _entered_from_c).
    first = _pointer(id(frame) + _FRAME_FIELD) + 9 * _POINTER
    held = [_pointer(first + number * _POINTER) for number in range(count)]
    return [ctypes.cast(address, ctypes.py_object).value for address in held if address]


# --- reaching the main thread -----------------------------------------------------------

_Callback = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class MainThreadCall:
    """A function that another thread can have run in the main thread, between two bytecodes.

    What it raises is kept in `error`: nothing may reach the user's code from here.
    Source: Py_AddPendingCall in the C API manual.
    """

    def __init__(self, function: Callable[[types.FrameType | None], None]) -> None:
        self._function = function
        self._pending = False
        self.error: BaseException | None = None
        self._callback = _Callback(self._run)  # kept: C holds only its address

    def request(self) -> bool:
        """Ask for one run; False if the interpreter's queue is full. Asking twice is once."""
        if self._pending:
            return True
        self._pending = True
        self._pending = ctypes.pythonapi.Py_AddPendingCall(self._callback, None) == 0
        return self._pending

    @property
    def pending(self) -> bool:
        """Asked for and not yet run: the main thread is inside one long C call."""
        return self._pending

    def _run(self, _argument: object) -> int:
        try:
            self._pending = False
            with held_back(in_pending_call=True):
                self._function(sys._getframe().f_back)
        except KeyboardInterrupt:  # before or after the block: it is the cell's
            trip_after_pending_call(signal.SIGINT)
        except BaseException as why:
            self.error = why
        return 0


class LineWatch:
    """Calls back at the next line that one of some frames begins: a clean moment.

    A training loop spends nearly all of its time inside calls; looking at random moments
    would hardly ever find it between two of them. Uses the thread's trace function for as
    long as it is armed, and does nothing where a debugger or coverage has it. All methods
    are for the main thread.
    """

    def __init__(self, at_line: Callable[[types.FrameType], None]) -> None:
        self._at_line = at_line
        self._frames: tuple[types.FrameType, ...] = ()

    @property
    def armed(self) -> bool:
        """Waiting for a line."""
        return bool(self._frames)

    def arm(self, frames: tuple[types.FrameType, ...]) -> None:
        """Watch frames that are on the stack."""
        if not frames or self._frames or sys.gettrace() is not None:
            return
        self._frames = frames
        for frame in frames:
            frame.f_trace = self._trace_line
        sys.settrace(self._trace_call)

    def disarm(self) -> None:
        """Watch no longer; harmless when not armed."""
        if not self._frames:
            return
        if sys.gettrace() == self._trace_call:
            sys.settrace(None)
        for frame in self._frames:
            if frame.f_trace == self._trace_line:
                frame.f_trace = None
        self._frames = ()

    def _trace_call(self, _frame: types.FrameType, _event: str, _arg: Any) -> None:
        """New frames are not watched."""

    def _trace_line(self, frame: types.FrameType, event: str, _arg: Any) -> Any:
        if event not in ("line", "return") or not self._frames:
            return self._trace_line
        self.disarm()
        if event == "line":
            self._at_line(frame)
        return None
