"""Asks a living kernel for its Python stacks, without stopping it: signal, wait, read.

Two ways, see `checkpoint_kernel.stacks`: our thread in the kernel tells them; only where the
interpreter's lock is kept, so that no thread of Python's runs, is faulthandler's handler run in
another thread of ours. It walks frames without that lock, and where threads call and return
meanwhile that ends a kernel sooner or later: SIGSEGV after 25 to 1250 dumps, docs/adr/0013. No
signal goes to a thread of the user's: it would end a `sleep` or `poll` of C code early.
What the text says is `stack_dump`'s. Linux; the fields of /proc are those of proc(5).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from checkpoint_kernel import flight_recorder
from checkpoint_kernel.contract import FLIGHT_FILE, STACKS_END, STACKS_FILE, STACKS_SIGNAL
from checkpoint_kernel.flight_recorder import Flight

# Of the time that there is; the handler itself takes a millisecond.
_FOR_HANDLER: Final = 0.25
_POLL_S: Final = 0.005
_BIT: Final = 1 << (STACKS_SIGNAL - 1)


@dataclass(frozen=True)
class Answer:
    """What a kernel told of its stacks. Where there is no text, `why_not` says why."""

    text: str = ""  # as faulthandler writes it
    why_not: str | None = None
    without_lock: bool = False  # by the handler: some thread keeps the interpreter's lock


def ask(pid: int, directory: Path, flight: Flight | None, wait_s: float = 2.0) -> Answer:
    """The stacks of the kernel `pid`, whose session lies in `directory`; within `wait_s`.

    `flight` is what its flight recorder says: which threads may be sent a signal. Never raises for
    what a kernel is or does; OSError only if the file cannot be read back.
    """
    if (state := state_of(pid)) in ("", "Z", "X"):
        return Answer(why_not="the process has ended")
    if not _mask(Path(f"/proc/{pid}/status"), "SigCgt:") & _BIT:
        return Answer(why_not="the kernel does not tell its stacks: it is not ours, or just starts")
    if state in ("T", "t"):
        return Answer(why_not=in_words(state))
    try:
        fd = os.open(directory / STACKS_FILE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as why:
        return Answer(why_not=f"{why.filename} cannot be used: {why.strerror}")
    try:
        deadline = time.monotonic() + wait_s
        if not _until(lambda: _locked(fd), deadline):
            return Answer(why_not="somebody else is asking")
        return _ask(pid, fd, directory, flight or Flight(), wait_s)
    except PermissionError:
        return Answer(why_not=f"process {pid} is another user's")
    except ProcessLookupError:
        return Answer(why_not="the process has ended")
    finally:
        os.close(fd)  # and so unlocked


def _ask(pid: int, fd: int, directory: Path, flight: Flight, wait_s: float) -> Answer:
    deadline = time.monotonic() + wait_s
    sampled = _sampled(directory)
    os.ftruncate(fd, 0)  # the kernel appends: the file holds what was asked last
    if _has(pid, flight.stacks_tid):
        _send(pid, flight.stacks_tid or pid)
        told = f"\n{STACKS_END}\n"
        if _until(lambda: _read(fd).endswith(told), deadline - wait_s * _FOR_HANDLER):
            return Answer(_read(fd).removesuffix(told))
        if _sampled(directory) != sampled:  # its clock runs: the lock is had, if slowly
            if _until(lambda: _read(fd).endswith(told), deadline):
                return Answer(_read(fd).removesuffix(told))
            return Answer(why_not="the kernel is too busy to answer in time: ask again")
        os.ftruncate(fd, 0)
    tid = flight.clock_tid if flight.clock_tid and _has(pid, flight.clock_tid) else pid
    _send(pid, tid)
    if _until(lambda: _handled(pid, tid), deadline) and (text := _read(fd)):
        return Answer(text.partition(f"\n{STACKS_END}\n")[0], without_lock=True)
    state = state_of(pid)
    return Answer(why_not=in_words(state) if state in "TtDZX" else "the kernel did not answer")


def state_of(pid: int) -> str:
    """The state letter of a process's main thread; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def in_words(state: str) -> str:
    """What the state means for somebody who waits for an answer."""
    return {
        "": "the process has ended",
        "Z": "the process has ended",
        "X": "the process has ended",
        "T": "the process is stopped (SIGSTOP, or Ctrl-Z); SIGCONT lets it go on",
        "t": "the process is held by a debugger",
        "D": "the process waits in the operating system, for a disk or a network file system",
    }.get(state, f"its state is {state}")


def waits_in(pid: int) -> str | None:
    """The function of the Linux kernel that the main thread sleeps in, where we may know."""
    try:
        name = Path(f"/proc/{pid}/wchan").read_text("ascii", "replace").strip()
    except OSError:
        return None
    return name if name not in ("", "0") else None


def _has(pid: int, tid: int | None) -> bool:
    return tid is not None and Path(f"/proc/{pid}/task/{tid}").exists()


def _sampled(directory: Path) -> float | None:
    """When the kernel's clock last ran, which takes the interpreter's lock."""
    try:
        flight = flight_recorder.read(directory / FLIGHT_FILE)
    except (OSError, ValueError, TypeError):
        return None
    return flight.sampled if flight else None


def _handled(pid: int, tid: int) -> bool:
    """Whether the handler has run: while it does, its signal is blocked in its thread."""
    status = Path(f"/proc/{pid}/task/{tid}/status")
    return not (_mask(status, "SigPnd:") | _mask(status, "SigBlk:")) & _BIT


def _mask(path: Path, name: str) -> int:
    try:
        text = path.read_text("ascii", "replace")
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1], 16)
    return 0


def _send(pid: int, tid: int) -> None:
    """tgkill(2): to this thread and no other."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.tgkill(pid, tid, int(STACKS_SIGNAL)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(fd: int) -> str:
    return os.pread(fd, os.fstat(fd).st_size, 0).decode("utf-8", "replace")


def _until(condition: Callable[[], bool], deadline: float) -> bool:
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
