"""How often checkpoints may be taken: at most a share of the user's time and of a core.

Pure arithmetic on a monotonic clock in seconds. The budgets only stretch the cadence. The
background's never holds the newest state back longer than `LAST_STATE_S`; the main thread's does
so only after a pause of more than 150 ms, which somebody may have felt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Of the main thread's wall time: after a pause of 5 ms, 100 ms without one.
PAUSE_SHARE: Final = 0.05
# Of one core, on average over a minute; what was saved up may be spent in a burst.
CPU_SHARE: Final = 0.5
WINDOW_S: Final = 60.0
# The newest state is not held back longer than this for want of background time.
LAST_STATE_S: Final = 3.0


@dataclass
class Cadence:
    """The account of one kernel."""

    _free_at: float = 0.0  # the main thread's share allows the next pause
    _saved_s: float = CPU_SHARE * WINDOW_S  # seconds of a core that may be spent
    _counted: float = 0.0  # when `_saved_s` was reckoned

    def paused(self, now: float, pause_s: float) -> None:
        """The main thread stood still for `pause_s`, until now."""
        self._free_at = now + pause_s / PAUSE_SHARE

    def spent(self, now: float, cpu_s: float) -> None:
        """A snapshot process has used `cpu_s` of a core."""
        self._saved_s = self._balance(now) - cpu_s
        self._counted = now

    def due_at(self, stale_since: float, now: float) -> float:
        """When changes that began at `stale_since` may be taken; at once if not after `now`."""
        balance = self._balance(now)
        cpu_at = now if balance >= 0 else now - balance / CPU_SHARE
        return max(self._free_at, min(cpu_at, stale_since + LAST_STATE_S))

    def free_at(self, now: float) -> float:
        """When both budgets allow one more: inside a cell, where no state is the last."""
        balance = self._balance(now)
        return max(self._free_at, now if balance >= 0 else now - balance / CPU_SHARE)

    def _balance(self, now: float) -> float:
        earned = CPU_SHARE * max(0.0, now - self._counted)
        return min(self._saved_s + earned, CPU_SHARE * WINDOW_S)
