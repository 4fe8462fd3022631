"""How often checkpoints may be taken: at most a share of the user's time and of a core.

Pure arithmetic on a monotonic clock in seconds. Both budgets are for every minute, with bursts
inside it; but where somebody waits for the pause (a cell that follows at once, a cell that is
running) each pause is paid for before the next one. The budgets only stretch the cadence: the
background's never holds back longer than `LAST_STATE_S` what nobody has changed since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

# Of the main thread's wall time: after a pause of 5 ms, 100 ms without one while somebody waits.
PAUSE_SHARE: Final = 0.05
# Of one core.
CPU_SHARE: Final = 0.5
WINDOW_S: Final = 60.0
# What may be saved up and spent at once, of a minute's share. The rest comes bit by bit, so that no
# minute has more than its share.
BURST: Final = 1 / 3
# For want of background time the last state is not held back longer than this; while changes go
# on, one state is in the end.
LAST_STATE_S: Final = 3.0
LONGEST_S: Final = 30.0


@dataclass
class _Account:
    """Seconds that may be spent: `share` of any minute."""

    share: float
    _most_s: float = field(init=False)
    _rate: float = field(init=False)
    _saved_s: float = field(init=False)
    _counted: float = 0.0  # when `_saved_s` was reckoned

    def __post_init__(self) -> None:
        self._most_s = BURST * self.share * WINDOW_S
        self._rate = (1 - BURST) * self.share
        self._saved_s = self._most_s

    def spend(self, now: float, spent_s: float) -> None:
        self._saved_s = self._balance(now) - spent_s
        self._counted = now

    def free_at(self, now: float) -> float:
        """When nothing is owed (any more)."""
        return now - min(self._balance(now), 0.0) / self._rate

    def _balance(self, now: float) -> float:
        earned = self._rate * max(0.0, now - self._counted)
        return min(self._saved_s + earned, self._most_s)


class Changed(NamedTuple):
    """When what is not saved was changed, at first and at last."""

    first: float
    last: float


@dataclass
class Cadence:
    """The accounts of one kernel."""

    _pauses: _Account = field(default_factory=lambda: _Account(PAUSE_SHARE))
    _background: _Account = field(default_factory=lambda: _Account(CPU_SHARE))
    _paid_at: float = 0.0  # the last pause has been made up for

    def paused(self, now: float, pause_s: float) -> None:
        """The main thread stood still for `pause_s`, until now."""
        self._pauses.spend(now, pause_s)
        self._paid_at = now + pause_s / PAUSE_SHARE

    def spent(self, now: float, cpu_s: float) -> None:
        """A snapshot process has used `cpu_s` of a core."""
        self._background.spend(now, cpu_s)

    def due_at(self, changed: Changed, now: float, awaited: bool) -> float:
        """When changes may be taken; at once if not after `now`.

        `awaited`: somebody waits for the main thread meanwhile.
        """
        no_later = min(changed.last + LAST_STATE_S, changed.first + LONGEST_S)
        main_at = self._main_at(now, awaited)
        return max(main_at, min(self._background.free_at(now), no_later))

    def free_at(self, now: float) -> float:
        """When both budgets allow one more: inside a cell, where no state is the last."""
        return max(self._main_at(now, awaited=True), self._background.free_at(now))

    def _main_at(self, now: float, awaited: bool) -> float:
        owed_until = self._pauses.free_at(now)
        return max(owed_until, self._paid_at) if awaited else owed_until
