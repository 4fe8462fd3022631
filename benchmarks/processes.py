"""Processor time and memory of a kernel with its children, read from outside through /proc.

proc(5) has the fields. Linux only; covers one kernel's tree, not the machine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
# Positions in /proc/PID/stat, counted from the field after the command's name (field 3).
_PPID, _MINFLT, _UTIME, _STIME, _CUTIME, _CSTIME, _STARTTIME = 1, 7, 11, 12, 13, 14, 19
SAMPLE_EVERY_S: Final = 0.02


def _stat(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2 :].split()


def started(pid: int) -> float:
    """When the process was started, in seconds since boot (CLOCK_BOOTTIME), to 10 ms."""
    return int(_stat(pid)[_STARTTIME]) / _TICKS_PER_S


def faults(pid: int) -> int:
    """Pages that the process had to be given or copied so far (minor faults)."""
    return int(_stat(pid)[_MINFLT])


def launched_by_us(pid: int) -> int:
    """The ancestor (or the process itself) whose parent is this process."""
    while (parent := int(_stat(pid)[_PPID])) != os.getpid():
        if parent <= 1:
            return pid  # restored by somebody else
        pid = parent
    return pid


def processor_s(pid: int, root: int) -> float:
    """Processor time of a kernel, of the children it has reaped, and of what started it."""
    fields = _stat(pid)
    ticks = sum(int(fields[at]) for at in (_UTIME, _STIME, _CUTIME, _CSTIME))
    while pid != root:
        pid = int(_stat(pid)[_PPID])
        fields = _stat(pid)
        ticks += int(fields[_UTIME]) + int(fields[_STIME])
    return ticks / _TICKS_PER_S


def descendants(root: int) -> set[int]:
    """The processes below `root`, itself not among them."""
    parents: dict[int, int] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        try:
            parents[pid] = int(_stat(pid)[_PPID])
        except (OSError, ValueError):  # gone meanwhile
            continue
    found: set[int] = set()
    border = {root}
    while border:
        border = {pid for pid, parent in parents.items() if parent in border} - found
        found |= border
    return found


def memory_bytes(pids: set[int]) -> int:
    """Proportional set size: pages that several of these share are counted once."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += next(
                    (int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), 0
                )
        except OSError:  # gone meanwhile
            continue
    return total


@dataclass
class Peak:
    """The most memory that was seen. A reading takes 1 to 30 ms: do not time meanwhile."""

    bytes: int = 0
    samples: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def watch(self, root: int) -> None:
        """Sample until told to stop; for a thread."""
        while not self._done.wait(SAMPLE_EVERY_S):
            before = descendants(root)
            found = memory_bytes({root} | before)
            # Pages shared by two would count once and a half if one of them came or went.
            if descendants(root) == before:
                self.bytes = max(self.bytes, found)
                self.samples += 1

    def stop(self) -> None:
        """No more samples."""
        self._done.set()


@contextmanager
def peak_memory(root: int) -> Iterator[Peak]:
    """Watch a tree of processes for the length of a `with` block."""
    peak = Peak()
    thread = threading.Thread(target=peak.watch, args=(root,), daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        peak.stop()
        thread.join()
