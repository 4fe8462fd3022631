"""Sees a restore that has been at one variable for too long, from outside the kernel.

The kernel sets the limit itself, in the flight recorder, and interrupts Python code at it
(`checkpoint_kernel.load_limit`). Compiled code that keeps the interpreter can only be ended. What
is done about it is `watch`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from checkpoint_kernel import contract, flight_recorder

from .ask_stacks import state_of

# Between the order to take the stacks and the end.
LOOK_S: Final = 1.5


class RestoreWatch:
    """Of one kernel. `hung` is why it is ended, as a clause, once that is decided."""

    def __init__(self, pid: int, directory: Path) -> None:
        self._pid = pid
        self._flight = directory / contract.FLIGHT_FILE
        self._over = False
        self._late_since: tuple[str, float] | None = None
        self.hung: str | None = None

    def look(self, now: float) -> Literal["", "look", "kill"]:
        """What is to be done now: nothing, take its stacks, or kill it. Monotonic seconds."""
        if self._over:
            return ""
        flight = flight_recorder.read(self._flight)
        if flight is None:
            return ""
        unit, until = flight.restoring_unit, flight.restoring_until
        self._over = flight.restore_done or flight.state not in ("starting", "restoring")
        if self._over or unit is None or until is None or now <= until:
            self._late_since = None
            return ""
        if state_of(self._pid) in ("T", "t"):  # stopped, by a debugger or by hand: it does not hang
            return ""
        if self._late_since is None or self._late_since[0] != unit:
            self._late_since = (unit, now)
            return "look"
        if now - self._late_since[1] < LOOK_S:
            return ""
        name = unit.partition(":")[2]
        self.hung = (
            f"`{name}` was being loaded for longer than the limit of its size allows, in code that "
            "could not be interrupted, so the supervisor ended it"
        )
        self._over = True
        return "kill"
