"""Pickles what runs code of the user's in processes of its own, to see what it does there.

    snapshot process ── probe: unit 3, unit 4, unit 5 †   (segfault: 5 is left out, a new probe
                     └─ probe: unit 6 ...                  goes on with 6)
                     └─ probe: unit 7, unit 8             (6 takes long: others overtake it)

A probe is a fork of the snapshot process, and pickles one unit after the other into nothing. What
ends it, hangs it or eats its memory costs the unit in hand. Those that are still at it when all
others are done are given up as undecided, so that the others are saved at once; the next
snapshot process is patient with them. Whoever comes through is then pickled for good. Covers
processes only: what such code does to files, or to other processes, is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import mmap
import os
import resource
import select
import signal
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import hung, memory, snapshot

# A unit that takes so long is overtaken by those behind it.
_OVERTAKEN_S: Final = 0.5
# So long at most the checkpoint waits for one that is not known to take long.
_PATIENCE_S: Final = 2.0
# At work for so long, and nothing to show for it.
BUSY_LIMIT_S: Final = 20.0
_AT_ONCE: Final = 4
_POLL_S: Final = 0.02
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)

# Pickles a unit into streams of that kind. Says why it fails, the remedy, and whether device memory
# was missed.
Attempt = Callable[[int, Callable[[], io.BytesIO]], tuple[str | None, str | None, bool]]

_KILLED: Final = (
    "the process that tried to save it was killed, perhaps for want of memory; it is tried again "
    "now and then"
)
UNDECIDED: Final = "saving it takes long: it is tried again, for longer"


@dataclass(frozen=True)
class Verdict:
    """What became of one unit. `reason`: why it cannot be saved; None: it can."""

    reason: str | None = None
    remedy: str | None = None
    missed: bool = False  # device memory that was not staged
    fatal: bool = False  # it ended or hung its process, and is going to do so again
    costly: bool = False  # it failed, and took long
    killed: bool = False  # SIGKILL: the OOM killer's, perhaps
    undecided: bool = False


@dataclass
class _Probe:
    pid: int
    status_fd: int
    shared: mmap.mmap
    number: int  # of the unit in hand
    since: float
    moved: float  # when it last did something
    wrote: float  # when it last wrote something
    room_bytes: int
    overtaken: bool = False
    seen: tuple[int, int] = (0, 0)  # CPU ticks, bytes written
    buffered: bytes = b""


def run(
    count: int,
    attempt: Attempt,
    patient: Sequence[bool],
    began: Callable[[list[int]], None],
) -> list[Verdict]:
    """Try the units 0 to `count` - 1; `attempt` runs in a probe.

    `patient`: units that are waited for
    as long as they make progress. `began` is told which are in hand. Raises OSError where no
    process can be forked.
    """
    return _Trials(count, attempt, patient, began).run()


class _Trials:
    def __init__(
        self,
        count: int,
        attempt: Attempt,
        patient: Sequence[bool],
        began: Callable[[list[int]], None],
    ) -> None:
        self._attempt = attempt
        self._patient = patient
        self._began = began
        self._verdicts: list[Verdict | None] = [None] * count
        self._probes: list[_Probe] = []
        self._next = 0  # the first that no probe has begun or is going to
        soft, self._hard = resource.getrlimit(resource.RLIMIT_DATA)
        if soft == resource.RLIM_INFINITY:
            room_bytes = memory.room_bytes(None)
        else:
            room_bytes = max(soft - memory.data_bytes(), 0)
        self._room_bytes = room_bytes  # of all probes together

    def run(self) -> list[Verdict]:
        try:
            while self._probes or self._next < len(self._verdicts):
                self._fill()
                self._listen()
                for probe in list(self._probes):
                    self._look_at(probe)
        finally:
            for probe in list(self._probes):
                self._end(probe)
        return [verdict or Verdict(UNDECIDED, undecided=True) for verdict in self._verdicts]

    def _fill(self) -> None:
        """One probe goes ahead; where all slots are taken the slowest makes room."""
        left = self._next < len(self._verdicts)
        if not left or any(not probe.overtaken for probe in self._probes):
            return
        if len(self._probes) >= _AT_ONCE:
            now = time.monotonic()
            slow = [p for p in self._probes if self._is_done(p) or not self._patient[p.number]]
            oldest = min(slow, key=lambda probe: probe.since, default=None)
            if oldest is None or now - oldest.since < _PATIENCE_S:
                return
            self._give_up(oldest, Verdict(UNDECIDED, undecided=True))
        self._fork(self._next)

    def _fork(self, first: int) -> None:
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        shared = mmap.mmap(-1, mmap.PAGESIZE)
        room_bytes = (self._room_bytes - sum(probe.room_bytes for probe in self._probes)) // 2
        pid = snapshot.bare_fork()
        if pid == 0:
            snapshot.leave_after(lambda: self._probe(first, write_fd, shared, room_bytes))
        os.close(write_fd)
        if pid < 0:
            os.close(read_fd)
            raise OSError("no process could be forked to try what runs your code")
        os.set_blocking(read_fd, False)
        now = time.monotonic()
        self._probes.append(_Probe(pid, read_fd, shared, first, now, now, now, room_bytes))
        self._next = len(self._verdicts)  # it goes on to the end, unless it is overtaken
        self._tell()

    def _tell(self) -> None:
        self._began([probe.number for probe in self._probes])

    def _listen(self) -> None:
        poll = select.poll()
        for probe in self._probes:
            poll.register(probe.status_fd, select.POLLIN)
        poll.poll(_POLL_S * 1000)

    def _look_at(self, probe: _Probe) -> None:
        # Not reaped yet: its group keeps its number.
        ended = snapshot.look_at_end(probe.pid)
        self._read(probe)
        if self._is_done(probe) and (probe.overtaken or ended is not None):
            self._end(probe)
            return
        if ended is not None:
            reason = f"saving it crashed the snapshot process ({ended.text})"
            verdict = Verdict(reason, fatal=True)
            if ended.killed:  # perhaps not by itself
                verdict = Verdict(_KILLED, costly=True, killed=True)
            self._give_up(probe, verdict)
            return
        if self._is_done(probe):
            return  # it is about to leave
        now = time.monotonic()
        if not probe.overtaken and now - probe.since > _OVERTAKEN_S:
            probe.overtaken = True
            probe.shared[8] = 1  # it ends once it is done with this one
            self._next = probe.number + 1
        self._judge(probe, now)

    def _is_done(self, probe: _Probe) -> bool:
        return probe.number >= len(self._verdicts) or self._verdicts[probe.number] is not None

    def _judge(self, probe: _Probe, now: float) -> None:
        """Is it hung? Or too slow to be waited for, as others are ready."""
        ticks, state = hung.work_of(probe.pid)
        written = struct.unpack_from("Q", probe.shared)[0]
        if ticks != probe.seen[0] or state not in "ST":
            probe.moved = now
        if written != probe.seen[1]:
            probe.moved = probe.wrote = now
        probe.seen = ticks, written
        if now - probe.moved > hung.IDLE_LIMIT_S:
            reason = f"saving it waits for something: nothing moved for {hung.IDLE_LIMIT_S:g} s"
            self._give_up(probe, Verdict(reason, fatal=True))
        elif now - probe.wrote > BUSY_LIMIT_S:
            reason = f"saving it took longer than {BUSY_LIMIT_S:g} s without a result"
            self._give_up(probe, Verdict(reason, fatal=True))
        elif now - probe.since > snapshot.UNIT_LIMIT_S:
            reason = f"saving it took longer than {snapshot.UNIT_LIMIT_S:g} s"
            self._give_up(probe, Verdict(reason, fatal=True))
        elif now - probe.since > _PATIENCE_S and not self._patient[probe.number]:
            others = [p for p in self._probes if p is not probe and not p.overtaken]
            if not others and self._next >= len(self._verdicts):
                self._give_up(probe, Verdict(UNDECIDED, undecided=True))

    def _read(self, probe: _Probe) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(probe.status_fd, 65536):
                probe.buffered += data
        *lines, probe.buffered = probe.buffered.split(b"\n")
        for line in lines:
            number, reason, remedy, missed = json.loads(line)
            took_s = time.monotonic() - probe.since
            costly = reason is not None and took_s > _OVERTAKEN_S
            self._verdicts[number] = Verdict(reason, remedy, missed, costly=costly)
            if not probe.overtaken:
                probe.number = number + 1
                probe.since = probe.moved = probe.wrote = time.monotonic()
        if lines:
            self._tell()

    def _give_up(self, probe: _Probe, verdict: Verdict) -> None:
        self._verdicts[probe.number] = verdict
        if not probe.overtaken:
            self._next = probe.number + 1
        self._end(probe)

    def _end(self, probe: _Probe) -> None:
        # What it has started goes with it; it was the first of its group.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(probe.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(probe.pid, 0)
        os.close(probe.status_fd)
        self._probes.remove(probe)

    # --- in the probe -------------------------------------------------------------------

    def _probe(self, first: int, status_fd: int, shared: mmap.mmap, room_bytes: int) -> None:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        soft = memory.data_bytes() + room_bytes
        if self._hard != resource.RLIM_INFINITY:
            soft = min(soft, self._hard)
        # Whoever has hooked into fork may have set another one.
        resource.setrlimit(resource.RLIMIT_DATA, (soft, self._hard))
        for number in range(first, len(self._verdicts)):
            told = self._attempt(number, lambda: _Counted(shared))
            os.write(status_fd, json.dumps([number, *told]).encode() + b"\n")
            if shared[8]:
                break


class _Counted(io.BytesIO):
    """A stream that others can see growing."""

    def __init__(self, shared: mmap.mmap) -> None:
        super().__init__()
        self._shared = shared

    def write(self, data: Any) -> int:
        count = struct.unpack_from("Q", self._shared)[0]
        struct.pack_into("Q", self._shared, 0, count + len(data))
        return super().write(data)
