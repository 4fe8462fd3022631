"""The verbs of Linux that the supervisor needs: signals as data, spawn, die as the kernel did.

No policy. Standard library only; what Python does not wrap goes through ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import signal
import struct
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from checkpoint_kernel.contract import STACKS_SIGNAL

_libc = ctypes.CDLL(None, use_errno=True)

# prctl(2)
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_SIGSET_BYTES = 128  # glibc's sigset_t
_SIGINFO_BYTES = 128  # struct signalfd_siginfo, signalfd(2)
_SIGINFO_HEAD = struct.Struct("=IiiII")  # signo, errno, code, pid, uid

# What a person or a program may send a kernel; the rest means its receiver only.
FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGCONT,
    signal.SIGWINCH,
    signal.SIGTSTP,
    signal.SIGXCPU,
)
# The provisioner asks for the stacks of a kernel that does not answer: not passed on.
WATCHED = (*FORWARDED, signal.SIGCHLD, STACKS_SIGNAL)


@dataclass(frozen=True)
class SignalInfo:
    """One signal out of a signalfd."""

    number: int
    sender_pid: int
    sender_uid: int


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def block(signals: Iterable[int]) -> set[signal.Signals]:
    """Block signals for good, so that a signalfd reports them; the mask before."""
    return {signal.Signals(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, signals)}


def open_signals(signals: Iterable[int]) -> int:
    """A non-blocking signalfd(2) for blocked signals."""
    mask = bytearray(_SIGSET_BYTES)
    for number in signals:
        mask[(number - 1) // 8] |= 1 << ((number - 1) % 8)
    flags = os.O_NONBLOCK | os.O_CLOEXEC
    fd: int = _libc.signalfd(-1, bytes(mask), flags)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return fd


def read_signals(fd: int) -> list[SignalInfo]:
    """All signals that wait."""
    found: list[SignalInfo] = []
    while True:
        try:
            data = os.read(fd, _SIGINFO_BYTES)
        except BlockingIOError:
            return found
        number, _, _, pid, uid = _SIGINFO_HEAD.unpack_from(data)
        found.append(SignalInfo(number, pid, uid))


def spawn(
    argv: list[str],
    env: Mapping[str, str],
    mask: Iterable[int],
    stderr_fd: int | None,
    inherit: Iterable[int],
    before_exec: Callable[[], None],
) -> int:
    """Start `argv` in a session of its own; its pid. OSError if it cannot be executed.

    `mask` is the signal mask it gets, `stderr_fd` becomes its descriptor 2, `inherit` stay
    open in it, `before_exec` runs in the child.
    """
    report_read, report_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(argv, env, mask, stderr_fd, inherit, before_exec, report_write)
    os.close(report_write)
    with open(report_read, "rb") as report:
        failure = report.read()
    if failure:
        os.waitpid(pid, 0)
        number, _, text = failure.decode("utf-8", "replace").partition(" ")
        raise OSError(int(number), text)
    return pid


def _become(
    argv: list[str],
    env: Mapping[str, str],
    mask: Iterable[int],
    stderr_fd: int | None,
    inherit: Iterable[int],
    before_exec: Callable[[], None],
    report_write: int,
) -> NoReturn:
    """The child's half of `spawn`."""
    try:
        os.setsid()
        before_exec()
        # Python ignores these two, and exec would hand that down.
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        for fd in inherit:
            os.set_inheritable(fd, True)
        if stderr_fd is not None:
            os.dup2(stderr_fd, 2)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execvpe(argv[0], argv, env)
    except OSError as why:
        named = why.filename or argv[0]
        os.write(report_write, f"{why.errno or errno.EIO} {named}: {why.strerror}".encode())
    except BaseException:
        os.write(report_write, f"{errno.EIO} {traceback.format_exc(limit=3)}".encode())
    finally:
        os._exit(127)


def gone(pid: int) -> bool:
    """Whether our child `pid` has exited, reaped or not; true for what is no child of ours."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def reap(pid: int) -> None:
    """Reap our child if it has exited; nothing if not, or if it is no child of ours."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def reap_others(kernel_pid: int) -> None:
    """Reap exited children but the kernel, whose status and pid are still needed."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None or found.si_pid == kernel_pid:
                return
            os.waitpid(found.si_pid, 0)
        except ChildProcessError:
            return


def send(pid: int, number: int, group: bool = False) -> bool:
    """Send a signal to a process or its group; False if there is none."""
    try:
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def die_as(code: int | None, number: int | None) -> NoReturn:
    """End with the status of the kernel: the same code, or by the same signal."""
    if number is not None:
        # Its core is the kernel's own; ours would say nothing.
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # a signal whose default is not to end
    os._exit(code or 0)


def has_exited(pidfd: int) -> bool:
    """Whether the process of a pidfd has ended, reaped or not (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
