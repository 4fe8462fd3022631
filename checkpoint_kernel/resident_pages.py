"""How much of a range of addresses is in memory, and so counts against a limit.

An array of zeros takes none until it is written, and one that lies in a file takes what was
written to it since. Large ranges are sampled. Source: proc_pid_pagemap(5). Covers this process
only, and not with whom it shares a page.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final

from .mappings import Lookup, Mapping, Maps

# Below this a range is taken to be all there.
SMALL_BYTES: Final = 16 << 20
_PAGE: Final = mmap.PAGESIZE
_ENTRY: Final = struct.Struct("=Q")
_THERE: Final = 1 << 63 | 1 << 62  # present, or swapped out
_SHARED_OR_FILE: Final = 1 << 61
_SAMPLES: Final = 64
# Files that are memory: they count against the limit of whoever filled them.
_MEMORY_FILES: Final = ("/dev/shm/", "/memfd:", "/dev/zero", "/SYSV")


class ResidentPages:
    """Asks the operating system; where it does not answer, all of a range is taken to be there."""

    def __init__(self) -> None:
        self._fd = -1
        self._maps: Maps | None = None
        self._lookup: Lookup | None = None

    def of(self, start: int, end: int) -> int:
        """Bytes of [start, end) that are in memory."""
        if end - start < SMALL_BYTES:
            return end - start
        try:
            return self._sampled(start, end)
        except (OSError, struct.error):  # no /proc, or a sandbox whose pagemap is empty
            return end - start

    def close(self) -> None:
        """May be called more than once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._maps is not None:
            self._maps.close()
            self._maps = None

    def _sampled(self, start: int, end: int) -> int:
        if self._fd < 0:
            self._fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        step = (end - start) // _SAMPLES
        own = 0
        for address in range(start, start + _SAMPLES * step, step):
            (page,) = _ENTRY.unpack(os.pread(self._fd, _ENTRY.size, address // _PAGE * _ENTRY.size))
            own += bool(page & _THERE) and not page & _SHARED_OR_FILE
        if own < _SAMPLES and self._is_memory_file(start):
            return end - start  # what other processes have filled of it, too
        return (end - start) * own // _SAMPLES

    def _is_memory_file(self, address: int) -> bool:
        mapping = self._mapping(address)
        return mapping is not None and mapping.name.startswith(_MEMORY_FILES)

    def _mapping(self, address: int) -> Mapping | None:
        if self._maps is None or self._lookup is None:
            self._maps = Maps()
            self._lookup = self._maps.lookup()
        return self._lookup(address)
