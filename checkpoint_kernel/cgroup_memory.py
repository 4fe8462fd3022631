"""What a memory cgroup uses, of either version: page cache, which can be dropped, is told apart.

Reads only, and says None where a group cannot be read; limits and who is in it are others' to
read. Standard library only. Sources: cgroup-v1/memory.rst and cgroup-v2.rst of the kernel's
documentation.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LONGEST: Final = 16 << 10  # of memory.stat: 2 KB


@dataclass(frozen=True)
class _Version:
    usage_file: str
    cache: re.Pattern[bytes]
    shared: re.Pattern[bytes]


# What v1 says of a group without `total_` leaves the groups below it out, and usage does not.
_VERSIONS: Final = (
    _Version(
        "memory.current",
        re.compile(rb"^(?:in)?active_file (\d+)$", re.M),
        re.compile(rb"^shmem (\d+)$", re.M),
    ),
    _Version(
        "memory.usage_in_bytes",
        re.compile(rb"^total_(?:in)?active_file (\d+)$", re.M),
        re.compile(rb"^total_shmem (\d+)$", re.M),
    ),
)


@dataclass(frozen=True)
class Reading:
    """Memory of a group and of those below it."""

    usage_bytes: int  # page cache included
    used_bytes: int  # without: what a limit meets
    shared_bytes: int  # /dev/shm and maps that are shared without a file


class GroupMemory:
    """Holds the files of one group open: a reading takes some 20 microseconds. Any thread."""

    def __init__(self, directory: Path) -> None:
        self._fds: tuple[int, int] | None = None  # usage, statistics
        for version in _VERSIONS:
            try:
                self._fds = _opened(directory / version.usage_file, directory / "memory.stat")
            except OSError:
                continue
            self._version = version
            return

    def read(self) -> Reading | None:
        """Now; None where there is no such group (any more)."""
        if self._fds is None:
            return None
        try:
            usage, statistics = (os.pread(fd, _LONGEST, 0) for fd in self._fds)
            usage_bytes = int(usage)
        except (OSError, ValueError):  # ENODEV: removed; or somebody has closed all files
            return None
        cache_bytes = _total(self._version.cache, statistics)
        shared_bytes = _total(self._version.shared, statistics)
        return Reading(usage_bytes, max(usage_bytes - cache_bytes, 0), shared_bytes)

    def close(self) -> None:
        """No reading after this."""
        fds, self._fds = self._fds, None
        for fd in fds or ():
            os.close(fd)


def read(directory: Path) -> Reading | None:
    """One reading of a group; None where there is none."""
    group = GroupMemory(directory)
    try:
        return group.read()
    finally:
        group.close()


def _opened(usage: Path, statistics: Path) -> tuple[int, int]:
    first = os.open(usage, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return first, os.open(statistics, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        os.close(first)
        raise


def _total(pattern: re.Pattern[bytes], text: bytes) -> int:
    return sum(map(int, pattern.findall(text)))
