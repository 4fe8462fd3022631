"""The kernel's end of the guard: a cell that outgrows the soft limit ends, the kernel does not.

    the supervisor's guard                   here
    MEMORY_SIGNAL, above the soft limit  ->  MemoryCapExceeded between two bytecodes of the cell
    RLIMIT_DATA, at the limit            ->  MemoryError from the allocation, told in our words

When to act is the supervisor's to decide: it sees children, page tables and shared memory, and
runs while one call of C code keeps this process busy. Sizes of variables are `sizes`'.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from . import memory, session, shared_objects, sizes
from .clockwork import cell_line
from .contract import DATA_SHARE, MEMORY_SIGNAL
from .flight_recorder import FlightRecorder
from .memory_gauge import Gauge
from .session import Cap, Event
from .units import one_line
from .words import size

# The memory is nearly used up and the user waits: the largest few, found in this time.
_SHOWN: Final = 5
_LOOK_S: Final = 0.1
_NO_MEMORY: Final = ("can't allocate memory", "annot allocate memory", "std::bad_alloc")
_WORTH_NAMING: Final = 0.02  # of what is used
_CHILD_SCORE: Final = "500"  # as the supervisor's guard would set it a tick later


class MemoryCapExceeded(MemoryError):
    """A cell was ended because its kernel was about to exceed its memory limit.

    Sizes are in bytes; `largest` holds (name, bytes, type) of the largest variables.
    """

    def __init__(
        self,
        message: str,
        cap: Cap | None = None,
        used_bytes: int = 0,
        largest: tuple[tuple[str, int, str], ...] = (),
        line: int | None = None,
    ) -> None:
        super().__init__(message)
        self.cap_bytes = cap.cap_bytes if cap else None
        self.soft_bytes = cap.soft_bytes if cap else None
        self.used_bytes = used_bytes
        self.largest = largest
        self.line = line

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: plain text, because its own rendering takes tens of megabytes."""
        tb = self.__traceback__
        frames = [f for f in traceback.extract_tb(tb) if "/checkpoint_kernel/" not in f.filename]
        while frames and "/IPython/" in frames[0].filename:
            del frames[0]
        shown = frames if len(frames) <= 20 else [*frames[:5], *frames[-15:]]
        return [
            "Traceback (most recent call last):",
            *(line.rstrip("\n") for line in traceback.format_list(shown)),
            f"{type(self).__name__}: {self}",
        ]


