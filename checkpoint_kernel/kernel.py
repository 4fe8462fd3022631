"""The ipykernel subclass: wires checkpoint, restore and notice into a running kernel.

Nothing in here may make a cell fail or print into one: hooks hand failures to the status.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ipykernel.ipkernel import IPythonKernel

from . import (
    doing,
    last_words,
    left_behind,
    manifest,
    memory,
    notice,
    restore,
    safe_point,
)  # fmt: skip
from .checkpoint import Checkpointer
from .children_news import ChildrenNews
from .clockwork import Clockwork, cell_line
from .ending import Ending
from .environment_watch import EnvironmentWatch
from .flight_recorder import FlightRecorder
from .held_signals import held_back
from .magics import CheckpointMagics
from .manifest import Manifest, ManifestError
from .memory_gauge import Gauge
from .memory_guard import MemoryGuard
from .memory_use import MemoryUse
from .missing import not_back
from .others import Others
from .safe_point import IDLE
from .session import NotRestored, RestoreReport, Session
from .store import Store, StoreError
from .touched import Touched, by_words

# Debuggers ask these of every kernel, or only look.
_READING_DEBUG_REQUESTS = frozenset({"debugInfo", "initialize", "disconnect", "modules", "source"})


class CheckpointKernel(IPythonKernel):  # type: ignore[misc]
    """An IPython kernel whose namespace outlives it."""

    implementation = "checkpoint-kernel"

    # Set by `app` before the kernel is made.
    session_record: Session
    session_directory: Path
    recorder: FlightRecorder

    processes: dict[int, Any]  # ipykernel's: by pid, to reckon CPU use between two answers
    _banner: str = ""
    checkpointer: Checkpointer | None = None
    memory_guard: MemoryGuard | None = None  # none without a limit to guard
    off_because: str | None = None
    runs_again: bool = False  # cells run inside a cell, for %checkpoint rebuild
    _switched_off: bool = False
    _store: Store | None = None
    _restored: Manifest | None = None
    _report: RestoreReport | None = None

    # --- start --------------------------------------------------------------------------

    def start(self) -> None:
        """Restore, then serve. Messages are answered only after this."""
        self._pid = os.getpid()
        self._banner = super().banner
        self._open_store()
        if self.checkpointer is not None:
            self.checkpointer.entry_points.begin()
        self._others = Others()  # before threads of the user's are restored
        self._restore()
        self.shell.register_magics(CheckpointMagics(self.shell, self))
        self._hook()
        super().start()
        self.recorder.update(state="idle")

    @property
    def banner(self) -> str:
        """IPython draws its tip from the user's random numbers whenever somebody asks."""
        return self._banner

    def _open_store(self) -> None:
        record = self.session_record
        if not record.notebook_directory:
            self.off_because = "; ".join(record.warnings) or "there is no store"
            return
        try:
            key = manifest.load_key(Path(record.key_file))
            self._store = Store.open(Path(record.notebook_directory), key)
            self.checkpointer = Checkpointer(self.shell, record, self._store, self.recorder)
            if self._store.tightened is not None:
                self.checkpointer.announcements.append(self._store.tightened)
        except (StoreError, ManifestError, OSError) as why:
            self.off_because = str(why)

    def _restore(self) -> None:
        record = self.session_record
        if record.plan.checkpoint is None or self._store is None or self.checkpointer is None:
            return
        try:
            self._restored = self._store.manifest(record.plan.checkpoint)
        except (StoreError, ManifestError, OSError):
            self._restored = None  # at_start reports the same failure
        if record.plan.kind == "restore":
            self._report = restore.at_start(
                self.shell, record, self._store, self.session_directory, self.recorder,
                self.checkpointer.carry_over.adopt,
            )  # fmt: skip
            self.checkpointer.still_missing.restored(self._report.not_restored, self.shell.user_ns)
            self.checkpointer.own_modules.restored(self._report.restored)
            if self._restored is not None:
                self.checkpointer.observed.adopt(
                    {s.name: s.made_in for s in self._restored.skipped if s.made_in is not None},
                    self._restored.failed_cells,
                )
                before = self._restored.left_behind
                self.checkpointer.left_behind = left_behind.after(
                    before, self._restored, self._report, time.time()
                )

    def _hook(self) -> None:
        shell = self.shell
        settings = self.session_record.settings
        self.memory_use = MemoryUse(Gauge(self.session_record.cap))
        self.clockwork = Clockwork(
            self.checkpointer, self.recorder, self.memory_use, shell.user_ns, self._others,
            settings.checkpoint_interval, settings.checkpoint_after_cell, self._when_idle,
        )  # fmt: skip
        shell.events.register("pre_run_cell", self._guarded(self._cell_begins))
        shell.events.register("post_run_cell", self._guarded(self._cell_ended))
        signal.signal(signal.SIGTERM, self._on_sigterm)
        cap = self.session_record.cap
        if cap is not None and cap.guarded:
            self.memory_guard = MemoryGuard(
                shell, cap, self.memory_use.gauge, self.recorder, self.session_directory
            )
            self.memory_guard.install()
        if cap is not None:
            news = ChildrenNews(self.session_directory, sys.stderr)
            self.clockwork.errands.append(news.tell)
        self.ending = Ending(self._handles_sigterm, self._save_and_be_ended)
        self.ending.listen()
        os.register_at_fork(after_in_child=self._in_forked_child)
        last_words.install(self._note_end)
        atexit.register(self._at_exit)
        for message in ("comm_open", "comm_msg", "comm_close"):
            self.shell_handlers[message] = self._changing(self.shell_handlers[message])
        record = self.session_record
        self.environment = EnvironmentWatch(self.session_directory, record.id, record.notebook)
        self.clockwork.start()
        self.ending.start()
        self.environment.start()

    def _changing(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """A widget's message runs callbacks of the user's, with no cell around them."""

        def handle(*arguments: Any) -> Any:
            try:
                return handler(*arguments)
            finally:
                self._changed()

        return handle

    def _when_idle(self, delay_s: float, function: Callable[[], None]) -> None:
        """Call it on the event loop, between two messages. Any thread."""
        if delay_s == 0:
            self.io_loop.add_callback(function)
        else:
            self.io_loop.call_later(delay_s, function)  # for the main thread only

    def _guarded(self, hook: Callable[[Any], None]) -> Callable[[Any], None]:
        """IPython prints what a hook raises into the cell: keep it for the status instead."""

        def guarded(argument: Any) -> None:
            if os.getpid() != self._pid:
                return  # a child that the user forked has run on to the end of its cell
            try:
                hook(argument)
            except KeyboardInterrupt:
                self.clockwork.interrupt_cell()  # if there is one: the hook may be its last
            except Exception as why:
                if self.checkpointer is not None:
                    self.checkpointer.settled.trouble = f"{type(why).__name__}: {why}"

        return guarded

    def _in_forked_child(self) -> None:
        """Workers that the user forks die of SIGTERM as anywhere, and save nothing."""
        self.ending.in_forked_child()
        if self.checkpointer is not None:
            self.checkpointer.in_forked_child()
        if self._handles_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    # --- cells --------------------------------------------------------------------------

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: Any = None,
        allow_stdin: bool = False,
        *,
        cell_meta: Any = None,
        cell_id: str | None = None,
    ) -> Any:
        """All that a frontend sends to be run, whether or not it is a cell."""
        expressions = dict(user_expressions or {})
        with self._touching(code, *map(str, expressions.values())):
            if silent and code.strip():
                self._changed()  # no hook of a cell's is called for it
            reply = await super().do_execute(
                code, silent, store_history, user_expressions, allow_stdin,
                cell_meta=cell_meta, cell_id=cell_id,
            )  # fmt: skip
            return reply if self.memory_guard is None else self.memory_guard.reply(reply)

    async def do_debug_request(self, msg: Any) -> Any:
        """What a debugger evaluates can change variables and leave functions behind."""
        if self.checkpointer is not None and msg.get("command") not in _READING_DEBUG_REQUESTS:
            self.checkpointer.carry_over.touches.add(
                Touched(blind="a debugger is in use", lasting=True)
            )
        return await super().do_debug_request(msg)

    def do_complete(self, code: str, cursor_pos: int) -> Any:
        """Completion asks objects for their attributes, which may change them."""
        self._looks_at(code)
        return super().do_complete(code, cursor_pos)

    def do_inspect(self, code: str, *arguments: Any, **options: Any) -> Any:
        """So does a tooltip, by `__repr__`."""
        self._looks_at(code)
        return super().do_inspect(code, *arguments, **options)

    def raw_input(self, prompt: str = "") -> Any:
        """What is typed at the prompt of a debugger is code."""
        typed = super().raw_input(prompt)
        self._looks_at(str(typed))
        return typed

    def _looks_at(self, text: str) -> None:
        if self.checkpointer is not None:
            self.checkpointer.carry_over.touches.add(by_words(text))

    @contextlib.contextmanager
    def _touching(self, *texts: str) -> Iterator[None]:
        if self.checkpointer is None:
            yield
            return
        touches = self.checkpointer.carry_over.touches
        touches.begin(*texts)
        try:
            yield
        finally:
            touches.end()

    def _cell_begins(self, info: Any) -> None:
        if self.checkpointer is not None:  # also a cell that other code runs
            python = getattr(info, "transformed_cell", None)
            self.checkpointer.carry_over.touches.becomes(info.raw_cell or "", python)
        if not self._in_main_thread():
            self._changed()
            return
        with held_back():
            self._begin_cell(info)

    def _begin_cell(self, info: Any) -> None:
        self.clockwork.before_cell()
        shell = self.shell
        source = info.raw_cell or ""
        counted = int(bool(info.store_history))
        # IPython 9 has counted on by now, older ones have not; the history tells both.
        number = len(shell.history_manager.input_hist_parsed) - int(self.runs_again)
        self.recorder.update(
            state="busy",
            execution_count=number,
            cell_source=_as_numbered(source),
            cell_file=shell.compile.get_code_name(source, source, number),
            cell_started=time.time(),
            line=None,
            cells_started=self.recorder.flight.cells_started + counted,
        )
        if self.checkpointer is not None:
            self.checkpointer.surroundings.cell_begins()
        if counted:
            self.memory_use.cell_began(number)
            if self.checkpointer is not None:
                self.checkpointer.observed.begins(shell.user_ns)
        self.clockwork.cell_began()
        if self.memory_guard is not None:
            self.memory_guard.cell_begins()
        self.ending.listen()
        self._changed()
        if info.store_history:
            self._say()

    def _cell_ended(self, result: Any) -> None:
        if not self._in_main_thread():
            self._changed()
            return
        with held_back():
            self._observe(result)
            self.recorder.update(state="idle")
            if self.checkpointer is not None:
                self.checkpointer.surroundings.cell_ended()
            self.memory_use.cell_ended()
            self.clockwork.cell_ended()
            self.environment.cell_ended()

    def _observe(self, result: Any) -> None:
        info = getattr(result, "info", None)  # none, of what was cancelled
        if self.checkpointer is not None and getattr(info, "store_history", False):
            number = len(self.shell.history_manager.input_hist_parsed) - 1
            failed = not result.success
            self.checkpointer.observed.ended(self.shell.user_ns, number, failed)
            text = self.shell.history_manager.input_hist_parsed[number]
            self.checkpointer.still_missing.cell_ended(self.shell.user_ns, text)

    def _changed(self) -> None:
        if self.checkpointer is not None and not self._switched_off:
            self.checkpointer.changed()

    def _in_main_thread(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    def _say(self) -> None:
        """The one-shot notice above a cell's output: the channel that every frontend shows."""
        lines: list[str] = []
        if self.recorder.flight.cells_started == 1:
            record = self.session_record
            death = notice.read_death(Path(record.notebook_directory or "/"), record.plan.death)
            lines = notice.at_start(record, self._report, self._restored, death)
            if self.off_because is not None and self.off_because not in "; ".join(lines):
                lines.append(
                    f"Checkpointing is off: {self.off_because}. Your work goes on, unsaved."
                )
        if self.checkpointer is not None:
            lines += self.checkpointer.announcements
            self.checkpointer.announcements = []
        if self._store is not None:
            lines += notice.damaged(self._store.verification.announcements())
        if lines:
            print(notice.boxed(lines), flush=True)

    # --- asked by a display of use ----------------------------------------------------------

    async def usage_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """In the control thread, also while a cell runs."""
        from . import usage_reply  # and psutil: 10 ms that most kernels need not spend

        cap = self.session_record.cap
        if cap is None or not cap.in_force or self.session is None:
            await super().usage_request(stream, ident, parent)
            return
        gauge = self.memory_use.gauge
        self.processes = usage_reply.processes(self.processes, [os.getpid(), *gauge.pids()])
        kernel_cpu_percent = sum(
            self.get_process_metric_value(process, "cpu_percent") or 0.0
            for process in self.processes.values()
        )
        cores = usage_reply.enforced_cores(self.session_record.limits)
        content = usage_reply.content(cap, gauge.used_bytes(), kernel_cpu_percent, cores)
        self.session.send(stream, "usage_reply", content, parent, ident)

    # --- asked by the magic -----------------------------------------------------------------

    def status(self) -> str:
        """The text of `%checkpoint`."""
        lines = [self._saved(), *not_back(self.unsaid())]
        if self.environment.trouble is not None:
            trouble = self.environment.trouble
            lines.append(f"What this session runs with is not on record: {trouble}")
        if self.clockwork.errands_trouble is not None:
            trouble = self.clockwork.errands_trouble
            lines.append(f"News of killed child processes could not be told: {trouble}")
        return "\n".join(lines)

    def missing(self) -> list[NotRestored]:
        """Variables that the restore at this start could not bring back, and nobody has since."""
        if self.checkpointer is None:
            return []
        return self.checkpointer.still_missing.now(self.shell.user_ns)

    def unsaid(self) -> list[NotRestored]:
        """Of what is missing, what the newest checkpoint does not name as not saved."""
        newest = None if self.checkpointer is None else self.checkpointer.settled.newest
        named = set() if newest is None else {one.name for one in newest.skipped}
        return [entry for entry in self.missing() if entry.name not in named]

    def _saved(self) -> str:
        checkpointer = self.checkpointer
        if checkpointer is None:
            return f"Checkpointing is off: {self.off_because}"
        off = "you switched it off (%checkpoint on)" if self._switched_off else None
        return notice.status(
            checkpointer.settled,
            checkpointer.running,
            checkpointer.stale_since is not None,
            off,
            self.session_record,
        )

    def doing_now(self) -> str:
        """What the main thread is at, for a client that asks in another one."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        flight, progress = self.recorder.flight, self.clockwork.progress
        stack = doing.cell_stack(frame, flight.cell_file)
        del frame  # what a function leaves behind when it returns is not for this thread to free
        cap = self.session_record.cap
        return doing.in_words(
            flight, stack, time.time(), memory.rss_bytes(),
            progress.cpu_s_since(), cap.configured if cap else None,
        )  # fmt: skip

    @property
    def missed_a_cell(self) -> bool:
        """An earlier cell's end found a snapshot under way, so that no checkpoint holds it."""
        checkpointer, began = self.checkpointer, self.clockwork.busy_since
        if checkpointer is None or checkpointer.stale_since is None or self._switched_off:
            return False
        if not self.session_record.settings.checkpoint_after_cell:
            return False
        return began is not None and checkpointer.stale_since < began

    def unlimited(self) -> contextlib.AbstractContextManager[None]:
        """For a restore, which maps more than may be used at once."""
        return contextlib.nullcontext() if self.memory_guard is None else self.memory_guard.lifted()

    def the_store(self) -> Store:
        """The open store; StoreError with the reason where there is none."""
        if self._store is None:
            raise StoreError(f"checkpointing is off: {self.off_because}")
        self._store.refresh()
        return self._store

    def default_checkpoint(self, everything: list[Manifest]) -> Manifest | None:
        """What `%checkpoint restore` means without an ID.

        After a clean start: the newest of the line before it, until one has been restored.
        """
        plan = self.session_record.plan
        by_id = {m.id: m for m in everything}
        if plan.kind == "clean" and not self._by_hand and plan.checkpoint in by_id:
            return by_id[plan.checkpoint]
        # An empty one stands for no line: what a clean start has offered may be before it.
        full = [m for m in everything if m.names] or everything
        own = [m for m in full if m.line == self.session_record.line] or full
        return own[-1] if own else None

    _by_hand: bool = False

    def restored_by_hand(self) -> None:
        """From now on `%checkpoint restore` means this session's own newest checkpoint."""
        self._by_hand = True
        self._changed()

    def switch(self, on: bool) -> None:
        """`%checkpoint on` and `off`."""
        self._switched_off = not on
        self.clockwork.enabled = on
        if on:
            self._changed()

    # --- ends -------------------------------------------------------------------------------

    def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """A shutdown_request, in the control thread, perhaps while a cell runs."""
        self.recorder.update(shutdown="restart" if restart else "shutdown")
        if not restart:
            self.ending.shutdown_requested()
        result: dict[str, Any] = super().do_shutdown(restart)
        return result

    def leave(self) -> None:
        """In the main thread, after the event loop has ended."""
        if self.recorder.flight.exiting is None and self.recorder.flight.shutdown is None:
            self.recorder.update(exiting="exit()")
        self.ending.in_hand()
        self.clockwork.stop()
        if self._store is not None:
            self._store.verification.stop()
        if self.recorder.flight.shutdown != "restart":
            self.save_last("shutdown", IDLE)

    def save_last(self, reason: str, position: safe_point.Position) -> None:
        """The last state, as far as it gets in the time that there is."""
        checkpointer = self.checkpointer
        if checkpointer is None or self._switched_off:
            return
        checkpointer.changed()  # threads and callbacks may have worked since the last cell
        deadline = time.monotonic() + self.session_record.settings.shutdown_wait
        if checkpointer.finish(deadline) and checkpointer.stale_since is not None:
            checkpointer.save(reason, position, deadline - time.monotonic())

    def _on_sigterm(self, _number: int, frame: Any) -> None:
        """Culler, batch system, server: save, then die of the signal as anybody would."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one changes nothing
        self.ending.in_hand()
        self.recorder.update(exiting="SIGTERM")
        if self.recorder.flight.shutdown != "restart":
            flight = self.recorder.flight
            position = safe_point.examine(frame, self.shell.user_ns, flight.cell_file)
            with contextlib.suppress(Exception, KeyboardInterrupt):
                self.save_last("SIGTERM", position)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        last_words.quiet_kill(os.getpid(), signal.SIGTERM)

    def parent_gone(self) -> None:
        """The supervisor has died (any thread): save what can be had, then leave."""
        self.recorder.update(exiting="parent gone")
        self._save_from_another_thread("parent-gone")

    def _save_and_be_ended(self, reason: str) -> None:
        """For `Ending`, in its thread: the main thread is in a call that does not end."""
        if reason == "SIGTERM":
            self.recorder.update(exiting=reason)
        if self.recorder.flight.shutdown != "restart":
            self._save_from_another_thread(reason)

    def _handles_sigterm(self) -> bool:
        return signal.getsignal(signal.SIGTERM) == self._on_sigterm

    def _save_from_another_thread(self, reason: str) -> None:
        """The main thread runs on: what its line was given may be half done."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        flight = self.recorder.flight
        in_c = flight.state == "busy"
        with contextlib.suppress(Exception):
            position = safe_point.examine(frame, self.shell.user_ns, flight.cell_file, in_c)
            self.save_last(reason, position)

    def _note_end(self, **fields: str) -> None:
        """The user's code is about to end the kernel: which line, before it is too late."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        line = cell_line(frame, self.shell.user_ns, self.recorder.flight.cell_file)
        self.recorder.update(line=line, sampled=time.time(), **fields)

    def _at_exit(self) -> None:
        if os.getpid() == self._pid and self.recorder.flight.exiting is None:
            self.recorder.update(exiting="atexit")


def _as_numbered(source: str) -> str:
    """As the lines of a cell are counted: IPython leaves out empty ones at its beginning."""
    lines = source.splitlines(keepends=True)
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    return "".join(lines[first:])
