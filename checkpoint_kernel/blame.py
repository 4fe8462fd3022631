"""What a snapshot process died of, and which objects are left out from then on.

The process says what it is about to pickle; if it crashes or hangs there, that object is
the culprit until its name stands for another one. Pure but for looking names up.
"""

from __future__ import annotations

from typing import Any

from . import locals_unit, namespace, snapshot, units
from .manifest import Skipped


class Blame:
    """The objects that ended a snapshot process, and those suspected of it."""

    def __init__(self) -> None:
        self._bad: dict[str, tuple[int, Skipped]] = {}  # name -> id of the object, reason
        self._frames: dict[str, Skipped] = {}
        self._frames_of: int | None = None  # the cell that they belong to
        self._killed_with: list[str] = []  # in hand when a snapshot process was killed

    def variables(self, live: dict[str, Any]) -> dict[str, Skipped]:
        """Variables to leave out, as long as they are the objects that did it."""
        self._bad = {
            name: (oid, skipped)
            for name, (oid, skipped) in self._bad.items()
            if namespace.identity(live, name) == oid
        }
        return {name: skipped for name, (_, skipped) in self._bad.items()}

    def frames(self, execution_count: int | None) -> dict[str, Skipped]:
        """Running functions whose locals are left out, in that cell only."""
        if self._frames_of != execution_count:
            self._frames, self._frames_of = {}, execution_count
        return dict(self._frames)

    def acquit(self) -> None:
        """A checkpoint succeeded: a kill before it was about something else."""
        self._killed_with = []

    def judge(
        self, ended: snapshot.Exit, late: bool, in_hand: list[str], live: dict[str, Any]
    ) -> str | None:
        """Leave out what was in hand; or the reason why nobody could be blamed."""
        if ended.timed_out or late:
            reason = f"saving it took longer than {snapshot.UNIT_LIMIT_S:g} s"
        elif ended.status is None or (ended.killed and in_hand != self._killed_with):
            self._killed_with = in_hand
            return (
                f"the snapshot process was ended from outside ({ended.text}), "
                "perhaps for want of memory"
            )
        elif ended.killed:
            reason = "the snapshot process was killed twice while saving it"
        else:
            reason = f"saving it crashed the snapshot process ({ended.text})"
        if self._leave_out(in_hand, reason, live):
            return None
        what = ", ".join(in_hand) or "the checkpoint"
        return f"saving {what} ended the snapshot process ({ended.text})"

    def _leave_out(self, names: list[str], reason: str, live: dict[str, Any]) -> bool:
        blamed = False
        for name in names:
            oid = namespace.identity(live, name)
            if oid is not None:
                kind = units.type_name(namespace.value_of(live, name))
                self._bad[name] = (oid, Skipped(name, kind, reason))
                blamed = True
            elif locals_unit.is_frame(name):
                self._frames[name] = Skipped(name, "locals", reason)
                blamed = True
        return blamed
