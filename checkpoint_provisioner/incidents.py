"""What happens to a living kernel and is no death of it: events, and records of the survived.

A child or a snapshot process that the OOM killer took, a cell that was ended before the memory
limit was met. Looks once a second; what an event means for a later death is `evidence`'s.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from checkpoint_kernel import contract, flight_recorder, session
from checkpoint_kernel.session import Event, Session

from . import evidence, post_mortem
from .evidence import Samples


class Incidents:
    """Of one kernel. `say` puts an event on record; `look` finds those that nobody tells."""

    def __init__(self, directory: Path, started: Session, samples: Samples, is_ours: bool) -> None:
        self._directory = directory
        self._session = started
        self._samples = samples
        self._is_ours = is_ours
        self._oom_kills = _oom_kills(samples)
        self._ended = 0  # cells, by the guard
        self._recorded = 0  # of their events

    def say(self, event: Event) -> None:
        """Put it on record; a full disk costs the record only, and is said."""
        if event.kind == "snapshot-stopped-by-guard":
            self._samples.snapshots_stopped += 1
        try:
            session.append_event(self._directory, event)
        except OSError as why:
            print(f"checkpoint-kernel: {event.said}; not on record: {why}", file=sys.stderr)

    def look(self) -> None:
        """Once a second, after the counters have been read."""
        flight = None
        if self._is_ours:
            try:
                flight = flight_recorder.read(self._directory / contract.FLIGHT_FILE)
            except (OSError, ValueError, TypeError):
                return  # written at this moment
        self._look_for_kills(flight.snapshots_killed if flight else 0)
        if flight is not None and flight.cells_ended > self._ended:
            self._ended = flight.cells_ended
            self._record_ended()

    def _look_for_kills(self, snapshots_killed: int) -> None:
        samples = self._samples
        kills_now = _oom_kills(samples)
        kills = max(kills_now - self._oom_kills, 0)
        self._oom_kills = kills_now
        killed_before, stopped_before = samples.snapshots_seen
        stopped = samples.snapshots_stopped - stopped_before
        snapshots = max(snapshots_killed - killed_before - stopped, 0)
        samples.snapshots_seen = snapshots_killed, samples.snapshots_stopped
        for number in range(kills):
            if number < snapshots:
                kind, who = "snapshot-oom-killed", "the process that was writing a checkpoint"
            else:
                kind, who = "child-oom-killed", "a child process"
            said = f"{who} was killed because memory ran out (oom_kill rose by {kills})"
            self.say(Event(kind, time.time(), said))

    def _record_ended(self) -> None:
        """Cells that were ended to save their kernel stand among the deaths, as survived."""
        try:
            observed = evidence.gather_living(self._directory, self._session, self._samples)
            found = [e for e in observed.events if e.kind == "memory-cap-interrupt"]
            fresh, self._recorded = found[self._recorded :], len(found)
            for event in fresh:
                post_mortem.survived(self._directory, observed, event)
        except OSError as why:
            print(f"checkpoint-kernel: an interrupt is not on record: {why}", file=sys.stderr)


def _oom_kills(samples: Samples) -> int:
    counters = samples.counters
    own = counters is not None and samples.own_group
    return counters.oom_kill or 0 if counters is not None and own else 0
