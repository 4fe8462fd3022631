"""Is a process that pickles hung? Told from its CPU time and its state (proc_pid_stat(5)).

One that sleeps and uses no CPU for long waits for what nobody gives it: a lock that a thread of
the kernel held when it was forked, a thread that is not there. Covers no endless loops: these
have a limit of their own.
"""

from __future__ import annotations

import time
from typing import Final

IDLE_LIMIT_S: Final = 10.0
_LOOK_S: Final = 0.5


class Watch:
    """Of one process, from outside. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.found = False  # the last one was hung
        self._ticks = -1
        self._moved_at: float | None = None  # None: it may wait
        self._looked_at = 0.0

    def begin(self, expected: bool) -> None:
        """It has begun with something else. `expected`: it should be at work now."""
        self._moved_at = time.monotonic() if expected else None
        self.found = False

    def is_hung(self, pid: int) -> bool:
        """Looks twice a second, however often it is asked."""
        now = time.monotonic()
        if self._moved_at is None or now - self._looked_at < _LOOK_S:
            return False
        self._looked_at = now
        ticks, state = work_of(pid)
        if ticks != self._ticks or state not in "ST":  # it may wait for the disk
            self._ticks, self._moved_at = ticks, now
        self.found = now - self._moved_at > IDLE_LIMIT_S
        return self.found


def work_of(pid: int) -> tuple[int, str]:
    """CPU ticks that a process has used, and its state in one letter; `Z` if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return 0, "Z"
    return int(fields[11]) + int(fields[12]), fields[0].decode()
