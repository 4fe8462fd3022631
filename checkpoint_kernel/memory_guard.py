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
import dis
import errno
import functools
import math
import os
import resource
import signal
import threading
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
_OUR_CODE: Final = str(Path(__file__).parent)
_FLOOR_BYTES: Final = 8 << 20
# More than this no library maps.
_LIBRARIES_BYTES: Final = 2 << 30
_WORTH_NAMING: Final = 0.02  # of what is used
_CHILD_SCORE: Final = (
    500  # above the kernel's own, as the supervisor's guard would set it a tick later
)


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
        self._about: tuple[str, dict[str, Any]] = "", {}  # what the event of it holds
        self._used_at_start = 0  # of the running cell
        self._pid = os.getpid()  # what a forked child does is not the kernel's
        self._lock = threading.RLock()
        self._lifts = 0  # under way
        self._at_first: int = resource.getrlimit(resource.RLIMIT_DATA)[0]
        self._data_limit = self._at_first  # the user's, or nobody's
        self._found_limit: int | None = None  # what the user's code has replaced

    def install(self) -> None:
        """In the main thread, before the first cell."""
        signal.signal(MEMORY_SIGNAL, self._on_signal)
        os.register_at_fork(after_in_child=self._in_forked_child)
        resource.setrlimit = self._noting(resource.setrlimit)
        self._shell.set_custom_exc((MemoryError, RuntimeError, OSError), self._show)
        shared_objects.load_without(self._loading)

    # --- in the cell ---

    def _on_signal(self, _number: int, frame: types.FrameType | None) -> None:
        flight = self._recorder.flight
        line = cell_line(frame, self._shell.user_ns, flight.cell_file)
        if flight.state != "busy" or line is None or _is_ours(frame, flight.cell_file):
            return  # between cells, or in code that is not the cell's: we are asked again
        used_bytes, limit_bytes = self._use()
        if used_bytes <= max(self._cap.soft_within(limit_bytes), self._used_at_start):
            return  # one call of C code has freed it meanwhile, or it was meant for the cell before
        self._recorder.update(line=line, memory_interrupts=flight.memory_interrupts + 1)
        raise self._exceeded(line, _and_callers(frame), None)

    def _exceeded(
        self, line: int | None, frames: list[types.FrameType], refused: BaseException | None
    ) -> MemoryCapExceeded:
        """The error in words. What becomes of it, `reply` sees."""
        flight, cap = self._recorder.flight, self._cap
        used_bytes, limit_bytes = self._use()
        lines = flight.cell_source.splitlines()
        source = lines[line - 1].strip() if line and 0 < line <= len(lines) else None
        largest = self._largest(frames, used_bytes)
        limit = cap.configured if limit_bytes == cap.cap_bytes else size(limit_bytes)
        used = f"{size(used_bytes)} of the memory limit of {limit} are used"
        if refused is None:
            soft = size(cap.soft_within(limit_bytes))
            because = f"{used}, and cells are ended above {soft} (soft_limit)"
        else:
            left = max(int(DATA_SHARE * limit_bytes) - used_bytes, 0)
            because = f"{one_line(refused)}; {used}, and no more than {size(left)} could be had"
        error = MemoryCapExceeded(_message(line, source, because, largest), cap, used_bytes)
        error.largest, error.line, error.__cause__ = largest, line, refused
        self._about = (
            because,
            {
                "cell": flight.execution_count,
                "line": line,
                "source": source,
                "cell_source": flight.cell_source,
                "used_bytes": used_bytes,
                "cap_bytes": cap.cap_bytes,
                "soft_bytes": cap.soft_bytes,
                "largest": largest,
                "refused": None if refused is None else one_line(refused),
            },
        )
        self.said = error
        return error

    def _use(self) -> tuple[int, int]:
        """(used, limit) in bytes, of the limit under which the least is left."""
        return memory.tightest(self._cap) or (self._gauge.used_bytes(), self._cap.cap_bytes)

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
        try:
            if self._was_refused(value, tb):
                walked = list(traceback.walk_tb(tb))
                file = self._recorder.flight.cell_file
                lines = [line for frame, line in walked if frame.f_code.co_filename == file]
                frames = [frame for frame, _ in walked]
                refused = self._exceeded(lines[0] if lines else None, frames, value)
                value = refused.with_traceback(tb)
        except BaseException:  # no memory for words, or Ctrl-C: the error itself is shown
            self.said = None
        shell.showtraceback((type(value), value, tb), tb_offset=tb_offset)

    def _was_refused(self, value: BaseException, tb: types.TracebackType | None) -> bool:
        """Whether an allocation failed for the limit's sake, as far as can be told."""
        if isinstance(value, MemoryCapExceeded) or not _lacks_memory(value) or _raised(tb):
            return False
        if os.getpid() != self._pid:
            return False
        return _is_in_force() and not _larger_than_the_machine(value)

    def reply(self, content: dict[str, Any]) -> dict[str, Any]:
        """The reply to a cell: it names the error that was shown, and the event is put on record.

        A cell that has handled the error was not ended by it.
        """
        said, self.said = self.said, None
        if said is None or os.getpid() != self._pid:
            return content
        because, extra = self._about
        kind = "memory-cap-interrupt"
        names = (type(said).__name__, type(said.__cause__).__name__)
        if content.get("status") != "error" or content.get("ename") not in names:
            kind, because = "memory-cap-handled", f"the cell went on after this: {because}"
        with contextlib.suppress(OSError):  # a full disk: the user is told all the same
            session.append_event(self._directory, Event(kind, time.time(), because, extra))
        if kind == "memory-cap-handled":
            return content
        self._recorder.update(cells_ended=self._recorder.flight.cells_ended + 1)
        let_go(said.__traceback__)
        release_free_memory()
        return {**content, "ename": type(said).__name__, "evalue": str(said)}

    # --- the limit of data ---

    def cell_begins(self) -> None:
        """What has been freed since the guard's last look may be used at once."""
        with self._lock:
            if self._lifts:  # a Ctrl-C came between its two ends
                self._lifts = 0
                self._recorder.update(lifted=False)
        use = memory.tightest(self._cap)
        self._used_at_start = 0 if use is None else use[0]
        room_bytes = None if use is None else use[1] - use[0]
        limit_bytes, _ = resource.getrlimit(resource.RLIMIT_DATA)
        tight = limit_bytes - memory.data_bytes() < self._cap.cap_bytes // 2
        if _is_in_force() and tight and room_bytes is not None:
            self._limit_data(room_bytes, at_least=limit_bytes)

    def _limit_data(self, room_bytes: int, at_least: int = 0) -> None:
        """RLIMIT_DATA as the guard would reckon it now."""
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        share_kept = self._cap.cap_bytes * (1 - DATA_SHARE)
        wanted = memory.data_bytes() + max(int(room_bytes - share_kept), _FLOOR_BYTES)
        for bound in (hard, self._data_limit):
            wanted = wanted if bound == resource.RLIM_INFINITY else min(wanted, bound)
        if wanted > at_least:
            # The recorder first: the guard must know whose limit a child has.
            self._recorder.update(data_limit=wanted)
            memory.set_data_limit(wanted)

    def _noting(self, setrlimit: Callable[..., None]) -> Callable[..., None]:
        """So that children keep a limit of the user's own."""

        @functools.wraps(setrlimit)
        def wrapper(which: int, limits: tuple[int, int]) -> None:
            found = resource.getrlimit(which)[0]
            setrlimit(which, limits)
            if which == resource.RLIMIT_DATA and os.getpid() == self._pid:
                self._users_own(found, limits[0])

        wrapper.__module__ = resource.__name__  # a notebook's reference to it is saved by name
        return wrapper

    def _users_own(self, found: int, wanted: int) -> None:
        """Told apart from ours here, where it is set; putting back what was found ends it."""
        if wanted == self._found_limit:
            self._found_limit, self._data_limit = None, self._at_first
            self._recorder.update(users_data_limit=None)
            return
        if self._found_limit is None:
            self._found_limit = found
        self._data_limit = wanted
        self._recorder.update(users_data_limit=wanted)

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Maps of a restore are data at once, and memory only when they are touched."""
        self._recorder.update(maps_restored=True)
        with self._lifted():
            time.sleep(0.005)  # a tick of the guard's that has not seen it yet
            lift_data_limit()
            yield

    @contextlib.contextmanager
    def _loading(self) -> Iterator[None]:
        """As `lifted`, many times in an import: only where it may matter, and without waiting."""
        limit_bytes, _ = resource.getrlimit(resource.RLIMIT_DATA)
        free = not _is_in_force() or os.getpid() != self._pid
        if free or limit_bytes - memory.data_bytes() > _LIBRARIES_BYTES:
            yield
        else:
            with self._lifted():
                yield

    @contextlib.contextmanager
    def _lifted(self) -> Iterator[None]:
        before, hard = resource.getrlimit(resource.RLIMIT_DATA)
        try:
            with self._lock:
                self._lifts += 1
                self._recorder.update(lifted=True)
                lift_data_limit()
            yield
        finally:
            with self._lock:
                self._lifts = max(self._lifts - 1, 0)
                if not self._lifts:
                    self._recorder.update(lifted=False)
                    # Until the guard's next tick: an allocation may follow at once.
                    room_bytes = memory.headroom_bytes(self._cap)
                    if room_bytes is not None:
                        self._limit_data(room_bytes)
                    elif before != hard:
                        memory.set_data_limit(before)

    def _in_forked_child(self) -> None:
        """The limit is about the kernel's size, and workers are the first to go."""
        self._lock = threading.RLock()  # another thread may have held it
        with contextlib.suppress(OSError, ValueError):
            memory.set_data_limit(self._data_limit)
            path = Path("/proc/self/oom_score_adj")
            score = int(path.read_text("ascii"))
            path.write_text(str(min(score + _CHILD_SCORE, 1000)), "ascii")


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


