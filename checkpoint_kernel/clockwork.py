"""When a checkpoint is due: one thread that looks around a few times a second.

It samples the running line for the flight recorder, sees to the snapshot process, and asks
for a checkpoint inside a long cell: at a safe point if one comes within the grace period,
otherwise where the main thread stands. Making the checkpoint is `checkpoint`'s.
"""

from __future__ import annotations

import _thread
import math
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any, Final

from . import memory, safe_point, snapshot, staging
from .cadence import LAST_STATE_S
from .checkpoint import Checkpointer
from .flight_recorder import FlightRecorder
from .memory_use import MemoryUse
from .others import Others
from .progress import Progress
from .safe_point import IDLE, LineWatch, MainThreadCall

_BUSY_TICK_S: Final = 0.2
_FIRST_TICK_S: Final = 0.01  # a cell that kills at once should have its line on record
_CHILD_TICK_S: Final = 0.05
_IDLE_TICK_S: Final = 1.0
# A checkpoint inside a C call is worth less: wait this long for a clean moment first.
GRACE_S: Final = 5.0
# Watching for a line makes Python code slower meanwhile: not for long, and if it was in vain
# not again for a while.
_WATCH_LIMIT_S: Final = 2.0
_WATCH_PAUSE_S: Final = 60.0
# What could not be taken for the moment is asked for again after this.
_SOON_S: Final = 1.0
# The reply and the idle status are on their way by then: nobody waits for the checkpoint.
AFTER_REPLY_S: Final = 0.005


