"""The snapshot process: a forked child that serializes and writes while the user works on.

The parent waits for `_Fork` only. glibc's `_Fork` runs no atfork handlers: `os.fork()`
deadlocks the parent for good when a thread is inside OpenBLAS (docs/adr/0004). What the
child does is handed in; here are its birth, its isolation and its end. Linux with glibc
2.34 or newer; elsewhere `available()` says why not and the caller works in place.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

# A snapshot process that has not ended by then is killed, and its unit blamed.
DEADLINE_S = 600
# One unit's pickling may take this long; SIGALRM ends the process then.
UNIT_LIMIT_S = 120
# The child says "alive" first; silence means that it inherited a held lock. Try again.
BIRTH_LIMIT_S = 5.0

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

    @property
    def text(self) -> str:
        """`SIGSEGV`, `exit code 3`; for reasons that users read."""
        if self.status is None:
            return "unknown status"
        if os.WIFSIGNALED(self.status):
            return signal.Signals(os.WTERMSIG(self.status)).name
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


def available() -> str | None:
    """None where a snapshot process can be forked, otherwise the reason why not."""
    if sys.platform != "linux":
        return f"no snapshot process on {sys.platform}"
    if not hasattr(ctypes.PyDLL(None), "_Fork"):
        return "the C library has no _Fork (glibc 2.34 or newer has)"
    return None


def fork(work: Callable[[Report], None]) -> SnapshotProcess:
    """Fork a snapshot process that runs `work(report)` and leaves.

    Call it in the main thread at a safe point. `report(**fields)` sends one JSON object to
    the parent. Raises OSError if the fork fails.
    """
    library = ctypes.PyDLL(None)
    python = ctypes.pythonapi
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(write_fd, True)
    started = time.monotonic()
    bare_fork, after_child = library._Fork, python.PyOS_AfterFork_Child
    # A collection between here and the child's gc.disable() would touch every page.
    collecting = gc.isenabled()
    gc.disable()
    python.PyOS_BeforeFork()
    pid = bare_fork()
    if pid == 0:
        after_child()
        _run_child(work, write_fd)
    python.PyOS_AfterFork_Parent()
    if collecting:
        gc.enable()
    os.close(write_fd)
    if pid < 0:
        os.close(read_fd)
        raise OSError(errno.EAGAIN, "the snapshot process could not be forked")
    return SnapshotProcess(pid, read_fd, started)


def _run_child(work: Callable[[Report], None], status_fd: int) -> NoReturn:
    try:
        report = _reporter(status_fd)
        report(alive=True)
        _isolate(status_fd)
        work(report)
        os._exit(0)
    except BaseException as why:
        try:
            _reporter(status_fd)(failed=f"{type(why).__name__}: {why}")
        finally:
            os._exit(1)
    raise AssertionError("os._exit came back")


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
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    keep = sorted({0, 1, 2, status_fd})
    for low, high in zip(keep, [*keep[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)
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
    os.nice(5)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def limit_unit(seconds: float) -> None:
    """In the snapshot process: end by SIGALRM unless called again within `seconds`."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def read_status(child: SnapshotProcess, wait_s: float = 0.0) -> list[dict[str, Any]]:
    """The child's reports since the last call; waits up to `wait_s` for the first one."""
    if wait_s > 0:
        select.select([child.status_fd], [], [], wait_s)
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


def reap(child: SnapshotProcess, block: bool = False) -> Exit | None:
    """The child's exit, once it has ended; None while it lives."""
    try:
        pid, status = os.waitpid(child.pid, 0 if block else os.WNOHANG)
    except ChildProcessError:  # the user's code has waited for any child
        return Exit(None)
    return Exit(status) if pid else None


def kill(child: SnapshotProcess) -> None:
    """SIGKILL the child; `reap` it afterwards."""
    try:
        os.kill(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def close(child: SnapshotProcess) -> None:
    """Close the parent's end of the status pipe."""
    os.close(child.status_fd)