def _is_ours(frame: types.FrameType | None, cell_file: str | None) -> bool:
    """Whether the cell has called this package, which must come to its end: a checkpoint, say."""
    while frame is not None and frame.f_code.co_filename != cell_file:
        if frame.f_code.co_filename.startswith(_OUR_CODE):
            return True
        frame = frame.f_back
    return False


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


def _raised(tb: types.TracebackType | None) -> bool:
    """By a `raise` statement, and so not by an allocation."""
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    if tb is None or tb.tb_lasti < 0:
        return False
    return dis.opname[tb.tb_frame.f_code.co_code[tb.tb_lasti]] == "RAISE_VARARGS"


def _larger_than_the_machine(why: BaseException) -> bool:
    """numpy says what it wanted: more than there is would have been refused without us too."""
    shape, dtype = getattr(why, "shape", None), getattr(why, "dtype", None)
    item_bytes = getattr(dtype, "itemsize", None)
    if not isinstance(shape, tuple) or not isinstance(item_bytes, int):
        return False
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return math.prod(shape) * item_bytes > machine_bytes


def _is_in_force() -> bool:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    return soft not in (resource.RLIM_INFINITY, hard)


def lift_data_limit() -> None:
    """RLIMIT_DATA as far up as it goes; the guard only ever moves the soft one."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    memory.set_data_limit(hard)


def release_free_memory() -> None:
    """Give what malloc keeps for later back to the system (malloc_trim(3))."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc has it
        trim(0)
