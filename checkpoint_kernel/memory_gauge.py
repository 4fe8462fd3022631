"""How much memory counts now against the cap, and who has it: kernel, children, shared memory.

Covers reading only, by cgroup where there is one, else of this kernel and its descendants. The
cheap reading is for a clock (20 to 60 microseconds), the split for somebody who asks (some
milliseconds for each large process). The cgroup's files are `cgroup_memory`'s. Sources:
proc_pid_status(5), proc_pid_smaps(5).
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import process_tree
from .cgroup_memory import GroupMemory, Reading
from .session import Cap

_ANONYMOUS: Final = re.compile(rb"^(?:RssAnon|VmSwap):\s+(\d+) kB$", re.M)
_SHARED: Final = re.compile(rb"^RssShmem:\s+(\d+) kB$", re.M)
_PRIVATE: Final = re.compile(rb"^(?:Private_Dirty|Swap):\s+(\d+) kB$", re.M)
# Without a cgroup children are looked at so much more rarely than it takes.
_RARELY: Final = 100


@dataclass(frozen=True)
class Process:
    """A process that counts against the cap, and is not the kernel."""

    pid: int
    name: str  # its command line
    private_bytes: int  # shared with no other process: what its end would free


@dataclass(frozen=True)
class Split:
    """Whose the memory is. The parts may be some MB more than the whole: they are read in turn."""

    used_bytes: int  # all that counts
    kernel_bytes: int
    children: tuple[Process, ...]  # largest first
    shared_bytes: int  # /dev/shm and maps that are shared without a file

    @property
    def rest_bytes(self) -> int:
        """The system's own: page tables, sockets, pages that are being written to a disk."""
        known = self.kernel_bytes + sum(child.private_bytes for child in self.children)
        return max(self.used_bytes - known - self.shared_bytes, 0)


class Gauge:
    """Holds the files of the cgroup open. Any thread."""

    def __init__(self, cap: Cap | None) -> None:
        self._cgroup = None if cap is None or cap.cgroup is None else Path(cap.cgroup)
        self._group = None if self._cgroup is None else GroupMemory(self._cgroup)
        self._children_bytes = 0
        self._children_again = 0.0  # monotonic

    def used_bytes(self) -> int:
        """What counts against the cap: page cache, which can be dropped, does not."""
        counted = self._counted()
        if counted is not None:
            return counted.used_bytes
        return kernel_bytes() + _shared_bytes() + self._of_children()

    def split(self) -> Split:
        """Who has it, now."""
        children = tuple(sorted(_processes(self.pids()), key=lambda one: -one.private_bytes))
        own, counted = kernel_bytes(), self._counted()
        if counted is not None:
            return Split(counted.used_bytes, own, children, counted.shared_bytes)
        shared_bytes = _shared_bytes()
        used = own + shared_bytes + sum(one.private_bytes for one in children)
        return Split(used, own, children, shared_bytes)

    def pids(self) -> list[int]:
        """All processes that count, but this one."""
        if self._group is not None and self._cgroup is not None:
            try:
                listed = (self._cgroup / "cgroup.procs").read_text().split()
                return [int(pid) for pid in listed if int(pid) != os.getpid()]
            except OSError:
                pass  # as far as they are descendants
        return process_tree.descendants(os.getpid())

    def _counted(self) -> Reading | None:
        """By the cgroup; once it is gone, or somebody has closed all files, never again."""
        counted = None if self._group is None else self._group.read()
        if counted is None:
            self._group = None
        return counted

    def _of_children(self) -> int:
        """Private memory of all descendants, as of not long ago."""
        began = time.monotonic()
        if began >= self._children_again:
            found = _processes(process_tree.descendants(os.getpid()))
            self._children_bytes = sum(one.private_bytes for one in found)
            now = time.monotonic()
            self._children_again = now + _RARELY * (now - began)
        return self._children_bytes


def _total(pattern: re.Pattern[bytes], text: bytes) -> int:
    return sum(map(int, pattern.findall(text)))


def kernel_bytes() -> int:
    """Anonymous memory of this process, of which forked children may share some."""
    return _total(_ANONYMOUS, _read("/proc/self/status")) * 1024


def _shared_bytes() -> int:
    """Shared memory that this process has mapped."""
    return _total(_SHARED, _read("/proc/self/status")) * 1024


def _processes(pids: list[int]) -> list[Process]:
    """Those that are still there."""
    found = []
    own = _read("/proc/self/cmdline")
    for pid in pids:
        command = _read(f"/proc/{pid}/cmdline")
        if command:  # not so of a zombie
            name = "a fork of this kernel" if command == own else _command(command)
            private_bytes = _total(_PRIVATE, _read(f"/proc/{pid}/smaps_rollup")) * 1024
            found.append(Process(pid, name, private_bytes))
    return found


def _command(arguments: bytes) -> str:
    """`python -c import this`, of proc_pid_cmdline(5)."""
    program, *rest = arguments.decode(errors="replace").rstrip("\0").split("\0")
    return " ".join(" ".join([program.rpartition("/")[2], *rest]).split())


def _read(path: str) -> bytes:
    """Empty where there is no such process (any more)."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
