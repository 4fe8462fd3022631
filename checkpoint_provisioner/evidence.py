"""Gathers what can be observed about the end of a kernel. Only this file of the post-mortem
and `surroundings` look at the system, through `proc` and `caps`; no conclusion is drawn here,
see `verdict`.

Nothing here raises for what cannot be read: absent evidence is a note in the record.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoint_kernel import contract, flight_recorder, last_fault, session
from checkpoint_kernel.flight_recorder import Flight
from checkpoint_kernel.last_fault import LastFault
from checkpoint_kernel.session import Event, Intent, Session

from . import clues, last_look, proc

if TYPE_CHECKING:
    from .caps.policy import CapHandle, Counters
    from .surroundings import Surroundings

FAULTS_LIMIT = 64 * 1024  # characters of faulthandler's file that are read
STDERR_LIMIT = 64 * 1024  # bytes of stderr that are kept
LEFT_SHOWN = 50  # processes that outlived the kernel
WHEN_NOT_ANSWERING = "when it did not answer,"  # how the note of a telling state begins


@dataclass(frozen=True)
class Exit:
    """How the process ended: exactly one of the two is set."""

    code: int | None
    signal: int | None
    core_dumped: bool = False


@dataclass(frozen=True)
class SignalSeen:
    """A signal that reached the supervisor and was passed on, and who sent it."""

    signal: int
    sender_pid: int
    sender_uid: int
    sender_name: str | None  # None: gone before we could ask
    time: float


@dataclass(frozen=True)
class OomKills:
    """What the OOM counters moved by between the last tick before the exit and the exit."""

    kills: int  # processes of our group that were OOM-killed
    own_limit_hit: bool
    outer_limits_hit: tuple[str, ...]  # groups above ours
    own_group: bool = True  # False: the counters of a group that others are in too


@dataclass(frozen=True)
class Memory:
    """Memory around the death, in bytes; None where it could not be read."""

    rss_bytes: int | None = None  # the kernel's own last word
    usage_bytes: int | None = None  # of the cgroup
    peak_bytes: int | None = None
    limit_bytes: int | None = None  # as read back
    available_bytes: int | None = None  # MemAvailable, the lowest of the last ticks
    total_bytes: int | None = None


@dataclass(frozen=True)
class Pids:
    """Processes and threads under `pids_limit`, shortly before the end."""

    limit: int | None
    used: int | None
    forks_refused: int | None  # in all: EAGAIN, "Resource temporarily unavailable"


@dataclass(frozen=True)
class LeftRunning:
    """A process that the kernel had started, or one of those, and that outlived it."""

    pid: int
    name: str
    own_session: bool  # setsid: it means to live on


@dataclass(frozen=True)
class Evidence:
    """Everything observed. `exit` is None where nobody saw it (the supervisor was gone too)."""

    session: Session
    exit: Exit | None
    time: float  # of the exit, or the last sign of life
    uptime_s: float
    intents: tuple[Intent, ...] = ()
    flight: Flight | None = None
    faults: str = ""
    stderr_tail: str = ""
    oom: OomKills | None = None  # None: no counters
    system_oom_kills: int | None = None  # /proc/vmstat, moved by
    kernel_log: str | None = None  # the kernel log's line about this process
    kernel_log_read: bool = False  # False: it cannot be, or it numbers processes otherwise
    # siginfo of the fatal signal; whether exit() has run
    last_fault: LastFault = field(default_factory=LastFault)
    fault_sender: str | None = None  # name of the process that sent that signal
    limits: proc.Limits | None = None  # rlimits of the kernel, and what it had used
    memory: Memory = Memory()
    surroundings: Surroundings | None = None  # of the death; None: not looked at
    signals: tuple[SignalSeen, ...] = ()
    server_gone: bool = False
    sent_by_us: tuple[int, ...] = ()  # signals that the supervisor itself decided to send
    loading_hung: str | None = None  # why the supervisor ended a restore, as a clause
    same_boot: bool = True
    server_lives: bool = False  # where nobody saw the exit: that of the session still runs
    is_ours: bool = True  # our kernel, which keeps a flight recorder
    events: tuple[Event, ...] = ()  # of the session, while the kernel lived
    curve: tuple[tuple[float, int], ...] = ()  # (time, bytes used under the cap), last minutes
    stacks: str = ""  # Python's, of a kernel that had to be killed
    native_stack: str | None = None
    pids: Pids | None = None  # None: no pids_limit is enforced
    left_running: tuple[LeftRunning, ...] = ()
    environment_changes: dict[str, Any] | None = None  # see environment_diff; None: not known
    notes: tuple[str, ...] = ()  # what could not be read, and why


class Samples:
    """Readings of a tick while the kernel lives: the "before" of its death."""

    KEPT = 10
    CURVE_KEPT = 600  # one a second: ten minutes

    def __init__(self, cap: CapHandle | None, kernel_pid: int | None = None) -> None:
        self._cap = cap
        self._pid = kernel_pid
        self._available: list[int] = []
        self.curve: deque[tuple[float, int]] = deque(maxlen=self.CURVE_KEPT)
        self.snapshots_stopped = 0  # by the guard, so far
        # At the last tick: snapshot processes that had ended by SIGKILL, and those of them that
        # the guard had stopped.
        self.snapshots_seen = (0, 0)
        self.notes: list[str] = []
        self.counters: Counters | None = None
        self.system_oom_kills: int | None = None
        self.tick()

    def tick(self) -> None:
        """Read all counters once (some 100 microseconds)."""
        counters = self.read_counters()
        system_oom_kills = proc.field(Path("/proc/vmstat"), "oom_kill")
        available_kb = proc.field(Path("/proc/meminfo"), "MemAvailable:")
        # A large kernel takes seconds to be taken apart: its own OOM kill must not get into the
        # "before". Asked after the reading, for the counters move before the signal is sent.
        if self.counters is not None and self._pid is not None and proc.dying(self._pid):
            return
        self.counters = counters
        self.own_group = (
            self._cap is not None and self._cap.cap is not None and bool(self._cap.cap.cgroup)
        )
        self.system_oom_kills = system_oom_kills
        used_bytes = self.counters.nonreclaimable_bytes if self.counters else None
        if used_bytes is not None:
            self.curve.append((round(time.time(), 1), used_bytes))
        if available_kb is not None:
            self._available = [*self._available[1 - self.KEPT :], available_kb * 1024]

    def read_counters(self) -> Counters | None:
        """The counters of our cgroup now, or of what encloses us where we have none."""
        return None if self._cap is None else self._cap.counters()

    @property
    def available_bytes(self) -> int | None:
        """The lowest MemAvailable of the last ticks."""
        return min(self._available, default=None)


def gather(
    directory: Path,
    started: Session,
    ended: Exit,
    samples: Samples,
    stderr_tail: bytes,
    signals: Sequence[SignalSeen] = (),
    sent_by_us: Sequence[int] = (),
    server_gone: bool = False,
    is_ours: bool = True,
    kernel_pid: int | None = None,
    argv: Sequence[str] = (),
    left_running: Sequence[LeftRunning] = (),
    loading_hung: str | None = None,
) -> Evidence:
    """All evidence of an exit that the supervisor saw. Call before the cgroup goes.

    `argv` is the kernel's command.
    """
    now = time.time()
    said = stderr_tail.decode("utf-8", "replace")
    before, after = samples.counters, samples.read_counters()
    vmstat = proc.field(Path("/proc/vmstat"), "oom_kill")
    flight = _flight(directory, samples.notes)
    pid = kernel_pid or (flight.pid if flight else None)
    witnessed = _last_fault(directory, samples.notes)
    sender = witnessed.fault.sender_pid if witnessed.fault else None
    log = proc.kernel_log(pid, now - started.started) if pid and ended.code is None else None
    return Evidence(
        session=started,
        exit=ended,
        time=now,
        uptime_s=now - started.started,
        intents=_intents(directory, samples.notes),
        flight=flight,
        faults=_tail(directory / contract.FAULTS_FILE, FAULTS_LIMIT) or clues.fatal_trace(said),
        stderr_tail=said,
        oom=_moved(before, after, samples.own_group, _snapshots_killed(flight, samples)),
        system_oom_kills=_difference(samples.system_oom_kills, vmstat),
        kernel_log=log.said if log else None,
        kernel_log_read=log is not None,
        last_fault=witnessed,
        fault_sender=proc.process_name(sender) if sender else None,
        limits=proc.limits(pid) if pid else None,
        memory=_memory(flight, after or before, samples),
        signals=tuple(signals),
        server_gone=server_gone,
        sent_by_us=tuple(sent_by_us),
        loading_hung=loading_hung,
        is_ours=is_ours,
        events=_events(directory, samples.notes),
        curve=tuple(samples.curve),
        pids=_pids(before, after),
        left_running=tuple(left_running[:LEFT_SHOWN]),
        **_last_look(directory, samples.notes),
        environment_changes=(
            _environment_changes(directory, started, argv, samples.notes) if is_ours else None
        ),
        notes=tuple(samples.notes),
    )


def gather_living(directory: Path, started: Session, samples: Samples) -> Evidence:
    """What can be said of a kernel that goes on: the evidence of a cell that was ended."""
    now = time.time()
    flight = _flight(directory, samples.notes)
    return Evidence(
        session=started,
        exit=None,
        time=now,
        uptime_s=now - started.started,
        flight=flight,
        memory=_memory(flight, samples.counters, samples),
        events=_events(directory, samples.notes),
        curve=tuple(samples.curve),
        notes=tuple(samples.notes),
    )


def gather_leftovers(directory: Path, started: Session) -> Evidence:
    """The evidence of a session whose supervisor is gone without an exit marker."""
    notes = ["nobody saw the exit: the supervisor was gone too"]
    flight = _flight(directory, notes)
    last_sign_of_life = max(started.started, flight.sampled if flight else 0.0)
    return Evidence(
        session=started,
        exit=None,
        time=last_sign_of_life,
        uptime_s=last_sign_of_life - started.started,
        intents=_intents(directory, notes),
        flight=flight,
        faults=_tail(directory / contract.FAULTS_FILE, FAULTS_LIMIT),
        stderr_tail=_tail(directory / contract.STDERR_FILE, STDERR_LIMIT),
        memory=Memory(rss_bytes=flight.rss_bytes if flight else None),
        last_fault=_last_fault(directory, notes),
        same_boot=started.boot_id == proc.boot_id(),
        server_lives=proc.lives_since(started.server_pid, started.started),
        events=_events(directory, notes),
        **_last_look(directory, notes),
        environment_changes=_environment_changes(directory, started, (), notes),
        notes=tuple(notes),
    )


def _flight(directory: Path, notes: list[str]) -> Flight | None:
    try:
        return flight_recorder.read(directory / contract.FLIGHT_FILE)
    except (OSError, ValueError, TypeError) as why:
        notes.append(f"the flight recorder could not be read: {why!r}")
        return None


def _last_fault(directory: Path, notes: list[str]) -> LastFault:
    try:
        found = last_fault.read(directory / contract.FAULT_FILE)
    except OSError as why:
        found = LastFault(absent=f"what the last fatal signal was about cannot be read: {why!r}")
    if found.absent:
        notes.append(found.absent)
    return found


def _intents(directory: Path, notes: list[str]) -> tuple[Intent, ...]:
    try:
        return tuple(session.read_intents(directory))
    except (OSError, ValueError, TypeError) as why:
        notes.append(f"the intents could not be read: {why!r}")
        return ()


def _events(directory: Path, notes: list[str]) -> tuple[Event, ...]:
    try:
        found = session.read_events(directory)
    except OSError as why:
        notes.append(f"the events could not be read: {why!r}")
        return ()
    said = [event.said for event in found if event.kind == session.UNREADABLE]
    notes += [note for note in dict.fromkeys(said) if note not in notes]  # living, it is read often
    return tuple(event for event in found if event.kind != session.UNREADABLE)


def _last_look(directory: Path, notes: list[str]) -> dict[str, Any]:
    """The stacks of a kernel that did not answer a restart; what else was seen is a note."""
    try:
        seen = last_look.load(directory)
    except (OSError, ValueError, TypeError) as why:
        notes.append(f"the last look at it could not be read: {why!r}")
        return {}
    if seen is None:
        return {}
    if seen.state_words:
        notes.append(f"{WHEN_NOT_ANSWERING} {seen.state_words}")
    if seen.waits_in:
        notes.append(f"its main thread waited in the operating system: {seen.waits_in}")
    if seen.stacks_missing:
        notes.append(f"no stacks of Python: {seen.stacks_missing}")
    if seen.native_missing:
        notes.append(f"no native stacks: {seen.native_missing}")
    elif not seen.complete:
        notes.append("no native stacks: they were not ready when it was killed")
    return {"stacks": seen.stacks, "native_stack": seen.native}


def _environment_changes(
    directory: Path, started: Session, argv: Sequence[str], notes: list[str]
) -> dict[str, Any] | None:
    from . import environment_history  # a supervisor that only watches has no use for it

    try:
        return environment_history.changes(directory, started, argv, notes)
    except Exception as why:  # what it compares was written by others: the death is judged anyway
        notes.append(f"what changed in the environment is not known: {why!r}")
        return None


def _tail(path: Path, limit_bytes: int) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit_bytes))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _snapshots_killed(flight: Flight | None, samples: Samples) -> int:
    """Snapshot processes that the OOM killer took since the last tick: no evidence of our end."""
    if flight is None:
        return 0
    killed_before, stopped_before = samples.snapshots_seen
    stopped = samples.snapshots_stopped - stopped_before
    return max(flight.snapshots_killed - killed_before - stopped, 0)


def _moved(
    before: Counters | None, after: Counters | None, own_group: bool, snapshots: int
) -> OomKills | None:
    if before is None or after is None:
        return None
    kills = _difference(before.oom_kill, after.oom_kill)
    if kills is None:
        return None
    kills = max(kills - snapshots, 0)
    outer = tuple(
        path
        for path, count in after.oom_ancestors.items()
        if count > before.oom_ancestors.get(path, count)
    )
    own = _difference(before.oom_local, after.oom_local)
    if own is None:  # cgroup v1: the limit was met, and reclaim did not help for long
        met = (_difference(before.failcnt, after.failcnt) or 0) > 0
        peak, limit = after.peak_bytes or 0, after.limit_bytes or 0
        own = int(met and limit > 0 and peak > 0.98 * limit)
    return OomKills(kills, own > 0, outer, own_group)


def _pids(before: Counters | None, after: Counters | None) -> Pids | None:
    if after is None or after.pids_limit is None:
        return None
    used = [one.pids for one in (before, after) if one is not None and one.pids is not None]
    return Pids(after.pids_limit, max(used, default=None), after.forks_refused)


def _memory(flight: Flight | None, counters: Counters | None, samples: Samples) -> Memory:
    total_kb = proc.field(Path("/proc/meminfo"), "MemTotal:")
    return Memory(
        rss_bytes=flight.rss_bytes if flight else None,
        usage_bytes=counters.usage_bytes if counters else None,
        peak_bytes=counters.peak_bytes if counters else None,
        limit_bytes=counters.limit_bytes if counters else None,
        available_bytes=samples.available_bytes,
        total_bytes=None if total_kb is None else total_kb * 1024,
    )
