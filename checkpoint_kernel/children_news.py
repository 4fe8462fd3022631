"""Tells the running cell that a child of the kernel was killed for want of memory.

A `multiprocessing.Pool` waits for ever for a worker that was killed, and says nothing. The cell
is not ended for it: other code handles such a death. The supervisor puts the event on record.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from . import session
from .contract import EVENTS_FILE

_KINDS: Final = ("child-oom-killed", "child-killed-by-guard")
_EVERY_S: Final = 1.0


class ChildrenNews:
    """Of one session. `tell` is called by the clock, and writes to the stream of the cell."""

    def __init__(self, directory: Path, stream: Any) -> None:
        self._directory = directory
        self._stream = stream
        self._size = 0
        self._told = 0
        self._again = 0.0  # monotonic

    def tell(self) -> None:
        """One line for each that was killed since the last call. OSError; nothing for damage."""
        now = time.monotonic()
        if now < self._again:
            return
        self._again = now + _EVERY_S
        try:
            size = (self._directory / EVENTS_FILE).stat().st_size
        except FileNotFoundError:
            return
        if size == self._size:
            return
        events = session.read_events(self._directory)
        while events and events[-1].kind == session.UNREADABLE:
            events.pop()  # it may be on its way, and whole the next time
        fresh, self._told, self._size = events[self._told :], len(events), size
        for event in fresh:
            if event.kind in _KINDS:
                self._stream.write(
                    f"[checkpoint-kernel] {event.said}. If the cell waits for it in vain, "
                    "interrupt the cell; more: %checkpoint memory\n"
                )
                self._stream.flush()