class Clockwork(threading.Thread):
    """The kernel's clock. `cell_began` and `cell_ended` tell it what the main thread does."""

    def __init__(
        self,
        checkpointer: Checkpointer | None,
        recorder: FlightRecorder,
        memory_use: MemoryUse,
        main: dict[str, Any],
        others: Others,
        interval_s: float,
        after_cell: bool,
        when_idle: Callable[[float, Callable[[], None]], None],
    ) -> None:
        super().__init__(name="checkpoint-kernel", daemon=True)
        self._checkpointer = checkpointer
        self._recorder = recorder
        self._memory_use = memory_use
        self._main = main
        self._interval_s = interval_s
        self._after_cell = after_cell
        self._when_idle = when_idle  # (delay in s, function): on the kernel's event loop
        self._main_thread = threading.main_thread().ident
        self._wake = threading.Event()
        self._stopped = False
        self.enabled = True  # False: sample only, take nothing
        self.errands: list[Callable[[], None]] = []  # what else is done, after every look
        self.errands_trouble: str | None = None  # the last failure of one
        self.busy_since: float | None = None  # monotonic
        self._last_taken = time.monotonic()
        self._asked_at: float | None = None
        self._idle_asked = False
        self._interrupt_owed = False
        self._others = others
        self._others_at = time.monotonic()
        self.progress = Progress()
        self._watch_since = 0.0
        self._watch_again = 0.0  # monotonic
        self._in_main_thread = MainThreadCall(self._between_bytecodes)
        self._line_watch = LineWatch(self._at_line)

    # --- told by the main thread --------------------------------------------------------

    def before_cell(self) -> None:
        """A cell is about to run, and the one before is perhaps not saved yet."""
        checkpointer = self._checkpointer
        if checkpointer is None or checkpointer.running:
            return  # nor is one settled here, while somebody waits
        try:
            self._take_between_cells(awaited=True)
        except Exception as why:
            self._report(why)

    def cell_began(self) -> None:
        """A cell starts running."""
        self.progress.begin()
        self.busy_since = time.monotonic()
        self._watch_again = 0.0
        self._asked_at = None
        self._wake.set()

    def interrupt_cell(self) -> None:
        """A Ctrl-C came while the cell's hooks ran, which must not raise: pass it on."""
        self._interrupt_owed = True
        self._wake.set()

    def cell_ended(self) -> None:
        """The cell has ended; the namespace is quiet, and is taken after the reply."""
        self._line_watch.disarm()
        began, self.busy_since = self.busy_since, None
        self._asked_at = None
        if self._checkpointer is not None and self.enabled and began is not None:
            self._checkpointer.cell_ended(began)
        if self._after_cell:
            self._when_idle(AFTER_REPLY_S, self._while_idle)

    def stop(self) -> None:
        """End the thread; checkpoints that are still wanted are the caller's."""
        self._stopped = True
        self._wake.set()

    # --- the thread ---------------------------------------------------------------------

    def run(self) -> None:
        self._recorder.update(clock_tid=threading.get_native_id())
        while not self._stopped:
            if self._wake.wait(self._tick_s()):
                # Something has begun or ended. Not now: the main thread needs the interpreter.
                self._wake.clear()
                continue
            self._tick()

    def _tick_s(self) -> float:
        checkpointer = self._checkpointer
        if checkpointer is not None and checkpointer.running:
            return _CHILD_TICK_S
        if self.busy_since is None:
            return min(max(self._waiting_s(retrying=True), _CHILD_TICK_S), _IDLE_TICK_S)
        running_s = time.monotonic() - self.busy_since
        return min(max(running_s, _FIRST_TICK_S), _BUSY_TICK_S)

    def _tick(self) -> None:
        try:
            self._look()
        except Exception as why:  # the clock goes on: the next look may go well
            self._report(why)
        self._do_errands()

    def _do_errands(self) -> None:
        """After the checkpoint work, which no errand may keep from being done.

        Their trouble is not a checkpoint's: `%checkpoint save` would take it for its own.
        """
        for errand in self.errands:
            try:
                errand()
            except Exception as why:
                self.errands_trouble = f"{type(why).__name__}: {why}"

    def _look(self) -> None:
        self._hand_on()
        self._sample()
        checkpointer = self._checkpointer
        if checkpointer is None or not checkpointer.watch() or not self.enabled:
            return
        if self.busy_since is None:
            self._look_for_others(checkpointer)
            if self._waiting_s(retrying=True) <= 0 and not self._idle_asked:
                self._idle_asked = True
                self._when_idle(0.0, self._while_idle)
        elif self._due(checkpointer):
            self._ask()

    def _look_for_others(self, checkpointer: Checkpointer) -> None:
        """What works on when no cell runs is saved as inside a long cell."""
        now = time.monotonic()
        if self._interval_s > 0 and now - self._others_at >= self._interval_s:
            self._others_at = now
            if self._others.have_run():
                checkpointer.changed()

    def _waiting_s(self, *, awaited: bool = False, retrying: bool = False) -> float:
        """Seconds until what finished cells have changed is to be saved; inf: nothing is."""
        checkpointer = self._checkpointer
        if checkpointer is None or not (self.enabled and self._after_cell):
            return math.inf
        waiting_s = checkpointer.due_in(awaited=awaited, retrying=retrying)
        return math.inf if waiting_s is None else waiting_s

    def _hand_on(self) -> None:
        """What could not be raised where it belonged: a Ctrl-C to the cell, the rest to us."""
        if self._interrupt_owed:
            self._interrupt_owed = False
            time.sleep(_FIRST_TICK_S)  # the cell's own code should have begun by then
            if self.busy_since is not None:
                _thread.interrupt_main()
        error, self._in_main_thread.error = self._in_main_thread.error, None
        if error is not None:
            self._asked_at = None
            self._last_taken = time.monotonic()
            self._report(error)

    def _report(self, error: BaseException) -> None:
        if self._checkpointer is not None:
            self._checkpointer.settled.trouble = f"{type(error).__name__}: {error}"

    def _sample(self) -> None:
        """Keep the flight recorder's line and memory current."""
        now = time.time()
        fields: dict[str, Any] = {"rss_bytes": memory.rss_bytes(), "sampled": now}
        if self.busy_since is not None:
            frame = sys._current_frames().get(self._main_thread or 0)
            self.progress.seen(frame, now)
            fields["moved"] = self.progress.moved
            line = cell_line(frame, self._main, self._recorder.flight.cell_file)
            if line is not None:
                fields["line"] = line
        self._recorder.update(**fields)
        self._memory_use.sample()

    def _due(self, checkpointer: Checkpointer) -> bool:
        now = time.monotonic()
        began = self.busy_since
        if began is None or now < checkpointer.cadence.free_at(now):
            return False
        if 0 < self._interval_s <= now - max(began, self._last_taken):
            return True
        # An earlier cell's end was skipped because a snapshot was under way.
        waiting = checkpointer.stale_since
        missed = waiting is not None and waiting < began and now - waiting > LAST_STATE_S
        return missed and self._after_cell and checkpointer.wanted

    def _ask(self) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        # In place, from here, would be no one moment; nor would copying a device's memory.
        forks = snapshot.available() is None and not staging.is_needed()
        if forks and self._in_main_thread.pending and now - self._asked_at > GRACE_S:
            # One long C call: no bytecode boundary comes. Fork from here and say so.
            frame = sys._current_frames().get(self._main_thread or 0)
            self._take(frame, in_c=True)
        else:
            self._in_main_thread.request()

    # --- in the main thread -------------------------------------------------------------

    def _between_bytecodes(self, frame: types.FrameType | None) -> None:
        """Take the checkpoint here if this is a clean moment, else wait for one."""
        if self._asked_at is None or self.busy_since is None:
            self._line_watch.disarm()
        elif self._line_watch.armed:
            now = time.monotonic()
            if now - self._watch_since > _WATCH_LIMIT_S:
                self._line_watch.disarm()
                self._watch_again = now + _WATCH_PAUSE_S
        else:
            self._take(frame, in_c=False)

    def _at_line(self, frame: types.FrameType) -> None:
        """One of the user's frames begins a line, with no call under way."""
        if self._asked_at is not None:
            self._take(frame, in_c=False)

    def _take(self, frame: types.FrameType | None, in_c: bool) -> None:
        """Raises only what the user's signal handlers raise: a Ctrl-C belongs to the cell."""
        checkpointer, asked_at = self._checkpointer, self._asked_at
        if checkpointer is None or asked_at is None:
            return
        now = time.monotonic()
        try:
            position = safe_point.examine(frame, self._main, self._recorder.flight.cell_file, in_c)
        except Exception as why:
            self._in_main_thread.error = why
            return
        if not position.users and not in_c:
            if now >= self._watch_again:
                self._watch_since = now
                self._line_watch.arm(position.outside_calls)
            if self._line_watch.armed:
                return  # the next line of the user's is a better moment
        if not position.clean and now - asked_at <= GRACE_S:
            return  # the clock asks again
        self._asked_at = None
        self._last_taken = now
        try:
            if not checkpointer.take("mid-cell", position) and checkpointer.settled.trouble is None:
                self._last_taken = now - self._interval_s + _SOON_S
        finally:
            checkpointer.changed()  # the cell goes on changing things behind this checkpoint

    def _while_idle(self) -> None:
        """On the kernel's event loop, between two messages."""
        self._idle_asked = False
        if self.busy_since is None and not self._stopped:
            self._take_between_cells()

    def _take_between_cells(self, awaited: bool = False) -> None:
        checkpointer = self._checkpointer
        ready = checkpointer is not None and checkpointer.watch(waits=False)
        if checkpointer is not None and ready and self._waiting_s(awaited=awaited) <= 0:
            self._others.look()
            checkpointer.take("cell", IDLE, waits=False)
            self._others.looked()
        self._wake.set()  # to see to the snapshot process, or to come back when it is due


def cell_line(
    frame: types.FrameType | None, main: dict[str, Any], cell_file: str | None
) -> int | None:
    """The line of the running cell, from 1, or None when its frame is not on the stack."""
    line = None
    while frame is not None:
        if frame.f_globals is main and frame.f_code.co_filename == cell_file:
            line = frame.f_lineno
        frame = frame.f_back
    return line
