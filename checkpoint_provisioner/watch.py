"""Watches a living kernel, and sees to what it leaves behind when it has ended.

One thread, one selector: the kernel's pidfd, the signals of a signalfd, its stderr, the end
of the server, a slow tick, and the guard's. How the kernel came to be is `supervisor`'s; what
its end means, `post_mortem`'s.
"""

from __future__ import annotations

import math
import os
import selectors
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from checkpoint_kernel import contract, flight_recorder, session
from checkpoint_kernel.session import Event

from . import (
    descendants,
    evidence,
    home,
    incidents,
    orphans,
    post_mortem,
    proc,
    process,
)
from .caps import policy
from .evidence import Exit, LeftRunning, Samples, SignalSeen
from .guard import Guard
from .last_look import Looker
from .launch import is_ours
from .restore_watch import RestoreWatch
from .stderr_relay import StderrRelay

TICK_S = 1.0
PROCESSES_SHOWN = 10
KILLED_WITHIN_S = 0.4  # a snapshot process of gigabytes takes its time to go
# What a kernel has to end in after its server is gone; longer if its last checkpoint may take so.
LEAST_LAST_SAVE_S = 10.0


@dataclass
class Kernel:
    """A started kernel, and what watches it."""

    pid: int
    argv: list[str]
    session: session.Session
    directory: Path  # of the session
    home: home.Home
    cap: policy.CapHandle
    relay: StderrRelay | None