class MemoryGuard:
    """Raises in the running cell when asked to; `said` is the last error that was put in words."""

    def __init__(
        self, shell: Any, cap: Cap, gauge: Gauge, recorder: FlightRecorder, directory: Path
    ) -> None:
        self._shell = shell
        self._cap = cap
        self._gauge = gauge
        self._recorder = recorder
        self._directory = directory
        self.said: MemoryCapExceeded | None = None

    def install(self) -> None:
        """In the main thread, before the first cell."""
        signal.signal(MEMORY_SIGNAL, self._on_signal)
        os.register_at_fork(after_in_child=self._in_forked_child)
        self._shell.set_custom_exc((MemoryError, RuntimeError, OSError), self._show)
        shared_objects.load_without(self.lifted)

    # --- in the cell ---

    def _on_signal(self, _number: int, frame: types.FrameType | None) -> None:
        flight = self._recorder.flight
        line = cell_line(frame, self._shell.user_ns, flight.cell_file)
        if flight.state != "busy" or line is None:
            return  # between cells, or in code that is not the cell's: we are asked again
        raise self._exceeded(line, _and_callers(frame), None)

    def _exceeded(
        self, line: int | None, frames: list[types.FrameType], refused: BaseException | None
    ) -> MemoryCapExceeded:
        """The error in words, and on record: the supervisor makes a report of the event."""
        flight, cap = self._recorder.flight, self._cap
        used_bytes = self._gauge.used_bytes()
        lines = flight.cell_source.splitlines()
        source = lines[line - 1].strip() if line and 0 < line <= len(lines) else None
        largest = self._largest(frames, used_bytes)
        used = f"{size(used_bytes)} of the memory limit of {cap.configured} are used"
        if refused is None:
            because = f"{used}, and cells are ended above {size(cap.soft_bytes)} (soft_limit)"
        else:
            because = f"{one_line(refused)}; {used}, so it did not fit"
        error = MemoryCapExceeded(_message(line, source, because, largest), cap, used_bytes)
        error.largest, error.line, error.__cause__ = largest, line, refused
        extra = {
            "cell": flight.execution_count,
            "line": line,
            "source": source,
            "used_bytes": used_bytes,
            "cap_bytes": cap.cap_bytes,
            "soft_bytes": cap.soft_bytes,
            "largest": largest,
            "refused": None if refused is None else one_line(refused),
        }
        with contextlib.suppress(OSError):  # a full disk: the user is told all the same
            event = Event("memory-cap-interrupt", time.time(), because, extra)
            session.append_event(self._directory, event)
        self._recorder.update(line=line, memory_interrupts=flight.memory_interrupts + 1)
        self.said = error
        return error

    def _largest(
        self, frames: list[types.FrameType], used_bytes: int
    ) -> tuple[tuple[str, int, str], ...]:
        """(name, bytes, type) of what is worth freeing, children that work for the cell too."""
        live = self._shell.user_ns
        found = {name: value for name, value in list(live.items()) if self._is_users(name)}
        for frame in frames:
            if frame.f_globals is live and frame.f_locals is not live:
                for name, value in frame.f_locals.items():
                    found[f"{name} in {frame.f_code.co_name}()"] = value
        rows = [
            (one.name, one.size_bytes, one.type) for one in sizes.largest(found, _SHOWN, _LOOK_S)
        ]
        children_bytes = sum(child.private_bytes for child in self._gauge.split().children)
        rows.append(("child processes", children_bytes, "of the kernel"))
        worth_naming = [row for row in rows if row[1] > _WORTH_NAMING * used_bytes]
        return tuple(sorted(worth_naming, key=lambda row: -row[1]))

    def _is_users(self, name: str) -> bool:
        return not name.startswith("_") and name not in self._shell.user_ns_hidden

    # --- an error that no handler of the user's has caught ---

    def _show(
        self, shell: Any, kind: type, value: BaseException, tb: Any, tb_offset: int | None = None
    ) -> None:
        """IPython's handler for these errors (InteractiveShell.set_custom_exc)."""
        if not isinstance(value, MemoryCapExceeded) and _lacks_memory(value) and _is_in_force():
            walked = list(traceback.walk_tb(tb))
            file = self._recorder.flight.cell_file
            lines = [line for frame, line in walked if frame.f_code.co_filename == file]
            frames = [frame for frame, _ in walked]
            value = self._exceeded(lines[0] if lines else None, frames, value).with_traceback(tb)
        shell.showtraceback((type(value), value, tb), tb_offset=tb_offset)

    def reply(self, content: dict[str, Any]) -> dict[str, Any]:
        """The reply to a cell: it names the error that was shown."""
        said, self.said = self.said, None
        if said is None or content.get("status") != "error":
            return content
        let_go(said.__traceback__)
        release_free_memory()
        if content.get("ename") == type(said.__cause__).__name__:
            content = {**content, "ename": type(said).__name__, "evalue": str(said)}
        return content

    # --- the limit of data ---

    def cell_begins(self) -> None:
        """What has been freed since the guard's last look may be used at once."""
        limit_bytes, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if limit_bytes in (resource.RLIM_INFINITY, hard):
            return
        data_bytes = memory.data_bytes()
        share_kept = self._cap.cap_bytes * (1 - DATA_SHARE)
        if limit_bytes - data_bytes > self._cap.cap_bytes // 2:
            return
        room_bytes = memory.headroom_bytes(self._cap)
        wanted = 0 if room_bytes is None else data_bytes + int(room_bytes - share_kept)
        if wanted > limit_bytes:
            self._recorder.update(data_limit=wanted)  # first: the guard must know whose it is
            resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Maps of a restore are data at once, and memory only when they are touched."""
        self._recorder.update(lifted=True)
        time.sleep(0.005)  # a tick of the guard's that has not seen it yet
        try:
            lift_data_limit()
            yield
        finally:
            self._recorder.update(lifted=False)

    def _in_forked_child(self) -> None:
        """The limit is about the kernel's size, and workers are the first to go."""
        with contextlib.suppress(OSError, ValueError):
            lift_data_limit()
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write(_CHILD_SCORE)


def _message(
    line: int | None,
    source: str | None,
    because: str,
    largest: tuple[tuple[str, int, str], ...],
) -> str:
    place = "" if line is None else f" in line {line}" + (f" (`{source[:80]}`)" if source else "")
    parts = [f"the cell was ended{place}, so that the kernel lives: {because}."]
    if largest:
        shown = ", ".join(f"{name} {size(taken)} ({kind})" for name, taken, kind in largest)
        parts.append(f"Most of it: {shown}.")
    variables = [name for name, _, _ in largest if name.isidentifier()]
    if variables:
        parts.append(f"Free what you do not need (`del {variables[0]}`) and go on.")
    parts.append("More: %checkpoint memory")
    return " ".join(parts)


def _and_callers(frame: types.FrameType | None) -> list[types.FrameType]:
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def let_go(tb: types.TracebackType | None) -> None:
    """Clear the locals of functions that an error has ended: they hold what did not fit."""
    with contextlib.suppress(Exception):  # a `__del__` of the user's
        traceback.clear_frames(tb)
        for frame, _ in traceback.walk_tb(tb):
            len(frame.f_locals)  # up to Python 3.12 a copy: asking brings it up to date


def _lacks_memory(why: BaseException) -> bool:
    """torch says it with a RuntimeError, the system with an OSError; a GPU's memory is another."""
    if isinstance(why, MemoryError) or (isinstance(why, OSError) and why.errno == errno.ENOMEM):
        return True
    text = str(why)
    return "CUDA" not in text and any(words in text for words in _NO_MEMORY)


def _is_in_force() -> bool:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    return soft not in (resource.RLIM_INFINITY, hard)


def lift_data_limit() -> None:
    """RLIMIT_DATA as far up as it goes; the guard only ever moves the soft one."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def release_free_memory() -> None:
    """Give what malloc keeps for later back to the system (malloc_trim(3))."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc has it
        trim(0)
