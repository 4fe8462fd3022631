"""What a snapshot process died of, and which objects are left out from then on.

The process says what it is about to pickle; if it crashes or hangs there, that object is
the culprit until its name stands for another one. If it is killed there, by somebody who
may have meant its memory, the object is a suspect: left out for a while, then tried again.
Pure but for looking names up.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from . import hung, locals_unit, namespace, snapshot, units
from .manifest import Skipped

# A suspect is tried again after so long, then after twice as long each time it ends badly.
_AGAIN_AFTER_S: Final = 15.0
_AGAIN_LIMIT_S: Final = 1800.0


@dataclass
class _LeftOut:
    oid: int  # of the object that it was; of a frame 0
    skipped: Skipped
    wait_s: float
    again_at: float  # monotonic; inf: never
    on_trial: bool = False  # not left out of the snapshot that was forked last


class Blame:
    """The objects that ended a snapshot process, and those suspected of it."""

    def __init__(self) -> None:
        self._variables: dict[str, _LeftOut] = {}
        self._frames: dict[str, _LeftOut] = {}
        self._frames_of: int | None = None  # the cell that they belong to
        self._killed_with: list[str] = []  # in hand when a snapshot process was killed
        self._news: list[str] = []

    def variables(self, live: dict[str, Any], now: float) -> dict[str, Skipped]:
        """Variables to leave out, as long as they are the objects that did it."""
        self._variables = {
            name: one
            for name, one in self._variables.items()
            if namespace.identity(live, name) == one.oid
        }
        return _left_out(self._variables, now)

    def frames(self, execution_count: int | None, now: float) -> dict[str, Skipped]:
        """Running functions whose locals are left out, in that cell only."""
        if self._frames_of != execution_count:
            self._frames, self._frames_of = {}, execution_count
        return _left_out(self._frames, now)

    def tries_again(self, now: float) -> bool:
        """A variable was left out for long enough."""
        return any(one.again_at <= now for one in self._variables.values())

    def news(self) -> list[str]:
        """What has changed for the user's variables since the last call, for the notice."""
        news, self._news = self._news, []
        return news

    def acquit(self, saved: Collection[str], undecided: Collection[str] = ()) -> None:
        """A checkpoint succeeded: a kill before it was about something else."""
        self._killed_with = []
        for found in (self._variables, self._frames):
            for name in [n for n, one in found.items() if one.on_trial and n not in undecided]:
                del found[name]
                if name in saved:
                    self._news.append(f"{name} is saved again.")

    def judge(
        self,
        ended: snapshot.Exit,
        late: bool,
        in_hand: list[str],
        live: dict[str, Any],
        now: float,
        idle: bool = False,
    ) -> str | None:
        """Leave out what was in hand; or the reason why nobody could be blamed.

        `late`: it was ended by us. `idle`: because it did nothing any more.
        """
        proved = True
        if ended.timed_out or late:
            in_frame = any(map(locals_unit.is_frame, in_hand))
            limit_s = locals_unit.HANG_LIMIT_S if in_frame else snapshot.UNIT_LIMIT_S
            reason = f"saving it took longer than {limit_s:g} s"
            if idle:
                reason = f"saving it waits for something: nothing moved for {hung.IDLE_LIMIT_S:g} s"
        elif ended.status is None or (ended.killed and not self._is_suspected(in_hand)):
            self._killed_with = in_hand
            return (
                f"the snapshot process was ended from outside ({ended.text}), "
                "perhaps for want of memory"
            )
        elif ended.killed:
            proved = False
            reason = (
                "the snapshot process was killed twice while saving it, perhaps for want of "
                "memory; it is tried again now and then"
            )
        else:
            reason = f"saving it crashed the snapshot process ({ended.text})"
        if self._leave_out(in_hand, reason, live, math.inf if proved else now):
            return None
        what = ", ".join(in_hand) or "the checkpoint"
        return f"saving {what} ended the snapshot process ({ended.text})"

    def convict(
        self, fatal: dict[str, str], costly: dict[str, str], live: dict[str, Any], now: float
    ) -> None:
        """What has ended or hung a process of its own, and what failed there after long.

        The checkpoint is made without them; the latter are tried again after a while.
        """
        for reasons, since in ((fatal, math.inf), (costly, now)):
            for name, reason in reasons.items():
                self._leave_out([name], reason, live, since)

    def _is_suspected(self, names: list[str]) -> bool:
        suspects = {**self._variables, **self._frames}
        tried = any(name in suspects and suspects[name].on_trial for name in names)
        return tried or (bool(names) and names == self._killed_with)

    def _leave_out(
        self, names: Iterable[str], reason: str, live: dict[str, Any], since: float
    ) -> bool:
        """`since`: monotonic; inf where nothing is going to be different."""
        blamed = False
        for name in names:
            oid = namespace.identity(live, name)
            if oid is not None:
                skipped = Skipped(name, units.type_name(namespace.value_of(live, name)), reason)
                before = self._variables.get(name)
                if before is None or before.oid != oid:
                    before = None
                    self._news.append(f"{name} is not saved at present: {reason}.")
                self._variables[name] = _again(before, oid, skipped, since)
                blamed = True
            elif locals_unit.is_frame(name):
                skipped = Skipped(name, "locals", reason)
                self._frames[name] = _again(self._frames.get(name), 0, skipped, since)
                blamed = True
        return blamed


def _again(before: _LeftOut | None, oid: int, skipped: Skipped, since: float) -> _LeftOut:
    wait_s = _AGAIN_AFTER_S if before is None else min(2 * before.wait_s, _AGAIN_LIMIT_S)
    return _LeftOut(oid, skipped, wait_s, since + wait_s)


def _left_out(found: dict[str, _LeftOut], now: float) -> dict[str, Skipped]:
    for one in found.values():
        one.on_trial = one.again_at <= now
    return {name: one.skipped for name, one in found.items() if not one.on_trial}
