"""The snapshot process: a forked child that serializes and writes while the user works on.

The parent waits for `_Fork` only. glibc's `_Fork` runs no atfork handlers: `os.fork()`
deadlocks the parent for good when a thread is inside OpenBLAS (docs/adr/0004). What the
child does is handed in; here are its birth, its isolation and its end. Linux with glibc
2.34 or newer; elsewhere `available()` says why not and the caller works in place.
"""

from __future__ import annotations

import collections
import ctypes
import errno
import fcntl
import functools
import gc
import itertools
import json
import logging
import mmap
import operator
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from . import cuda, memory, open_files

# A snapshot process that has not ended by then is killed, and its unit blamed.
DEADLINE_S = 600
# One unit's pickling may take this long; SIGALRM ends the process then.
UNIT_LIMIT_S = 120.0
# The child says "alive" first; silence means that it inherited a held lock. Try again.
BIRTH_LIMIT_S = 5.0

_PIPE_BYTES: Final = 1 << 20

_MADV_DONTFORK: Final = getattr(mmap, "MADV_DONTFORK", 10)
_MADV_DOFORK: Final = getattr(mmap, "MADV_DOFORK", 11)
_PAGE: Final = mmap.PAGESIZE
_HUGE_PAGE: Final = 2 << 20
_WORTH_ADVISING: Final = 256 << 10  # a call costs about as much as copying its page tables

# A process that has got one of these has stopped, and has not ended.
_STOPS: Final = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

Report = Callable[..., None]


@dataclass
class SnapshotProcess:
    """The parent's handle of a living child."""

    pid: int
    status_fd: int
    started: float  # time.monotonic()
    buffered: bytes = b""


@dataclass(frozen=True)
class Exit:
    """How a snapshot process ended, for the parent: `status` is None if it was not our child."""

    status: int | None
    cpu_s: float = 0.0  # of its own; 0 where it was reaped by somebody else

    @property
    def text(self) -> str:
        """`SIGSEGV`, `exit code 3`; for reasons that users read."""
        if self.status is None:
            return "unknown status"
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            named = number in signal.Signals.__members__.values()
            return signal.Signals(number).name if named else f"signal {number}"
        return f"exit code {os.WEXITSTATUS(self.status)}"

    @property
    def timed_out(self) -> bool:
        """Ended by its own alarm."""
        return (
            self.status is not None
            and os.WIFSIGNALED(self.status)
            and os.WTERMSIG(self.status) == signal.SIGALRM
        )

    @property
    def killed(self) -> bool:
        """Ended by SIGKILL: the OOM killer, or us."""
        return (
            self.status is not None
            and os.WIFSIGNALED(self.status)
            and os.WTERMSIG(self.status) == signal.SIGKILL
        )


@functools.cache
def _has_bare_fork() -> bool:
    return hasattr(ctypes.PyDLL(None), "_Fork")


def available() -> str | None:
    """None where a snapshot process can be forked, otherwise the reason why not."""
    if sys.platform != "linux":
        return f"no snapshot process on {sys.platform}"
    if not _has_bare_fork():
        return "the C library has no _Fork (glibc 2.34 or newer has)"
    return cuda.refusal()


def fork(
    work: Callable[[Report], None], unneeded: Iterable[tuple[int, int]] = ()
) -> SnapshotProcess:
    """Fork a snapshot process that runs `work(report)` and leaves.

    Call it in the main thread at a safe point. `report(**fields)` sends one JSON object to
    the parent. `unneeded` (address, length in bytes) is memory that `work` never reads: it is
    missing in the child. Raises OSError if the fork fails.
    """
    starts, lengths = _whole_pages(unneeded)
    open_files.note()
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(write_fd, True)
    try:
        # Reports must not wait for a kernel that is busy in one long C call.
        fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        pass  # above the user's quota for pipes: it stays at 64 KB
    started = time.monotonic()
    # A collection between here and the child's gc.disable() would touch every page.
    collecting = gc.isenabled()
    gc.disable()
    try:
        pid = _fork_in_one_breath(starts, lengths)
    except BaseException:
        _advise(starts, lengths, _MADV_DOFORK)
        if collecting:
            gc.enable()
        raise
    if pid == 0:
        _run_child(work, write_fd)
    if collecting:
        gc.enable()
    os.close(write_fd)
    if pid < 0:
        os.close(read_fd)
        raise OSError(errno.EAGAIN, "the snapshot process could not be forked")
    return SnapshotProcess(pid, read_fd, started)