class Watch:
    """Watches one kernel until it has ended, and sees to what it leaves behind."""

    def __init__(self, kernel: Kernel, server_pid: int, independent: bool) -> None:
        self._kernel = kernel
        self._independent = independent
        self._server_pid = server_pid
        self._samples = Samples(kernel.cap, kernel.pid)
        self._incidents = incidents.Incidents(
            kernel.directory, kernel.session, self._samples, is_ours(kernel.argv)
        )
        self._guard = self._guard_of(kernel)
        self._signals: list[SignalSeen] = []
        self._sent: list[int] = []
        self._server_gone_since: float | None = None
        self._forks_refused = False  # an event says so
        self._last_save_s = max(kernel.session.settings.shutdown_wait, LEAST_LAST_SAVE_S)
        self._selector = selectors.DefaultSelector()
        self._kernel_fd = os.pidfd_open(kernel.pid)
        self._signal_fd = process.open_signals(process.WATCHED)
        self._server_fd = self._watch_server()
        self._looker = Looker(kernel.pid, kernel.directory)
        self._restore = RestoreWatch(kernel.pid, kernel.directory)

    def until_exit(self) -> Exit:
        """Watch; returns when the kernel is judged, on record, cleared away and reaped."""
        self._selector.register(self._kernel_fd, selectors.EVENT_READ)
        self._selector.register(self._signal_fd, selectors.EVENT_READ)
        for fd in self._kernel.relay.read_fds if self._kernel.relay else ():
            self._selector.register(fd, selectors.EVENT_READ)
        next_tick = time.monotonic() + TICK_S
        next_look = time.monotonic() if self._guard is not None else math.inf
        while True:
            due = min(next_tick, next_look)
            events = self._selector.select(max(0.0, due - time.monotonic()))
            ready = [key.fd for key, _ in events]
            if self._kernel_fd in ready:
                return self._exit_seen()
            for fd in ready:
                self._handle(fd)
            if self._guard is not None and time.monotonic() >= next_look:
                next_look = time.monotonic() + self._guarded(self._guard)
            if time.monotonic() >= next_tick:
                for step in (self._samples.tick, self._note_refused_forks, self._incidents.look):
                    self._unless_it_fails(step)
                self._unless_it_fails(self._end_hung_restore)
                self._look_for_server()
                next_tick = time.monotonic() + TICK_S

    def _guarded(self, guard: Guard) -> float:
        """One tick of the guard; seconds to the next. One that fails is off: the kernel lives."""
        try:
            return guard.tick()
        except Exception as why:
            self._guard = None
            guard.off()
            said = f"the memory guard is off: {why!r}; only the limit itself acts"
            self._incidents.say(Event("guard-off", time.time(), said))
            return math.inf

    def _unless_it_fails(self, step: Callable[[], None]) -> None:
        """Nothing that is only looked at may end the supervisor, and the kernel with it."""
        try:
            step()
        except Exception as why:
            note = f"{step.__qualname__} failed: {why!r}"
            if note not in self._samples.notes:
                self._samples.notes.append(note)
                print(f"checkpoint-kernel: {note}", file=sys.stderr)

    def _guard_of(self, kernel: Kernel) -> Guard | None:
        cap = kernel.session.cap
        if cap is None or not cap.guarded:
            return None

        ours = os.getsid(0)

        def processes() -> list[int]:
            """The kernel, and what it has started; not what we have started to look at it."""
            started = (p.pid for p in descendants.of_kernel(kernel.pid) if p.session != ours)
            others = kernel.cap.pids() or started
            return [kernel.pid, *(pid for pid in others if pid != kernel.pid)]

        reader = kernel.cap.meter(processes)
        if reader is None:
            return None
        try:
            return Guard(
                kernel.pid, cap, reader, kernel.directory, processes, self._incidents.say,
                kernel.session.notebook_directory, is_ours(kernel.argv),
            )  # fmt: skip
        except (OSError, ValueError) as why:  # another user's, by sudo
            said = f"the memory guard is off: {why}; only the limit itself acts"
            self._incidents.say(Event("guard-off", time.time(), said))
            return None

    def _handle(self, fd: int) -> None:
        if fd == self._signal_fd:
            self._pass_on_signals()
        elif fd == self._server_fd:
            self._selector.unregister(fd)
            self._look_for_server()
        elif self._kernel.relay is not None and not self._kernel.relay.drain(fd):
            self._selector.unregister(fd)

    def _pass_on_signals(self) -> None:
        for number in self._take_signals():
            if number == contract.STACKS_SIGNAL:
                self._look()
            else:
                process.send(self._kernel.pid, number, group=True)
        process.reap_others(self._kernel.pid)

    def _take_signals(self) -> list[int]:
        """The signals that wait, but SIGCHLD; who sent them is noted as evidence."""
        taken = [s for s in process.read_signals(self._signal_fd) if s.number != signal.SIGCHLD]
        for one in taken:
            if one.number == contract.STACKS_SIGNAL:
                continue  # meant for us, not for the kernel
            name = proc.process_name(one.sender_pid)
            self._signals.append(
                SignalSeen(one.number, one.sender_pid, one.sender_uid, name, time.time())
            )
        return [one.number for one in taken]

    def _look(self) -> None:
        """The kernel does not answer a restart, and will be killed."""
        try:
            self._looker.begin()
        except OSError as why:
            self._samples.notes.append(f"its stacks could not be taken: {why}")

    def _end_hung_restore(self) -> None:
        """First its stacks are taken, for the record; then it is killed."""
        match self._restore.look(time.monotonic()):
            case "look":
                self._look()
            case "kill":
                self._sent.append(signal.SIGKILL)
                process.send(self._kernel.pid, signal.SIGKILL, group=True)

    def _watch_server(self) -> int | None:
        """A wake-up for the end of our parent; `_look_for_server` then asks getppid."""
        if self._independent:
            return None
        try:
            fd = os.pidfd_open(self._server_pid)
        except OSError:  # gone already, or pid 0: a parent outside our pid namespace
            return None
        self._selector.register(fd, selectors.EVENT_READ)
        return fd

    def _look_for_server(self) -> None:
        """End a kernel whose server is gone; it has `shutdown_wait` to save its state."""
        if self._independent or os.getppid() == self._server_pid:
            return
        kernel = self._kernel
        if self._server_gone_since is None:
            self._server_gone_since = time.monotonic()
            try:
                session.append_intent(kernel.directory, "terminate", sender="supervisor")
            except OSError as why:
                self._samples.notes.append(f"the intent could not be written: {why}")
            self._sent.append(signal.SIGTERM)
            process.send(kernel.pid, signal.SIGTERM)
        elif time.monotonic() - self._server_gone_since > self._last_save_s:
            self._sent.append(signal.SIGKILL)
            process.send(kernel.pid, signal.SIGKILL, group=True)

    def _note_refused_forks(self) -> None:
        """Once: what the cell sees is "Resource temporarily unavailable", and no limit named."""
        counters = self._samples.counters
        if self._forks_refused or counters is None or not counters.forks_refused:
            return
        self._forks_refused = True
        said = (
            f"A process or thread could not be started: pids_limit allows {counters.pids_limit} "
            f"(refused {counters.forks_refused} times so far)."
        )
        numbers = {"pids_limit": counters.pids_limit, "refused": counters.forks_refused}
        event = session.Event("fork-refused", time.time(), said, numbers)
        try:
            session.append_event(self._kernel.directory, event)
        except OSError as why:
            self._samples.notes.append(f"an event could not be written ({said}): {why}")

    # --- after it ---

    def _exit_seen(self) -> Exit:
        kernel = self._kernel
        self._unless_it_fails(self._incidents.look)  # what its last second brought
        self._take_signals()  # those that came with the exit
        self._looker.end()
        ended = _status(kernel.pid)
        if kernel.relay is not None:
            kernel.relay.drain_all()
            if kernel.relay.problem:
                self._samples.notes.append(kernel.relay.problem)
        try:
            marker = self._judge(ended)
        except Exception as why:  # a fault of ours: what the kernel leaves must go nevertheless
            marker = session.ExitMarker(kernel.session.id, time.time(), "death", "unknown")
            print(f"checkpoint-kernel: the end could not be judged: {why!r}", file=sys.stderr)
        self._clear_away(marker)
        if ended.core_dumped:
            self._read_core(marker)
        os.waitpid(kernel.pid, 0)
        process.reap_others(kernel.pid)
        for said in orphans.free_ports(kernel.argv, kernel.directory):
            print(f"checkpoint-kernel: {said}", file=sys.stderr)
        still_there = kernel.cap.close()
        if still_there:
            print(f"checkpoint-kernel: {still_there}", file=sys.stderr)
        if kernel.home.lock_fd is not None:
            os.close(kernel.home.lock_fd)
        return ended

    def _judge(self, ended: Exit) -> session.ExitMarker:
        kernel = self._kernel
        observed = evidence.gather(
            kernel.directory,
            kernel.session,
            ended,
            self._samples,
            kernel.relay.tail if kernel.relay else b"",
            self._signals,
            self._sent,
            self._server_gone_since is not None,
            is_ours(kernel.argv),
            kernel.pid,
            kernel.argv,
            left_running=self._left_running(),
            loading_hung=self._restore.hung,
        )
        try:
            return post_mortem.exit_seen(kernel.directory, observed)
        except OSError as why:
            print(f"checkpoint-kernel: the end is not on record: {why}", file=sys.stderr)
            return post_mortem.unwritten(observed)

    def _left_running(self) -> list[LeftRunning]:
        kernel = self._kernel
        try:
            flight = flight_recorder.read(kernel.directory / contract.FLIGHT_FILE)
            alive = descendants.of_kernel(kernel.pid)
        except (OSError, ValueError, TypeError) as why:
            self._samples.notes.append(f"what the kernel left running is not known: {why!r}")
            return []
        saving = flight.snapshot_pid if flight is not None else None
        return [
            LeftRunning(one.pid, one.name, own_session=one.session != kernel.pid)
            for one in alive
            if one.pid != saving
        ]

    def _read_core(self, marker: session.ExitMarker) -> None:
        """The native stack of a crash, where the user has cores written; the record stands."""
        from . import native_stack  # with subprocess, which a kernel that lives needs not pay for

        kernel = self._kernel
        executable = shutil.which(kernel.argv[0]) or kernel.argv[0]
        began, limit_s = kernel.session.started, native_stack.CORE_LIMIT_S
        try:
            found = native_stack.of_core(kernel.pid, executable, Path.cwd(), began, limit_s)
            post_mortem.add_native_stack(kernel.directory, marker, found.text, found.why_not)
        except (OSError, ValueError, LookupError) as why:
            print(f"checkpoint-kernel: the core file was not read: {why}", file=sys.stderr)

    def _clear_away(self, marker: session.ExitMarker) -> None:
        """The snapshot process gets its grace; nothing of a dead kernel survives it.

        After an end that was asked for, what has a session of its own lives on, as with every
        Jupyter kernel; not under a limit, whose cgroup must go.
        """
        kernel = self._kernel
        flight = flight_recorder.read(kernel.directory / contract.FLIGHT_FILE)
        if flight is not None and flight.snapshot_pid:
            deadline = time.monotonic() + post_mortem.orphan_grace_s(marker)
            while not process.gone(flight.snapshot_pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            if not process.gone(flight.snapshot_pid):
                process.send(flight.snapshot_pid, signal.SIGKILL)
                deadline = time.monotonic() + KILLED_WITHIN_S
                while not process.gone(flight.snapshot_pid) and time.monotonic() < deadline:
                    time.sleep(0.005)
        if marker.kind == "death":
            # The kernel is not yet reaped, so its group's id cannot be another's.
            process.send(kernel.pid, signal.SIGKILL, group=True)
            self._end_descendants()
        # What stays in the cgroup would keep it, and the cap, for ever.
        kernel.cap.kill_all()

    def _end_descendants(self) -> None:
        try:
            ended = descendants.end(self._kernel.pid)
            left = descendants.of_kernel(self._kernel.pid)
        except OSError as why:
            print(f"checkpoint-kernel: what it left running was not ended: {why}", file=sys.stderr)
            return
        if ended:
            said = f"the kernel died and left processes running, which were killed: {_words(ended)}"
            print(f"checkpoint-kernel: {said}", file=sys.stderr)
        if left:
            print(f"checkpoint-kernel: these could not be killed: {_words(left)}", file=sys.stderr)


def _words(ended: list[descendants.Process]) -> str:
    shown = ", ".join(f"{one.pid} {one.name}" for one in ended[:PROCESSES_SHOWN])
    more = f" and {len(ended) - PROCESSES_SHOWN} more" if len(ended) > PROCESSES_SHOWN else ""
    return f"{shown}{more}"


def _status(pid: int) -> Exit:
    """How our child ended, without reaping it (waitid(2))."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    if found is None:
        raise AssertionError("a pidfd that is readable has an exit status")
    if found.si_code == os.CLD_EXITED:
        return Exit(code=found.si_status, signal=None)
    return Exit(code=None, signal=found.si_status, core_dumped=found.si_code == os.CLD_DUMPED)
