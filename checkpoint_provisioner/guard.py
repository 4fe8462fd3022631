"""Keeps a kernel alive under its memory limit, where the limit alone would have it killed.

    read     what is used under the limit, how much memory the kernel has, what it is doing
    limit    RLIMIT_DATA of the kernel := what it has + what is left (prlimit(2)): an allocation
             that does not fit fails with MemoryError, in C code too
    children no such limit, and the first to go for the OOM killer (oom_score_adj)
    cell     above the soft limit: stop the snapshot process, else signal the kernel, whose
             handler raises MemoryCapExceeded between two bytecodes, once per cell

A fixed RLIMIT_DATA fails with half the limit unused, and does not see page tables, shared
memory and children; so it follows what is used, with every tick. Only the soft limit of
RLIMIT_DATA is moved, so that nobody needs privileges and the kernel can lift it. What is raised
in the kernel is `checkpoint_kernel.memory_guard`'s.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from checkpoint_kernel import contract, flight_recorder
from checkpoint_kernel.flight_recorder import Flight
from checkpoint_kernel.session import Cap, Event
from checkpoint_kernel.words import size

from . import guard_rules, guard_verbs, proc, process
from .caps import meter
from .caps.meter import Data, Meter, Use

HALF = 0.5  # below it there is room for all, and nobody's share need be known
# A kernel that did not react (one long call of C code) is asked again.
ASK_AGAIN_S = 0.5
# Who has freed so much below the soft limit since may be interrupted again in the same cell.
REARMED = 0.9
# Two readings of the kernel's data that differ by less are of one moment; it is tried so often.
ONE_MOMENT = 0.005
STALE_S = 0.004  # less than `memory_guard.lifted` waits
LOOKS = 5
STARTS_WITHIN_S = 60.0
UNREAD_TICKS = 10
CHILD_SCORE = 500  # of 1000, above the kernel's: snapshot processes have all of it and go first


@dataclass
class _Cell:
    """The running cell, as far as memory goes."""

    began: float | None  # as the flight recorder has it: tells cells apart
    used_at_start: int
    own_at_first: int | None  # of the kernel and its children, when others' use first mattered
    interrupts: int  # how many this kernel had seen before it could be this cell's turn
    asked_at: float = float("-inf")  # monotonic


class Guard:
    """Watches one kernel. `tick` returns how many seconds may pass until the next."""

    def __init__(
        self,
        kernel_pid: int,
        cap: Cap,
        reader: Meter,
        directory: Path,
        processes: Callable[[], Iterable[int]],
        say: Callable[[Event], None],
        store: str,
        is_ours: bool,
    ) -> None:
        """`processes`: the kernel's and its children's pids; `say` puts an event on record."""
        self._pid = kernel_pid
        self._cap = cap
        self._reader = reader
        self._directory = directory
        self._processes = processes
        self._say = say
        self._store = store
        self._is_ours = is_ours
        self._before, _ = resource.prlimit(kernel_pid, resource.RLIMIT_DATA)
        self._set: deque[int] = deque(maxlen=256)  # what we made of it, to know it in children
        self._seen: set[int] = {kernel_pid}
        self._children_at = float("-inf")
        self._cell: _Cell | None = None
        self._own_bytes = meter.of_processes(processes)
        self._promised = guard_rules.Promised()
        self._libraries_bytes, self._libraries_at = 0, 0
        self._maps_bytes, self._maps_again = 0, 0.0
        self._has_maps = False
        self._flight: Flight | None = None  # the last that was whole
        self._stale = 0  # ticks in a row
        self._work_s, self._cpu_s, self._worked_at = 0.0, 0.0, time.monotonic()
        self._victim: int | None = None  # pidfd of a child that we have killed
        self._users: int | None = None  # RLIMIT_DATA as code of the user's has set it
        self._born = time.monotonic()
        self._unread = 0  # ticks in a row
        self._stopped: int | None = None  # the last snapshot process that was
        self.last: Use | None = None

    def tick(self) -> float:
        """Look once and act. Never raises for a kernel that has ended meanwhile."""
        began = time.monotonic()
        seen = self._look()
        if seen is None:
            self._unread += 1
            if self._unread > UNREAD_TICKS:
                raise RuntimeError("what is used under the limit cannot be read")
            return guard_rules.LONGEST_TICK_S
        self._unread = 0
        use, data, of_one_moment = seen
        before, self.last = self.last, use
        flight = self._flight = self._read_flight() or self._flight
        busy = flight is not None and flight.state == "busy"
        soft_bytes = self._cap.soft_within(use.limit_bytes)
        self._sees(flight)
        near = use.used_bytes > 0.8 * soft_bytes
        self._see_to_children(near, flight)
        if self._is_free(flight):
            self._lift()
            return guard_rules.SHORTEST_TICK_S
        if (of_one_moment and time.monotonic() - began < STALE_S) or self._stale >= LOOKS:
            self._stale = 0
            self._limit(use, data, flight, busy)
        else:  # others had the processor meanwhile: the limit before is nearer to the truth
            self._stale += 1
        if flight is not None:
            self._see_to_cell(use, before or use, soft_bytes, flight)
        over = use.used_bytes > contract.DATA_SHARE * use.limit_bytes
        if over and use.own and not self._cap.enforced:
            self._kill_largest_child(use)
        return (
            guard_rules.SHORTEST_TICK_S
            if self._stale
            else guard_rules.next_tick_s(use.used_bytes, soft_bytes, busy)
        )

    def _is_free(self, flight: Flight | None) -> bool:
        """While a kernel of ours starts or restores, or asks for it, nothing is limited."""
        if not self._is_ours:
            return False
        if flight is None:  # it has no recorder, on a full disk: then as any other kernel
            return time.monotonic() - self._born < STARTS_WITHIN_S
        return flight.lifted or flight.state in ("starting", "restoring")

    def _sees(self, flight: Flight | None) -> None:
        """What the kernel tells of its own doings."""
        if flight is not None:
            self._has_maps = self._has_maps or flight.maps_restored or flight.restore_done
            self._users = flight.users_data_limit
            self._know(flight.data_limit)

    def _read_flight(self) -> Flight | None:
        if not self._is_ours:
            return None
        try:
            return flight_recorder.read(self._directory / contract.FLIGHT_FILE)
        except (OSError, ValueError, TypeError):
            return None  # written at this moment: the one before will do

    # --- the kernel's own allocations ---

    def _look(self) -> tuple[Use, Data, bool] | None:
        """Use and data, and whether they are of one moment.

        A gigabyte that comes or goes between the readings would mislead.
        """
        seen = None
        before = meter.data_of(self._pid)
        for _ in range(LOOKS):
            use, after = self._reader.read(), meter.data_of(self._pid)
            if use is None or before is None or after is None:
                return None
            data_bytes = min(before.data_bytes, after.data_bytes)
            anonymous_bytes = min(before.anonymous_bytes, after.anonymous_bytes)
            changed = abs(after.data_bytes - before.data_bytes)
            changed += abs(after.anonymous_bytes - before.anonymous_bytes)
            agree = changed < ONE_MOMENT * use.limit_bytes
            seen = use, Data(data_bytes, anonymous_bytes), agree
            if agree:
                break
            before = after
        return seen

    def _limit(self, use: Use, data: Data, flight: Flight | None, busy: bool) -> None:
        clean_maps = self._clean_maps(use)
        untouched_bytes = max(data.untouched_bytes - self._libraries(data) - clean_maps, 0)
        promised = clean_maps + self._promised.update(untouched_bytes, self._worked_s(busy))
        snapshot = 0
        if flight is not None and flight.snapshot_pid and use.used_bytes > HALF * use.limit_bytes:
            snapshot = meter.private_bytes(flight.snapshot_pid)
        self._set_data_limit(guard_rules.data_limit(use, data.data_bytes, promised, snapshot))
        now = self._read_flight()
        if now is not None and now.lifted:  # since we have looked
            self._lift()

    def _worked_s(self, busy: bool) -> float:
        """Processor time of the kernel; while no cell runs, time: what waits then is not filled."""
        now, cpu_s = time.monotonic(), guard_verbs.cpu_s(self._pid)
        self._work_s += max(cpu_s - self._cpu_s, 0.0 if busy else now - self._worked_at)
        self._cpu_s, self._worked_at = cpu_s, now
        return self._work_s

    @property
    def _own(self) -> int:
        """The limit that the kernel would have without us: the user's, or what it began with."""
        return self._before if self._users is None else self._users

    def off(self) -> None:
        """Leave the kernel as it was found."""
        self._lift()

    def _lift(self) -> None:
        self._set_data_limit(self._own)

    def _set_data_limit(self, wanted: int) -> None:
        # It has just ended, or has lowered the hard limit between our two calls.
        with contextlib.suppress(OSError, ValueError):
            _, hard = resource.prlimit(self._pid, resource.RLIMIT_DATA)
            for bound in (self._own, hard):
                if bound != resource.RLIM_INFINITY:
                    wanted = min(wanted, bound) if wanted != resource.RLIM_INFINITY else bound
            resource.prlimit(self._pid, resource.RLIMIT_DATA, (wanted, hard))
            self._know(wanted)

    def _know(self, limit_bytes: int | None) -> None:
        """A child that has this limit has it from us."""
        if limit_bytes is not None and limit_bytes not in self._set:
            self._set.append(limit_bytes)

    def _libraries(self, data: Data) -> int:
        """Bytes of maps of files that are none of the store's: data in name only."""
        if abs(data.data_bytes - self._libraries_at) > guard_rules.CHANGE_BYTES:
            self._libraries_at = data.data_bytes
            self._libraries_bytes = guard_verbs.file_map_bytes(self._pid, self._store)
        return self._libraries_bytes

    def _clean_maps(self, use: Use) -> int:
        """Bytes of restored maps that nobody has written to yet.

        To ask takes long in a large kernel: not while there is room, nor more often than for one
        part in fifty of the time.
        """
        now = time.monotonic()
        if self._has_maps and now >= self._maps_again and use.used_bytes > HALF * use.limit_bytes:
            self._maps_bytes = guard_verbs.unwritten_map_bytes(self._pid, self._store)
            took_s = time.monotonic() - now
            self._maps_again = now + max(guard_rules.LONGEST_TICK_S, meter.RARELY * took_s)
        return self._maps_bytes

    # --- children ---

    def _see_to_children(self, near: bool, flight: Flight | None) -> None:
        now = time.monotonic()
        if not near and now - self._children_at < guard_rules.LONGEST_TICK_S:
            return
        self._children_at = now
        alive = set(self._processes())
        for pid in alive - self._seen:
            if flight is None or pid != flight.snapshot_pid:
                self._let_go(pid)
        self._seen = alive | {self._pid}

    def _let_go(self, pid: int) -> None:
        """A child inherits the limit, which is about the kernel's own size."""
        with contextlib.suppress(OSError, ValueError):  # it has just ended, or is another user's
            now, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
            if now in self._set and now != self._own:
                resource.prlimit(pid, resource.RLIMIT_DATA, (self._own, hard))
        guard_verbs.raise_oom_score(pid, self._pid, CHILD_SCORE)

    def _kill_largest_child(self, use: Use) -> None:
        """Nobody else would, where no cgroup enforces the limit. One at a time."""
        if self._victim is not None and not process.has_exited(self._victim):
            return
        snapshot = self._flight.snapshot_pid if self._flight else None
        children = [pid for pid in self._processes() if pid not in (self._pid, snapshot)]
        sizes = {pid: meter.private_bytes(pid) for pid in children}
        largest = max(sizes, key=lambda pid: sizes[pid], default=None)
        if largest is None or sizes[largest] < guard_rules.FLOOR * use.limit_bytes:
            return
        name = proc.process_name(largest)
        try:
            victim = os.pidfd_open(largest)
        except OSError:  # it has ended by itself
            return
        if self._victim is not None:
            os.close(self._victim)
        self._victim = victim
        with contextlib.suppress(OSError):  # as above
            signal.pidfd_send_signal(victim, signal.SIGKILL)
            said = (
                f"child process {largest} ({name}) was killed by the guard: with its "
                f"{size(sizes[largest])} the kernel was over {self._cap.configured}"
            )
            extra = {"pid": largest, "used_bytes": sizes[largest]}
            self._say(Event("child-killed-by-guard", time.time(), said, extra))

    # --- the running cell ---

    def _see_to_cell(self, use: Use, before: Use, soft_bytes: int, flight: Flight) -> None:
        stopped = use.used_bytes > soft_bytes and self._stop_snapshot(flight)
        if flight.state != "busy":
            self._cell = None
            return
        cell = self._follow(use, before, flight)
        interrupted = flight.memory_interrupts > cell.interrupts
        if use.used_bytes <= guard_rules.interrupts_at(
            soft_bytes, use.limit_bytes, cell.used_at_start
        ):
            if interrupted and use.used_bytes < REARMED * soft_bytes:
                cell.interrupts = flight.memory_interrupts
            return
        now = time.monotonic()
        if interrupted or now - cell.asked_at < ASK_AGAIN_S or not self._is_to_blame(use, cell):
            return
        if stopped:
            return  # perhaps that was enough
        cell.asked_at = now
        guard_verbs.signal_if_caught(self._pid, contract.MEMORY_SIGNAL)

    def _follow(self, use: Use, before: Use, flight: Flight) -> _Cell:
        """The cell that runs now. What was used when it began, the tick before tells."""
        if self._cell is None or self._cell.began != flight.cell_started:
            self._cell = _Cell(
                flight.cell_started,
                min(use.used_bytes, before.used_bytes),
                None,
                flight.memory_interrupts,
            )
        return self._cell

    def _is_to_blame(self, use: Use, cell: _Cell) -> bool:
        """Under a limit that is shared with others: whether this kernel's cell has grown."""
        if use.own:
            return True
        own_bytes = self._own_bytes() or 0
        if cell.own_at_first is None:
            cell.own_at_first = own_bytes
        grown = own_bytes - cell.own_at_first
        return grown > max(guard_rules.GROWTH_BYTES, int(guard_rules.GROWTH * use.limit_bytes))

    def _stop_snapshot(self, flight: Flight) -> bool:
        """What is freed near the limit must be free at once; the next checkpoint is in place."""
        pid = flight.snapshot_pid
        if pid is None or pid == self._stopped or not proc.belongs_to_session(pid, self._directory):
            return False  # or its pid is another's by now
        self._stopped = pid
        said = "the process that was writing a checkpoint was stopped: memory was nearly used up"
        # On record first: the kernel looks there for why its process was killed.
        extra = {"pid": pid, "private_bytes": meter.private_bytes(pid)}
        self._say(Event("snapshot-stopped-by-guard", time.time(), said, extra))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
        return True
