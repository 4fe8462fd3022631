"""Whether the main thread has been seen to move, by one look at its stack every now and then.

Honest, not clever: a loop that is always met at the same place looks like one that stands still.
How much processor time it has used meanwhile tells working from waiting.
"""

from __future__ import annotations

import threading
import types
from typing import Final

from .others import processor_ns

_DEPTH: Final = 64  # frames, from the innermost one: where nothing there moves, nothing moves


class Progress:
    """One look per call of `seen`; nothing of a frame is kept but numbers."""

    def __init__(self) -> None:
        self._main_tid = threading.main_thread().native_id or 0
        self._place: tuple[int, ...] = ()
        self.moved: float | None = None  # when a look found it elsewhere than the look before
        self._cpu_s_then = 0.0

    def begin(self) -> None:
        """Something new begins: it has moved now."""
        self._place = ()

    def seen(self, frame: types.FrameType | None, now: float) -> None:
        """A look at its innermost frame; `now` is `time.time()`."""
        place: list[int] = []
        while frame is not None and len(place) < 2 * _DEPTH:
            place += (id(frame.f_code), frame.f_lasti)
            frame = frame.f_back
        if tuple(place) != self._place:
            self._place = tuple(place)
            self.moved = now
            self._cpu_s_then = self._cpu_s()

    def cpu_s_since(self) -> float:
        """Processor time that the main thread has used since it was seen to move."""
        return max(self._cpu_s() - self._cpu_s_then, 0.0)

    def _cpu_s(self) -> float:
        return processor_ns(self._main_tid) / 1e9