def _fork_in_one_breath(starts: list[int], lengths: list[int]) -> int:
    """PyOS_BeforeFork, _Fork, PyOS_AfterFork_*: no bytecode of any thread in between.

    From PyOS_BeforeFork on the interpreter's locks are held (3.12 and later: also that of the
    list of threads). Were the GIL given up then, a thread that starts another one would wait
    for that lock with the GIL in its hands, for ever. So C code drives the calls.

    Around _Fork the memory at `starts` is left out: neither its page tables are copied nor,
    when the user writes to it, its pages. A thread that forks sees all of it.
    """
    before, bare_fork, after_parent, after_child = _fork_functions()

    def advise(advice: int) -> Iterator[Any]:
        # Whatever madvise returns, None comes out.
        return map({}.get, map(_madvise(), starts, lengths, itertools.repeat(advice)))

    results, pids = itertools.tee(
        itertools.chain(
            map(operator.call, (before,)),
            advise(_MADV_DONTFORK),
            map(operator.call, (bare_fork,)),
        )
    )
    # None is what `before` and madvise give: it calls for nothing. A pid calls for one of these.
    choose = {None: type(None), 0: after_child}.get
    next_call: Iterator[Any] = map(choose, results, itertools.repeat(after_parent))
    collections.deque(
        itertools.chain(map(operator.call, next_call), advise(_MADV_DOFORK)), maxlen=0
    )
    *_, pid = pids
    return int(pid)


