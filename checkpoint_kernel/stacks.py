"""Tells the stacks of the kernel's threads to whoever asks from outside, while it works.

Asked by STACKS_SIGNAL, it answers in `stacks.txt`, in faulthandler's format, in one of two ways:

    sent to our thread    -> the thread, which waits for nothing else, writes them down between
                             two bytecodes of the others: no call is interrupted, no frame moves
    sent to another       -> faulthandler's handler writes them without the interpreter's lock, for
                             the time when C code keeps that lock and our thread cannot run

Who asks tries the first one first, and empties the file before: see the server's half,
`checkpoint_provisioner.ask_stacks`.
"""

from __future__ import annotations

import ctypes
import faulthandler
import linecache
import os
import signal
import sys
import threading
import types
from pathlib import Path
from typing import Final, NamedTuple

from .contract import STACKS_END, STACKS_FILE, STACKS_SIGNAL
from .flight_recorder import FlightRecorder

# Of each thread; the rest, in between, is left out: recursion fills a stack with one frame.
INNERMOST: Final = 80
OUTERMOST: Final = 20
_DEEPEST: Final = 20_000  # frames that are looked at
_PR_SET_PTRACER: Final = 0x59616D61  # prctl(2)


class _Place(NamedTuple):
    file: str
    line: int
    function: str


def tell_when_asked(directory: Path, recorder: FlightRecorder, supervisor_pid: int) -> None:
    """Register the handler and start the thread. Once, in the main thread, before the kernel is up.

    Where the file cannot be had the signal has no handler, which is what those who ask look for.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        fd = os.open(directory / STACKS_FILE, flags, 0o600)
    except OSError:
        return
    # chain=False: the default action of the signal would end the process.
    faulthandler.register(STACKS_SIGNAL, file=fd, all_threads=True, chain=False)
    # A forked worker would write into the kernel's file.
    os.register_at_fork(after_in_child=_in_forked_child)
    # Where Yama lets only parents trace, the supervisor may have debuggers trace us (ptrace(2)).
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(supervisor_pid), 0, 0, 0)
    name = "checkpoint-kernel-stacks"
    threading.Thread(target=_answer, args=(fd, recorder), name=name, daemon=True).start()


def _in_forked_child() -> None:
    faulthandler.unregister(STACKS_SIGNAL)


def _answer(fd: int, recorder: FlightRecorder) -> None:
    """The thread. Who asks finds its id in the flight recorder."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {STACKS_SIGNAL})
    recorder.update(stacks_tid=threading.get_native_id())
    while True:
        signal.sigwaitinfo({STACKS_SIGNAL})
        try:
            text = describe()
        except Exception as why:
            text = f"The stacks could not be read: {why!r}\n"
        try:
            os.write(fd, f"{text}\n{STACKS_END}\n".encode("utf-8", "replace"))
        except OSError:
            pass  # a full disk: who asked sees that the end is missing, and says so


def describe() -> str:
    """The stacks of all threads but the caller's, the main thread's first, most recent call first.

    Sources are those of cells and of what was shown before: no file is read.
    """
    main = threading.main_thread().ident
    named = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = _places(threading.get_ident())
    blocks = []
    for ident in sorted(stacks, key=lambda ident: (ident != main, ident)):
        thread = "Current thread" if ident == main else "Thread"
        name = f" [{named[ident]}]" if ident in named else ""
        lines = [f"{thread} 0x{ident:016x}{name} (most recent call first):"]
        for place in stacks[ident]:
            lines += ["  ..."] if place is None else _as_lines(place)
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _places(but: int) -> dict[int, list[_Place | None]]:
    """Where each thread stands, None for frames left out.

    Done in one go, and no frame is kept: what a function leaves behind when it returns must not
    be freed in our thread.
    """
    return {
        ident: _of_thread(frame) for ident, frame in sys._current_frames().items() if ident != but
    }


def _of_thread(innermost: types.FrameType) -> list[_Place | None]:
    frame: types.FrameType | None = innermost
    places: list[_Place | None] = []
    while frame is not None and len(places) < _DEEPEST:
        code = frame.f_code
        places.append(_Place(code.co_filename, frame.f_lineno or 0, code.co_name))
        frame = frame.f_back
    if len(places) > INNERMOST + OUTERMOST:
        return [*places[:INNERMOST], None, *places[-OUTERMOST:]]
    return places


def _as_lines(place: _Place) -> list[str]:
    lines = [f'  File "{place.file}", line {place.line} in {place.function}']
    entry = linecache.cache.get(place.file)
    # An entry of one item is a promise to read the source later.
    if entry is not None and len(entry) > 1 and 0 < place.line <= len(entry[2]):
        source = entry[2][place.line - 1].strip()
        lines += [f"    {source}"] if source else []
    return lines
