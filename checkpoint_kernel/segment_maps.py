"""Which parts of restored memory still show the segments that it is mapped from.

A page of a private map that was never written shows the file, and a segment never changes; one
of the memory in between, left where chunks are zeros, shows zeros. So this needs no protection:
two looks that find the same part of the same segment at the same place, and no page of our own
there, prove it. What was written once counts as written from then on. userfaultfd is not for
these maps: it switches off the kernel's fault-around, and the first read of 1 GB in 4 KB pages
took 0.40 s instead of 0.12 s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from . import intervals
from .intervals import Interval
from .mappings import Lookup, mappings

# One call takes up to 2 ms where 32 MB are all there in 4 KB pages; where hardly anything is
# there, as after a restore, 5 us.
_LEAST_STRIDE_BYTES: Final = 4 << 20
_MOST_STRIDE_BYTES: Final = 32 << 20
_QUICK_S: Final = 50e-6

OwnPages = Callable[[int, int], list[Interval]]


class TooLong(Exception):
    """The time is over: too much of the range is in 4 KB pages, or in too many maps."""


class _Part(NamedTuple):
    start: int
    end: int
    path: str | None  # of the segment; None: zeros
    base: int  # address of the file's first byte


class SegmentMaps:
    """A range of memory that is mapped from segments, in parts at least."""

    def __init__(self, start: int, end: int) -> None:
        self._start, self._end = start, end
        self._parts: list[_Part] = []
        self._shown: list[Interval] = []

    def look(self, lookup: Lookup, own_pages: OwnPages, deadline: float) -> list[Interval]:
        """Where the segments are shown now as they were at the last look.

        `deadline`: time.thread_time(). Raises OSError, TooLong.
        """
        parts = self._parts_now(lookup, deadline)
        shown: list[Interval] = []
        stride = _LEAST_STRIDE_BYTES
        now = time.thread_time()
        for part in parts:
            at = part.start
            while at < part.end:
                if now > deadline:
                    raise TooLong
                end = min(at + stride, part.end)
                shown += intervals.gaps(at, end, own_pages(at, end))
                at, before, now = end, now, time.thread_time()
                quick = now - before < _QUICK_S
                stride = min(2 * stride, _MOST_STRIDE_BYTES) if quick else _LEAST_STRIDE_BYTES
        shown = intervals.joined(shown)
        unwritten = intervals.in_both(self._shown, shown) if parts == self._parts else []
        self._parts, self._shown = parts, shown
        return unwritten

    @property
    def written_bytes(self) -> int:
        """What showed neither a segment nor zeros at the last look."""
        return self._end - self._start - sum(end - start for start, end in self._shown)

    def _parts_now(self, lookup: Lookup, deadline: float) -> list[_Part]:
        """What is mapped, neighbours made one: madvise splits and joins maps."""
        parts: list[_Part] = []
        for mapping in mappings(self._start, self._end, lookup):
            if time.thread_time() > deadline:
                raise TooLong
            start, end = max(mapping.start, self._start), min(mapping.end, self._end)
            if mapping.segment is not None:
                part = _Part(start, end, mapping.segment, mapping.start - mapping.offset)
            elif mapping.allocated:
                part = _Part(start, end, None, 0)
            else:
                continue
            if parts and parts[-1].end == start and parts[-1][2:] == part[2:]:
                part = part._replace(start=parts.pop().start)
            parts.append(part)
        return parts