def _whole_pages(memory: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Addresses and lengths of the whole pages inside of buffers, where it is worth a call."""
    starts, lengths = [], []
    for address, length in memory:
        # Huge pages are not split where a range ends at one.
        page = _HUGE_PAGE if length >= 4 * _HUGE_PAGE else _PAGE
        start, end = -(-address // page) * page, (address + length) // page * page
        if address and end - start >= _WORTH_ADVISING:
            starts.append(start)
            lengths.append(end - start)
    return starts, lengths


def _advise(starts: list[int], lengths: list[int], advice: int) -> None:
    """madvise(2)."""
    collections.deque(map(_madvise(), starts, lengths, itertools.repeat(advice)), maxlen=0)


@functools.cache
def _madvise() -> Any:
    function = ctypes.PyDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function


@functools.cache
def _fork_functions() -> tuple[Any, Any, Any, Any]:
    library = ctypes.PyDLL(None)  # PyDLL: with the GIL held
    before = library.PyOS_BeforeFork
    after_parent, after_child = library.PyOS_AfterFork_Parent, library.PyOS_AfterFork_Child
    for function in (before, after_parent, after_child):
        function.restype = None
    return before, library._Fork, after_parent, after_child


def _run_child(work: Callable[[Report], None], status_fd: int) -> NoReturn:
    try:
        report = _reporter(status_fd)
        report(alive=True)
        _isolate(status_fd)
        work(report)
        _end_what_was_started()
        os._exit(0)
    except BaseException as why:
        try:
            _reporter(status_fd)(failed=f"{type(why).__name__}: {why}")
            _end_what_was_started()
        finally:
            os._exit(1)
    raise AssertionError("os._exit came back")


def _end_what_was_started() -> None:
    """By objects, while they were saved. The kernel sees to that too, unless it has died."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def _reporter(fd: int) -> Report:
    def report(**fields: Any) -> None:
        try:
            os.write(fd, json.dumps(fields).encode() + b"\n")
        except BrokenPipeError:
            pass  # the kernel has died: what it had is committed all the more

    return report


def _isolate(status_fd: int) -> None:
    """Hold nothing of the kernel's: no ports, no locks, no terminal, no handlers."""
    os.setsid()
    # Only the pages matter from here on. The kernel's sockets would otherwise keep its
    # ports busy for the next kernel, and its lock on the store.
    files = open_files.stand_in()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    # Listed, because a limit of a billion descriptors makes closerange() take minutes where
    # there is no close_range(2).
    for number in sorted(int(entry.name) for entry in os.scandir("/proc/self/fd")):
        if number > 2 and number != status_fd and number not in files:
            try:
                os.close(number)
            except OSError:
                pass  # the listing's own
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    gc.disable()
    gc.freeze()
    # ipykernel's streams would open a zmq context at the first character.
    silent = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (kept for good)
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = silent  # type: ignore[misc]
    sys.settrace(None)
    sys.setprofile(None)
    logging.disable()  # handlers hold ipykernel's streams too
    # A crash in here is no crash of the kernel: no core file of all its memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.nice(5)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # a container with /proc read-only: the kernel has no other protection there


class DeferredCollections:
    """In the parent: no automatic full collection while a snapshot process lives.

    One would write to every object's header, and so copy every page that is shared. For
    `LIMIT_S` at most: garbage is memory too. The user's own `gc.collect()` collects.
    """

    LIMIT_S: Final = 5.0
    _NEVER: Final = 1 << 30

    def __init__(self) -> None:
        self._before: tuple[int, int, int] | None = None

    def begin(self) -> None:
        """A snapshot process has been forked."""
        now = gc.get_threshold()
        if now[2] != self._NEVER:
            self._before = now
        gc.set_threshold(*now[:2], self._NEVER)

    def end(self) -> None:
        """It has ended, or lives too long. Harmless when nothing is deferred."""
        now = gc.get_threshold()
        # Unless the user has set others meanwhile; who has put ours back, did not mean ours.
        if self._before is not None and now[2] == self._NEVER:
            gc.set_threshold(*now[:2], self._before[2])


def limit(seconds: float) -> None:
    """In the snapshot process: end by SIGALRM unless called again within `seconds`."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def limit_memory(room_bytes: int) -> None:
    """In the snapshot process: MemoryError once it has `room_bytes` more than it began with."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = memory.data_bytes() + room_bytes
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def read_status(child: SnapshotProcess, wait_s: float = 0.0) -> list[dict[str, Any]]:
    """The child's reports since the last call; waits up to `wait_s` for the first one."""
    if wait_s > 0:
        poll = select.poll()  # select() refuses descriptors above 1023
        poll.register(child.status_fd, select.POLLIN)
        poll.poll(wait_s * 1000)
    while True:
        try:
            data = os.read(child.status_fd, 65536)
        except BlockingIOError:
            break
        if not data:
            break
        child.buffered += data
    *lines, child.buffered = child.buffered.split(b"\n")
    return [json.loads(line) for line in lines]


def bare_fork() -> int:
    """As `os.fork`, but for the handlers of libraries. For a snapshot process; -1 on failure."""
    return _fork_in_one_breath([], [])


def leave_after(work: Callable[[], None]) -> NoReturn:
    """In a forked child: do that and leave, with status 1 after whatever it raises."""
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def look_at_end(pid: int) -> Exit | None:
    """How a child has ended or stopped; None while it runs. It is not reaped."""
    options = os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT
    try:
        found = os.waitid(os.P_PID, pid, options)
    except ChildProcessError:
        return Exit(None)
    if found is None:
        return None
    return Exit(found.si_status << 8 if found.si_code == os.CLD_EXITED else found.si_status)


def reap(child: SnapshotProcess, block: bool = False) -> Exit | None:
    """The child's exit, once it has ended; None while it lives.

    One that has stopped itself is ended. What it has started ends with it.
    """
    ended = look_at_end(child.pid)
    if ended is not None:
        for end in (os.killpg, os.kill):  # of its own session, so the first of its group
            try:
                end(child.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        block = True
    try:
        pid, status, used = os.wait4(child.pid, 0 if block else os.WNOHANG)
    except ChildProcessError:  # the user's code has waited for any child
        return Exit(None)
    if not pid:
        return None
    if ended is not None and ended.status in _STOPS:
        status = ended.status
    return Exit(status, used.ru_utime + used.ru_stime)


def kill(child: SnapshotProcess) -> None:
    """SIGKILL the child; `reap` it afterwards."""
    try:
        os.kill(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def close(child: SnapshotProcess) -> None:
    """Close the parent's end of the status pipe."""
    os.close(child.status_fd)
