"""In the snapshot process: which memory is certainly the kernel's, as it was at the fork.

What was proved about addresses is about the kernel's memory. Pickling makes memory of its own, and
malloc may lay it where the kernel has something else, or nothing: at an address that the last
snapshot process used for its own, too. A page that this process has written is its alone; one
that it still shares was inherited, and not written since. Source: proc_pid_pagemap(5), bit 56.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from typing import Final

from .intervals import Interval

_PAGE: Final = mmap.PAGESIZE
_ENTRY_BYTES: Final = 8
_EXCLUSIVE: Final = 1  # of the entry's last byte: bit 56
_STRIDE_PAGES: Final = 4096  # 16 MB: what is given up together


def inherited(intervals: Iterable[Interval]) -> list[Interval]:
    """Those parts of page-aligned intervals of which this process has written no page."""
    try:
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        if not _tells(fd):
            return []
        found: list[Interval] = []
        for start, end in intervals:
            for at in range(start, end, _STRIDE_PAGES * _PAGE):
                stop = min(at + _STRIDE_PAGES * _PAGE, end)
                if not _any_own(fd, at, stop):
                    found.append((at, stop))
        return found
    except OSError:
        return []
    finally:
        os.close(fd)


def _any_own(fd: int, start: int, end: int) -> bool:
    wanted = (end - start) // _PAGE * _ENTRY_BYTES
    entries = os.pread(fd, wanted, start // _PAGE * _ENTRY_BYTES)
    if len(entries) != wanted:
        return True
    return any(byte & _EXCLUSIVE for byte in set(entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES]))


def _tells(fd: int) -> bool:
    """Whether a page that we have just written shows as ours."""
    with mmap.mmap(-1, _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[0] = 1
        view = memoryview(page)
        try:
            from .mapped_memory import address_of

            start = address_of(view)
            return _any_own(fd, start, start + _PAGE)
        finally:
            view.release()
