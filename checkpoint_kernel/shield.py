"""Keeps memory that is still to be written to disk from code that runs in between.

For a snapshot process: arrays that are pickled already are read when the checkpoint is committed.
Their whole pages are made read-only (mprotect(2)), so that who writes there ends; what else is on
the pages at their ends stays writable, and the arrays' share of those is put back.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Iterable
from typing import Any, Final

_PAGE: Final = mmap.PAGESIZE


class Shield:
    """Over some memory: (address, length in bytes)."""

    def __init__(self, memory: Iterable[tuple[int, int]]) -> None:
        self._ends: list[tuple[int, bytes]] = []
        for address, length in memory:
            end = address + length
            first, last = -(-address // _PAGE) * _PAGE, end // _PAGE * _PAGE
            # Where it is refused, it is as without us.
            if first < last and _mprotect()(first, last - first, mmap.PROT_READ) == 0:
                self._keep(address, first)
                self._keep(last, end)
            else:
                self._keep(address, min(end, address + 2 * _PAGE))

    def _keep(self, start: int, end: int) -> None:
        if start < end:
            self._ends.append((start, ctypes.string_at(start, end - start)))

    def put_back(self) -> None:
        """What was written to where that could not be refused."""
        for address, content in self._ends:
            if ctypes.string_at(address, len(content)) != content:
                ctypes.memmove(address, content, len(content))


@functools.cache
def _mprotect() -> Any:
    function = ctypes.CDLL(None).mprotect
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
