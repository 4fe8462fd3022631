"""A checkpoint, top to bottom.

    take      main thread, at a safe point: what is unchanged, then fork  (the user waits)
    write     snapshot process: namespace -> units -> chunks -> manifest  (the commit)
    watch     clock thread: read the child's reports, blame what killed it
    settle    what the newest checkpoint is, what failed and why, for the status

At most one snapshot process lives; what changes meanwhile is taken by the next one. When
a checkpoint is due is `clockwork`'s to decide; which names are saved, `namespace`'s; what
a unit is, `units`'.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import (
    commit,
    history_blocks,
    hung,
    interactive_state,
    left_behind,
    locals_unit,
    manifest,
    memory,
    namespace,
    own_modules,
    pickling,
    provenance,
    prune,
    rebuild,
    registrations,
    safe_point,
    secrets_rules,
    session,
    snapshot,
    spool,
    staging,
    stand_ins,
    unchanged,
    units,
)
from .blame import Blame
from .cadence import Cadence, Changed
from .carry_over import CarryOver, Proved
from .contract import SESSIONS
from .entry_points import EntryPoints
from .flight_recorder import FlightRecorder
from .held_signals import held_back
from .manifest import LeftBehind, Manifest, Skipped
from .observed import Observed
from .safe_point import IDLE, Position
from .session import Session
from .still_missing import StillMissing
from .store import Store
from .touched import by_code

# A snapshot process that cannot be born is tried again: it inherited a held lock.
_BIRTHS = 3
# After failures the clock tries again at longer and longer intervals, cells' ends always.
_RETRY_LIMIT_S = 300.0
# Of what a snapshot process has needed, so much is reckoned with after a checkpoint in place.
_FORGETS = 0.7
_SESSION_UNIT = "session"
_MADE_IN_LIMIT_S = 0.2  # for finding the cells that made what cannot be saved
_MEMORY = operator.attrgetter("memory")


@dataclass(frozen=True)
class Facts:
    """What the snapshot process is told about the checkpoint that it makes."""

    template: Manifest  # all but units and skipped
    position: Position
    known_bad: dict[str, Skipped]
    bad_frames: dict[str, Skipped]  # as `known_bad`, by the names of `locals_unit`
    exclude: tuple[str, ...]
    include: tuple[str, ...]
    keep: int
    root: Path  # of all notebooks, for the quota
    store_limit_bytes: int | None
    proved: Proved = field(default_factory=Proved)
    surroundings: interactive_state.Seen | None = None
    own_modules: own_modules.Known | None = None
    slow: frozenset[str] = frozenset()  # variables that are waited for
    dares: bool = False  # to save them untried
    newest: Manifest | None = None  # which may hold what is not decided now
    observed: Observed = field(default_factory=Observed)
    missing: list[Skipped] = field(default_factory=list)  # since the restore
    hidden: dict[str, Any] | None = None  # names that are the shell's own; None: as it says


@dataclass
class Settled:
    """What became of the checkpoints so far; what `%checkpoint` shows."""

    newest: Manifest | None = None
    trouble: str | None = None  # why the last attempt failed; None after a success
    pauses_s: list[float] = field(default_factory=list)
    write_s: float | None = None  # of the newest: from the fork to the commit
    new_bytes: int | None = None
    carried_units: int | None = None  # of the newest: not looked at
    count: int = 0
    awaited: str | None = None  # why the user waits for them: memory is nearly used up


class Checkpointer:
    """Makes checkpoints of one kernel. `take` in the main thread, `watch` in the clock thread."""

    def __init__(self, shell: Any, record: Session, store: Store, recorder: FlightRecorder) -> None:
        self._shell = shell
        self._session = record
        self._store = store
        self._recorder = recorder
        self._lock = threading.RLock()
        self._child: snapshot.SnapshotProcess | None = None
        self._facts: Facts | None = None
        self._in_hand: list[str] = []  # variables that the child is pickling
        self._idle = hung.Watch()  # of the child, while it pickles
        self._dares = False
        self._slow: frozenset[str] = frozenset()  # variables that took too long to be waited for
        self._alive = False
        self._committed: dict[str, Any] | None = None
        self._failed: str | None = None
        self._births = 0
        self._blame = Blame()
        self._inside = False  # a pending call may run inside `take` and `watch`
        self._failures = 0
        self._retry_at = 0.0  # monotonic
        self._private_bytes = 0  # of the last snapshot process: what the next one may need
        self._room_at_fork = 0  # bytes below the cap
        self._too_large: dict[str, tuple[int, Skipped]] = {}  # in place, by name: which object
        self.carry_over = CarryOver()
        self.entry_points = EntryPoints()
        self.surroundings = interactive_state.Watch(shell)
        self.own_modules = own_modules.Tracker()
        self.observed = Observed()
        self.still_missing = StillMissing()
        # As of now: what is hidden later (%pylab) is not made again by a new kernel.
        self._hidden = dict(shell.user_ns_hidden)
        self._staging = staging.Staging()
        self._collections = snapshot.DeferredCollections()
        self._said: set[str] = set()
        everything = store.manifests()
        self._seq = max((m.seq for m in everything), default=0)
        self.settled = Settled()
        self.parent: str | None = record.plan.checkpoint if record.plan.kind == "restore" else None
        self.left_behind: tuple[LeftBehind, ...] = ()  # by restores, and not saved since
        self.stale_since: float | None = None  # monotonic: changes that no checkpoint holds
        self._changed_at = 0.0  # monotonic: the last of them
        self.cadence = Cadence()
        self.announcements: list[str] = []  # for the notice before the next cell

    # --- take ---------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """A snapshot process lives."""
        return self._child is not None

    @property
    def wanted(self) -> bool:
        """Something is not saved, and an attempt has not just failed."""
        return self.stale_since is not None and time.monotonic() >= self._retry_at

    def due_in(self, *, awaited: bool = False, retrying: bool = False) -> float | None:
        """Seconds until the budgets allow to save what is not saved; None: nothing to save.

        `awaited`: a cell waits for it. `retrying`: nothing has happened since the last attempt,
        so a failed one is waited for.
        """
        if self.stale_since is None:
            return None
        now = time.monotonic()
        changed = Changed(self.stale_since, self._changed_at)
        due_at = self.cadence.due_at(changed, now, awaited)
        return (max(due_at, self._retry_at) if retrying else due_at) - now

    def cell_ended(self, began: float) -> None:
        """What the cell did counts from its end; `began` is on the monotonic clock."""
        self._changed_at = time.monotonic()
        if self.stale_since is None or self.stale_since >= began:
            self.stale_since = self._changed_at

    def changed(self) -> None:
        """The namespace may differ from the newest checkpoint from now on."""
        self._changed_at = time.monotonic()
        if self.stale_since is None:
            self.stale_since = self._changed_at

    def take(self, reason: str, position: Position, *, waits: bool = True) -> bool:
        """Begin a checkpoint of this very moment; True if one was begun.

        For the main thread, between two bytecodes. A failure is in `settled`; what is raised
        is the user's own: Ctrl-C, and other signal handlers. `waits`: for another thread that is
        settling the checkpoint before.
        """
        short = memory.shortage(self._session.cap, self._private_bytes)
        forks = snapshot.available() is None and short is None
        # In place it may take long: there the user's Ctrl-C works.
        with held_back() if forks else contextlib.nullcontext(), self._locked(waits) as ours:
            if not ours or self._child is not None or self._inside:
                return False
            self._inside = True
            try:
                return self._begin(reason, position, forks, short)
            except Exception as why:
                self._trouble(f"a checkpoint could not be begun: {type(why).__name__}: {why}")
                return False
            except BaseException:
                self.changed()
                raise
            finally:
                self._inside = False

    @contextlib.contextmanager
    def _locked(self, waits: bool) -> Iterator[bool]:
        """Settling takes long where there are thousands of variables: a cell need not wait."""
        ours = False
        try:
            with held_back():  # a Ctrl-C in between would leave it locked for ever
                ours = self._lock.acquire(blocking=waits)
            yield ours
        finally:
            if ours:
                self._lock.release()

    def _begin(
        self, reason: str, position: Position, forks: bool, short: memory.Shortage | None
    ) -> bool:
        started = time.perf_counter()
        self._announce(*self.entry_points.call_due())
        if short is not None and not short.in_place:
            self._trouble(short.said)
            return False
        if not staging.is_possible():
            return False  # soon, but not now: the clock asks again
        facts = self._facts_of(reason if short is None else commit.NEAR_CAP, position)
        if short is not None:  # what did not fit the last time would only be waited for again
            facts = replace(facts, known_bad={**self._still_too_large(), **facts.known_bad})
        if not forks:
            self._in_place(facts)
            if short is not None and self.settled.awaited is None:
                self.announcements.append(f"checkpoints are taken while you wait: {short.said}.")
            self.settled.awaited = None if short is None else short.said
            return True
        self.settled.awaited = None
        before_fork = self.stale_since
        self.stale_since = None
        room_bytes = memory.room_bytes(self._session.cap)
        self._room_at_fork = memory.headroom_bytes(self._session.cap) or 0

        def work(report: snapshot.Report) -> None:
            snapshot.limit_memory(room_bytes)
            write(
                facts,
                self._shell,
                self._store,
                report,
                snapshot.limit,
                spool.in_memory,
                False,
                True,
            )

        # No loop in Python, nor the names until they are asked for: the user waits.
        unneeded = itertools.chain.from_iterable(map(_MEMORY, facts.proved.units))
        try:
            with self._staging.staged(
                lambda: namespace.variables(
                    self._shell.user_ns,
                    {name for known in facts.proved.units for name in known.identities},
                ),
                lambda: itertools.chain.from_iterable(map(safe_point.values_of, position.frames)),
                room_bytes,
            ):
                child = snapshot.fork(work, unneeded)
        except staging.DeviceBusy:
            self.stale_since = before_fork
            self._paused(started)  # in vain, but somebody may have waited
            return False  # as above
        except OSError as why:
            self.stale_since = before_fork
            self._trouble(str(why))
            return False
        self._collections.begin()
        # Not the frames: they would keep what the user's functions hold, long after these end.
        self._child, self._facts = child, replace(facts, position=IDLE)
        self._in_hand, self._alive, self._committed, self._failed = [], False, None, None
        self._paused(started)
        self._recorder.update(snapshot_pid=child.pid)
        return True

    def _paused(self, started: float) -> None:
        """The main thread has stood still since `started` (perf_counter)."""
        pause_s = time.perf_counter() - started
        self.settled.pauses_s.append(pause_s)
        del self.settled.pauses_s[:-1000]
        self.cadence.paused(time.monotonic(), pause_s)

    def _facts_of(self, reason: str, position: Position) -> Facts:
        flight = self._recorder.flight
        now, monotonic = time.time(), time.monotonic()
        inside = flight.state == "busy"
        live = self._shell.user_ns
        self.left_behind = left_behind.renewed(
            left_behind.still(self.left_behind, self.settled.newest),
            lambda name: stand_ins.checkpoint_of(live.get(name)), now,
        )  # fmt: skip
        template = Manifest(
            id=manifest.new_id(now),
            seq=self._seq + 1,
            line=self._session.line,
            session=self._session.id,
            parent=self.parent,
            time=now,
            reason=reason,
            execution_count=flight.execution_count,
            inside_cell=inside,
            inside_call=not position.clean,
            cell_source=flight.cell_source or None,
            line_number=position.line if inside else None,
            units=(),
            skipped=(),
            left_behind=self.left_behind,
            partly=() if self.settled.newest is None else self.settled.newest.partly,
            failed_cells=tuple(sorted(self.observed.failed)),
            python=platform.python_version(),
        )
        return Facts(
            template=template,
            position=position,
            known_bad=self._blame.variables(self._shell.user_ns, monotonic),
            bad_frames=self._blame.frames(flight.execution_count, monotonic),
            exclude=self._session.settings.exclude,
            include=self._session.settings.include,
            slow=self._slow,
            dares=self._dares,
            newest=self.settled.newest,
            keep=self._session.settings.keep,
            root=Path(self._session.notebook_directory).parent,
            store_limit_bytes=self._session.settings.store_limit_bytes,
            proved=self.carry_over.proved(self._shell.user_ns),
            surroundings=self.surroundings.seen(inside),
            own_modules=self.own_modules.known(),
            observed=self.observed,
            missing=self.still_missing.not_saved(self._shell.user_ns),
            hidden=self._hidden,
        )

    def _still_too_large(self) -> dict[str, Skipped]:
        """Variables that are still the objects for which there was too little memory."""
        live = self._shell.user_ns
        return {
            name: skipped
            for name, (oid, skipped) in self._too_large.items()
            if namespace.identity(live, name) == oid
        }

    def _in_place(self, facts: Facts) -> None:
        """Where no snapshot process can be had, the user waits for all of it."""
        started = time.perf_counter()
        self._facts, self._committed = replace(facts, position=IDLE), None

        def report(**fields: Any) -> None:
            fields.pop("private_bytes", None)  # of the kernel, and of no snapshot process
            self._take_in(fields)

        near_cap = facts.template.reason == commit.NEAR_CAP
        hold = spool.Spool(self._store.directory) if near_cap else spool.in_memory
        bounded = memory.bounded(
            self._session.cap if near_cap else None,
            lambda limit_bytes: self._recorder.update(data_limit=limit_bytes),
        )
        with bounded:
            # No alarm here: it would end the kernel.
            write(facts, self._shell, self._store, report, lambda _: None, hold, True)
        self.stale_since = None
        self._paused(started)
        committed = self._committed
        if near_cap and committed is not None:
            newest = self._store.manifest(committed["committed"])
            self._too_large = {
                one.name: (namespace.identity(self._shell.user_ns, one.name) or 0, one)
                for one in newest.skipped
                if one.reason == units.TOO_LARGE
            }
        # What a snapshot process would need is not known any more.
        self._private_bytes = int(_FORGETS * self._private_bytes) if near_cap else 0
        self._settle(facts, started=time.monotonic())

    # --- watch --------------------------------------------------------------------------

    def watch(self, wait_s: float = 0.0, *, waits: bool = True) -> bool:
        """See to the snapshot process; True when none lives (any more). Any thread.

        Unless it `waits`, False also while another thread is settling.
        """
        with held_back(), self._locked(waits) as ours:
            if not ours:
                return False
            if self._child is None and self._blame.tries_again(time.monotonic()):
                self.changed()
            if self._child is None or self._inside:
                return self._child is None
            self._inside = True
            try:
                return self._watch(self._child, wait_s)
            finally:
                self._inside = False

    def _watch(self, child: snapshot.SnapshotProcess, wait_s: float) -> bool:
        for report in snapshot.read_status(child, wait_s):
            self._take_in(report)
        age = time.monotonic() - child.started
        unborn = not self._alive and age > snapshot.BIRTH_LIMIT_S
        late = age > snapshot.DEADLINE_S or self._idle.is_hung(child.pid)
        if unborn or late:
            snapshot.kill(child)
        ended = snapshot.reap(child, block=unborn or late)
        if ended is not None or age > self._collections.LIMIT_S:
            self._collections.end()
        if ended is None:
            return False
        for report in snapshot.read_status(child):
            self._take_in(report)
        snapshot.close(child)
        self._child = None
        self._recorder.update(snapshot_pid=None)
        self.cadence.spent(time.monotonic(), ended.cpu_s)
        facts = self._facts
        assert facts is not None
        if self._committed is not None:
            self._births = 0
            self._settle(facts, child.started)
        elif unborn:
            self._stillborn()
        else:
            self._failed_or_died(child.pid, ended, late)
        # Not when others take their place: to free thousands of units after a fork copies pages,
        # and then the user waits.
        self._facts, self._committed = replace(facts, proved=replace(facts.proved, units=())), None
        return True

    def _take_in(self, report: dict[str, Any]) -> None:
        if "alive" in report:
            self._alive = True
        if "unit" in report:
            self._in_hand = report["unit"]
            self._idle.begin(bool(self._in_hand))
        if "trying" in report:  # in other processes: it may wait
            self._in_hand = report["trying"]
            self._idle.begin(False)
        if "fatal" in report:
            killed = self._recorder.flight.snapshots_killed + report["killed"]
            self._recorder.update(snapshots_killed=killed)
            self._blame.convict(
                _still_meant(report["fatal"], report["meant"], self._shell.user_ns),
                _still_meant(report["costly"], report["meant"], self._shell.user_ns),
                self._shell.user_ns,
                time.monotonic(),
            )
        if "partial" in report:  # published already, with what follows as `pending`
            self._seq, self.parent = report["partial"]
        if "committed" in report:
            self._committed = report
        if "failed" in report:
            self._failed = report["failed"]
        if "private_bytes" in report:
            self._private_bytes = report["private_bytes"]
        if "trouble" in report:
            self._announce(report["trouble"])

    def _stillborn(self) -> None:
        self.changed()
        self._births += 1
        if self._births >= _BIRTHS:
            self._trouble("the snapshot process did not start, three times")

    def _stopped_by_guard(self, pid: int) -> int | None:
        """What it had of its own, in bytes; None: it was not the guard."""
        directory = Path(self._session.notebook_directory) / SESSIONS / self._session.id
        try:
            events = session.read_events(directory)
        except OSError:
            return None  # then it counts as killed by somebody
        for event in events:
            if event.kind == "snapshot-stopped-by-guard" and event.extra.get("pid") == pid:
                return int(event.extra.get("private_bytes", 0))
        return None

    def _failed_or_died(self, pid: int, ended: snapshot.Exit, late: bool) -> None:
        """The snapshot process ended without a commit: why, and what is tried next."""
        self.carry_over.forget()
        self._staging.forget()
        if ended.killed:
            self._recorder.update(snapshots_killed=self._recorder.flight.snapshots_killed + 1)
            # Perhaps for want of memory. The next one is made in place if there is no more room.
            self._private_bytes = max(self._private_bytes, self._room_at_fork)
            had_bytes = self._stopped_by_guard(pid)
            if had_bytes is not None:
                self._private_bytes = had_bytes
                self.changed()
                return
        if self._facts is not None and self._facts.proved.together and self._failed is None:
            self.changed()
            return
        trouble = self._failed or self._blame.judge(
            ended, late, self._in_hand, self._shell.user_ns, time.monotonic(), self._idle.found
        )
        if trouble is not None:
            self._trouble(trouble)
        self._announce(*self._blame.news())
        self.changed()

    # --- settle -------------------------------------------------------------------------

    def _settle(self, facts: Facts, started: float) -> None:
        committed = self._committed
        assert committed is not None
        # First: whatever cannot be read back now, this number is taken.
        self._seq = max(self._seq + 1, facts.template.seq)
        self.parent = committed["committed"]
        self.carry_over.forget()
        self._store.refresh()
        newest = self._store.manifest(committed["committed"])
        self._seq = newest.seq
        # What the snapshot process has found whole need not be read by the next one again.
        self._store.note_whole((unit.payload for unit in newest.units), committed["verified"])
        self.own_modules.settle(committed["own_modules"])
        self.carry_over.settle(newest, facts.proved.units, committed)
        payloads = {unit.payload for unit in newest.units}
        if self._staging.settle(payloads, committed["staged"], committed["missed"]):
            self.changed()
        self._slow = frozenset(committed["undecided"])
        if self._slow:
            self.changed()
        settled = self.settled
        settled.newest, settled.trouble = newest, None
        settled.count += 1
        settled.write_s = time.monotonic() - started
        settled.new_bytes = committed["new_bytes"]
        settled.carried_units = len(facts.proved.units)
        self._said.clear()
        self._failures, self._retry_at = 0, 0.0
        self._blame.acquit(newest.names, self._slow)
        made = {one.name: one.made_in for one in newest.skipped if one.made_in is not None}
        if made.keys() - self.observed.bound_in.keys():
            self.observed.learn(made)  # the next snapshot process need not look for it again
        self._announce(*self._blame.news())
        self._recorder.update(checkpoint=newest.id, checkpoint_time=newest.time)

    def _trouble(self, text: str) -> None:
        self.settled.trouble = text
        self._failures += 1
        self._retry_at = time.monotonic() + min(2.0**self._failures, _RETRY_LIMIT_S)
        self.changed()
        self._announce(f"checkpointing is off: {text}. Your work goes on, unsaved.")

    def _announce(self, *texts: str) -> None:
        """Say it once, before the next cell; again only after a success in between."""
        for text in texts:
            if text not in self._said:
                self._said.add(text)
                self.announcements.append(text)

    def in_forked_child(self) -> None:
        """A process that the user has forked collects its garbage as ever."""
        self._collections.end()

    def finish(self, deadline: float) -> bool:
        """Wait for the snapshot process until `deadline` (monotonic); True if it has ended."""
        while not self.watch(wait_s=0.02):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def save(self, reason: str, position: Position, limit_s: float) -> Manifest | None:
        """Take a checkpoint and wait for its commit; None if it failed or took too long.

        Where objects take long to be tried, all else is committed first, then they.
        """
        deadline = time.monotonic() + limit_s
        saved: Manifest | None = None
        while time.monotonic() < deadline:
            if not self.finish(deadline):
                break
            before, self.settled.trouble = self.settled.count, None
            self._dares = bool(self._slow)
            if not self.take(reason, position):
                break
            if self.finish(deadline) and self.settled.count > before:
                all_of_it, saved = saved is not None, self.settled.newest
                if all_of_it or not self._slow:
                    break
            if self.settled.trouble is not None:
                break
        self._dares = False
        return saved


def _still_meant(
    reasons: dict[str, str], meant: dict[str, int], live: dict[str, Any]
) -> dict[str, str]:
    """Of names, those that stand for the object that was meant."""
    return {
        name: why
        for name, why in reasons.items()
        if namespace.identity(live, name) == meant.get(name)
    }


# --- write: the snapshot process ------------------------------------------------------------


def write(
    facts: Facts,
    shell: Any,
    store: Store,
    report: Callable[..., None],
    limit: Callable[[float], None],
    hold: units.Hold = spool.in_memory,
    interruptible: bool = False,
    forks: bool = False,
) -> None:
    """Serialize the namespace, write what is new, and commit it by publishing the manifest.

    `interruptible`: a Ctrl-C is the user's, who waits; in a snapshot process it is an object's.
    `forks`: this is a snapshot process.
    """
    rules = secrets_rules.of(facts.exclude, facts.include, os.environ, os.path.exists)
    hidden = shell.user_ns_hidden if facts.hidden is None else facts.hidden
    selected = namespace.select(shell.user_ns, hidden, rules)
    for known in facts.proved.units:
        for name in known.identities:
            selected.roots.pop(name, None)
    selected.roots.update(registrations.roots())

    def progress(names: list[str], limit_s: float = snapshot.UNIT_LIMIT_S) -> None:
        limit(limit_s)
        report(unit=names)

    def trying(names: list[str]) -> None:
        limit(snapshot.DEADLINE_S)
        report(trying=names)

    waits = own_modules.WAITING_LIMIT_S if interruptible else own_modules.LIMIT_S
    changed = own_modules.look(facts.own_modules, selected.roots, facts.known_bad, progress, waits)
    of_modules = namespace.of_modules(changed.roots, selected.rules)
    selected.roots.update(of_modules.roots)
    partition = units.partition(
        selected.roots, shell.user_ns, facts.known_bad, progress, facts.position.in_call,
        facts.proved.together, hold, interruptible,
        {(one.name, one.type) for one in facts.template.partly}, selected.rules,
        units.Trying(facts.slow, facts.dares, trying) if forks else None,
    )  # fmt: skip
    if partition.fatal or partition.costly:
        named = (*partition.fatal, *partition.costly)
        # Which objects they are: the user may have rebound a name by the time that this is read.
        meant = {name: id(selected.roots[name]) for name in named if name in selected.roots}
        report(fatal=partition.fatal, costly=partition.costly, killed=partition.killed, meant=meant)
    frames = locals_unit.drafts(
        facts.position.frames, shell.user_ns, partition, facts.bad_frames,
        lambda names: progress(names, locals_unit.HANG_LIMIT_S), partition.rules,
    )  # fmt: skip
    report(unit=[])
    limit(snapshot.DEADLINE_S)
    state = interactive_state.draft(shell, facts.surroundings, partition.definitions)
    carried, lost = commit.carried_over(facts.proved.units, partition)
    not_saved = [*_held_before(facts.newest, partition), *lost]
    left_out = [*selected.skipped, *of_modules.skipped, *not_saved]
    made = _with_origin(facts, shell, left_out, {one.name for one in not_saved})
    seen = {one.name for one in made}
    missing = [one for one in facts.missing if one.name not in seen]
    skipped = sorted(
        [*made, *missing, *changed.skipped, *frames.skipped, *state.skipped],
        key=lambda entry: entry.name,
    )
    # What is carried over has the stubs that it had.
    names = {name for unit in carried for name in (*unit.names, *unit.hidden)}
    partly = sorted(
        [*(one for one in facts.template.partly if one.name in names),
         *registrations.said(partition.partly), *frames.partly],
        key=lambda entry: entry.name,
    )  # fmt: skip
    drafts = [*partition.units, *frames.units, *state.units, _session_draft(shell)]
    done = replace(
        facts.template, skipped=tuple(skipped), partly=tuple(partly), interactive=state.words
    )
    whole = commit.State(
        done, drafts, carried, partition,
        facts.proved.clean,
        [memory for known in facts.proved.units for memory in known.memory],
    )  # fmt: skip
    # Also of functions that were restored and cannot be saved (any more).
    codes = [code for draft in drafts if draft.pickled for code in draft.pickled.codes]
    reachable = by_code(dict.fromkeys([*codes, *rebuild.codes]))
    already = store.verified
    committed = commit.commit(whole, store, lambda partial: report(partial=partial))
    report(
        committed=committed.id,
        new_bytes=committed.new_bytes,
        known=[unchanged.encode(known) for known in committed.known],
        reachable=[sorted(reachable.later), reachable.blind, len(rebuild.codes)],
        staged=committed.staged,
        missed=partition.missed,
        own_modules=changed.report,
        undecided=partition.undecided,
        verified=[digest.hex() for digest in store.verified - already],
        private_bytes=memory.private_bytes(),
    )
    _prune(store, facts, report)


def _held_before(newest: Manifest | None, partition: units.Partition) -> list[Skipped]:
    """What is not saved. Of what takes long to be tried, the checkpoint before has a version."""
    skipped = registrations.said(partition.skipped)
    if newest is None or not partition.undecided:
        return skipped
    holds = dict.fromkeys(newest.names, newest.id)
    holds |= {one.name: one.checkpoint for one in newest.skipped if one.checkpoint is not None}
    return [
        replace(
            one,
            checkpoint=holds[one.name],
            remedy=f"as it was before: %checkpoint restore {holds[one.name]} {one.name}",
        )
        if one.name in partition.undecided and one.name in holds
        else one
        for one in skipped
    ]


def _with_origin(
    facts: Facts, shell: Any, left_out: list[Skipped], quoted: set[str]
) -> list[Skipped]:
    """Which cell made what is not saved; the lines of those `quoted` are told."""
    if not left_out:
        return []
    template = facts.template
    running = template.execution_count if template.inside_cell else None
    seen = facts.observed.by_now(shell.user_ns, running)
    return provenance.made_in(
        left_out, provenance.cells_of_shell(shell), seen, quoted, _MADE_IN_LIMIT_S
    )


def _session_draft(shell: Any) -> units.Draft:
    """History, prompt number and sources: a unit of their own."""
    state = history_blocks.pack(namespace.interactive_state(shell))
    draft = units.Draft(_SESSION_UNIT, {_SESSION_UNIT: state})
    draft.pickled = pickling.dump(draft.root, {}, units.NO_DEFINITIONS, units.NO_OBSERVER)
    return draft


def _prune(store: Store, facts: Facts, report: Callable[..., None]) -> None:
    """Let go of old checkpoints; the new one is committed, so a failure only costs disk."""
    try:
        line, now = facts.template.line, facts.template.time
        _, drop = prune.choose(store.manifests(), facts.keep, line, now)
        if drop:
            prune.prune(store, drop)
        quota = prune.enforce_quota(facts.root, store, facts.store_limit_bytes, line, now)
        if quota.over is not None:
            report(trouble=quota.over)
    except Exception as why:
        report(trouble=f"old checkpoints could not be removed: {type(why).__name__}: {why}")
