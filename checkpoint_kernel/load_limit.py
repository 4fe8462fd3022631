"""Bounds how long a restore may be at one unit.

    in time          the unit is loaded
    not in time      SIGALRM: LoadingHangs is raised in whatever Python code the main thread is in
    not even then    compiled code keeps the interpreter: the supervisor, which reads the time limit
                     in the flight recorder, ends the kernel, and the next start leaves the unit out

Covers a restore at a start; one by hand is the user's to interrupt. Ctrl-C is another exception.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Final

from .contract import ENV_LOAD_PATIENCE
from .manifest import Unit

# What a unit has, whatever its size; after each that hung half of that, so that several of them
# fit into the 60 s that servers and clients wait for a kernel.
PATIENCE_S: Final = 20.0
LEAST_S: Final = 3.0
# The slowest disk and the smallest objects that are worth waiting for.
BYTES_PER_S: Final = 20e6
# Importing a large package over a network file system takes long, and is no hang.
IMPORT_S: Final = 60.0
# Python code that was interrupted may take so long to clean up.
GRACE_S: Final = 5.0
_AGAIN_S: Final = 2.0  # code that has swallowed the exception is interrupted once more


class LoadingHangs(BaseException):
    """Loading one unit takes too long. No Exception: code that handles any of those goes on."""


def patience_s(size_bytes: int, hung: int = 0, most_s: float | None = None) -> float:
    """How long one unit may be loaded, in seconds, after `hung` others have hung.

    `most_s`: what it has whatever its size; None: what the environment says.
    """
    base_s = _patience_s() if most_s is None else most_s
    return max(base_s / (1 << hung), min(LEAST_S, base_s)) + size_bytes / BYTES_PER_S


def _patience_s() -> float:
    try:
        return float(os.environ.get(ENV_LOAD_PATIENCE, PATIENCE_S))
    except ValueError:
        return PATIENCE_S


class LoadLimit:
    """The limit of one restore: `begin` for each unit, `end` after the last."""

    def __init__(self, note: Callable[[Unit, float], None]) -> None:
        """`note(unit, until)` is told what is loaded now, and until when on the monotonic clock."""
        self._note = note
        self._unit: Unit | None = None
        self._began = 0.0
        self._most_s = 0.0
        self._rung = False
        self._patience_s = _patience_s()
        self._keeps = False  # there is a timer
        self.hung = 0

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Inside of it the timer rings. In the main thread only; elsewhere nobody is bounded."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGALRM, self._ring)
        self._keeps = True
        try:
            yield
        finally:
            self.end()
            self._keeps = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            if signal.getsignal(signal.SIGALRM) == self._ring:  # else it is the user's by now
                signal.signal(signal.SIGALRM, before)

    def begin(self, unit: Unit) -> None:
        """The time of this unit begins; that of another one is over."""
        self._unit, self._rung = None, False
        self._began = time.monotonic()
        self._most_s = patience_s(unit.size_bytes, self.hung, self._patience_s)
        self._note(unit, self._began + self._most_s + min(GRACE_S, self._most_s))
        self._unit = unit
        if self._keeps:
            signal.setitimer(signal.ITIMER_REAL, self._most_s, _AGAIN_S)

    def end(self) -> None:
        """Nothing is being loaded: the timer may ring in vain."""
        self._unit = None

    def _ring(self, _number: int, frame: types.FrameType | None) -> None:
        unit, spent_s = self._unit, time.monotonic() - self._began
        if unit is None:
            return
        if spent_s < IMPORT_S and not self._rung and _is_importing(frame):
            self._note(unit, self._began + IMPORT_S + GRACE_S)
            return  # the timer goes on, every few seconds
        if not self._rung:
            self._rung = True
            self.hung += 1
        raise LoadingHangs(f"loading it took longer than {spent_s:.0f} s, and was stopped")


def _is_importing(frame: types.FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
