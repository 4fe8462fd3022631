"""How much memory is used under the limits that hold for a kernel, and how much is left.

Reads, several times a second, and so does little: two small files of each cgroup. Where the
kernel has no group of its own its processes are added up. Sources: proc_pid_status(5),
proc_pid_smaps(5).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from checkpoint_kernel import cgroup_memory

# Limits around ours are shared with others, whose use seldom jumps; ours is read every time.
OUTER_EVERY_S = 1.0
RARELY = 50
ALONE_S = 0.1  # a child may have come since
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Use:
    """Memory under one limit, page cache that can be dropped not counted."""

    used_bytes: int
    limit_bytes: int
    own: bool  # the limit of the kernel's own group, or of its processes; else one around it

    @property
    def room_bytes(self) -> int:
        """What is left below the limit; negative where it is exceeded."""
        return self.limit_bytes - self.used_bytes


@dataclass(frozen=True)
class Level:
    """One limit, and how its use is read: bytes, or None where that fails for the moment."""

    limit_bytes: int
    read: Callable[[], int | None]
    own: bool


class Meter:
    """Reads the tightest of several levels."""

    def __init__(self, levels: Iterable[Level]) -> None:
        self._levels = tuple(levels)
        self._outer: list[Use] = []
        self._outer_read_at = float("-inf")

    def read(self) -> Use | None:
        """The level with the least room; None where nothing can be read."""
        now = time.monotonic()
        if now - self._outer_read_at >= OUTER_EVERY_S:
            self._outer_read_at = now
            self._outer = _read(level for level in self._levels if not level.own)
        found = [*_read(level for level in self._levels if level.own), *self._outer]
        return min(found, key=lambda use: use.room_bytes, default=None)


def _read(levels: Iterable[Level]) -> list[Use]:
    found = []
    for level in levels:
        used_bytes = level.read()
        if used_bytes is not None:
            found.append(Use(used_bytes, level.limit_bytes, level.own))
    return found


def of_group(directory: Path) -> Callable[[], int | None]:
    """Reads what a memory cgroup of either version uses: usage less page cache."""

    def read() -> int | None:
        counted = cgroup_memory.read(directory)
        return None if counted is None else counted.used_bytes

    return read


def of_processes(pids: Callable[[], Iterable[int]]) -> Callable[[], int | None]:
    """Reads what processes use where no group counts for us; `pids` gives the kernel first.

    Each page is counted in shares (PSS), so that what a forked child has in common with its
    parent counts once. That takes milliseconds for gigabytes, so it is done no more often than
    for one part in `RARELY` of the time; in between the kernel alone is looked at, in microseconds.
    """
    all_bytes = kernel_bytes = 0
    again = float("-inf")

    def read() -> int | None:
        nonlocal all_bytes, kernel_bytes, again
        began = time.monotonic()
        if began >= again:
            kernel, *children = pids()
            kernel_bytes = _resident(kernel) or 0
            all_bytes = sum(map(_proportional, (kernel, *children))) if children else kernel_bytes
            again = began + RARELY * (time.monotonic() - began) if children else began + ALONE_S
            return all_bytes or None
        kernel, *_ = pids()
        now_bytes = _resident(kernel)
        return None if now_bytes is None else max(all_bytes + now_bytes - kernel_bytes, 0)

    return read


def _resident(pid: int) -> int | None:
    fields = ("RssAnon:", "RssShmem:", "VmSwap:")
    found = _kilobytes(Path(f"/proc/{pid}/status"), fields)
    return None if found is None else found * 1024


def _proportional(pid: int) -> int:
    fields = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")
    found = _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), fields)
    return 0 if found is None else found * 1024  # it has ended, or is not ours to read


def private_bytes(pid: int) -> int:
    """Memory that a process shares with no other; 0 where it has ended."""
    found = _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), ("Private_Dirty:",))
    return 0 if found is None else found * 1024


def _kilobytes(path: Path, names: tuple[str, ...]) -> int | None:
    try:
        lines = path.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    words = (line.split() for line in lines)
    return sum(int(pair[1]) for pair in words if pair and pair[0] in names)


@dataclass(frozen=True)
class Data:
    """A process's own memory, in bytes (proc_pid_statm(5))."""

    data_bytes: int  # what RLIMIT_DATA is compared with (VmData), and the stack
    anonymous_bytes: int  # of it what is there: pages that were written to

    @property
    def untouched_bytes(self) -> int:
        """Promised and not there: fresh allocations, stacks of threads, data of libraries."""
        return max(self.data_bytes - self.anonymous_bytes, 0)


def data_of(pid: int) -> Data | None:
    """One reading, in 10 microseconds; None where the process is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            numbers = [int(word) * _PAGE_BYTES for word in file.read().split()]
    except OSError:
        return None
    if not numbers[1]:
        return None  # a zombie
    return Data(numbers[5], max(numbers[1] - numbers[2], 0))
