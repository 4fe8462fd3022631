"""What memory there is for a snapshot process: a checkpoint must never cause the OOM kill.

Covers reading this process's numbers and its cap's; enforcing a cap is the provisioner's.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import cgroup_memory
from .session import Cap

_MARGIN_BYTES = 32 << 20
_setrlimit = resource.setrlimit  # memory_guard replaces it, to know the user's own limits
_ROOM_BYTES = 1 << 30


def rss_bytes() -> int:
    """Resident memory of this process (proc_pid_statm(5); 9 microseconds)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def data_bytes() -> int:
    """What RLIMIT_DATA is compared with, and the stack (statm's sixth number)."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def private_bytes() -> int:
    """Memory that this process shares with nobody: what a snapshot process costs."""
    total = 0
    with open("/proc/self/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Private_Dirty:"):
                total += int(line.split()[1]) * 1024
    return total


def headroom_bytes(cap: Cap | None) -> int | None:
    """Bytes below the cap and every limit around it, page cache not counted as used."""
    found = tightest(cap)
    return None if found is None else found[1] - found[0]


def tightest(cap: Cap | None) -> tuple[int, int] | None:
    """(used, limit) in bytes where the least is left; None where no cgroup counts for us."""
    if cap is None:
        return None
    levels = [(path, limit_bytes) for path, limit_bytes in cap.around]
    if cap.counted_in is not None and cap.enforced:
        levels.append((cap.counted_in, cap.cap_bytes))
    found = [
        (reading.used_bytes, limit_bytes)
        for path, limit_bytes in levels
        if (reading := cgroup_memory.read(Path(path))) is not None
    ]
    return min(found, key=lambda level: level[1] - level[0], default=None)


@dataclass(frozen=True)
class Shortage:
    """Why a snapshot process must not be started now."""

    said: str
    in_place: bool  # there is room for a checkpoint without one


def shortage(cap: Cap | None, last_private_bytes: int) -> Shortage | None:
    """None where there is room below the cap for a snapshot process, as large as the last one."""
    room = headroom_bytes(cap)
    need = _MARGIN_BYTES + int(1.2 * last_private_bytes)
    if cap is not None and cap.guarded:  # above the soft limit the guard would stop it at once
        need = max(need, cap.cap_bytes - cap.soft_bytes)
    if cap is None or room is None or room >= need:
        return None
    return Shortage(
        f"{max(room, 0) >> 20} MB are left below the memory limit of {cap.configured}, "
        f"and the process that writes them may need {need >> 20} MB",
        room >= _MARGIN_BYTES,
    )


@contextlib.contextmanager
def bounded(cap: Cap | None, noted: Callable[[int], None]) -> Iterator[None]:
    """MemoryError rather than the OOM killer, for what this process does near the cap.

    `noted` is told the limit first: the guard must not take it for one of the user's.
    """
    room = headroom_bytes(cap)
    before, _ = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = data_bytes() + max((room or 0) - _MARGIN_BYTES // 2, 0)
    if room is None or (before != resource.RLIM_INFINITY and before <= wanted):
        yield
        return
    noted(wanted)
    set_data_limit(wanted)
    try:
        yield
    finally:
        if resource.getrlimit(resource.RLIMIT_DATA)[0] == wanted:  # the guard has set no other
            set_data_limit(before)


def set_data_limit(limit_bytes: int) -> None:
    """The soft one of the two, past whatever watches `resource.setrlimit`."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    _setrlimit(resource.RLIMIT_DATA, (limit_bytes, hard))


def room_bytes(cap: Cap | None) -> int:
    """What a snapshot process may allocate for itself.

    Pickling needs some multiple of what is there; an object whose `__reduce__` eats memory
    without end should meet MemoryError, and not take the machine or the cap with it.
    """
    room = _ROOM_BYTES + 4 * rss_bytes()
    with open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                room = min(room, int(line.split()[1]) * 1024 // 2)
    below_cap = headroom_bytes(cap)
    if below_cap is not None:
        room = min(room, below_cap // 2)
    return max(room, _MARGIN_BYTES)
